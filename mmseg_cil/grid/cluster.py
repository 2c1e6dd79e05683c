"""Walks as jobs of Slurm, or of submitit's stand-ins for it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mmseg_cil
from mmseg_cil.errors import InputError
from mmseg_cil.grid.executors import Executor, Job, Running, begin, thread_variables

#: Clusters that submitit knows: the last two run on this machine, in processes or in this one.
CLUSTERS = ('slurm', 'local', 'debug')
#: Minutes that a job has where the options set no time.
_MINUTES = 24 * 60


class WalkJob:
    """The work of a job: to run a cell's process and pass on the exit status.

    Args:
        job: The walk.
        threads: Threads of the process.
    """

    def __init__(self, job: Job, threads: int) -> None:
        self.job = job
        self.threads = threads

    def __call__(self) -> int:
        """Run the process to its end, and return its exit status."""
        arguments = ['--threads', str(self.threads), '--parent', str(os.getpid())]
        return begin(self.job, arguments, thread_variables(self.threads)).wait()

    def checkpoint(self, *args: Any) -> Any:
        """Let submitit submit the job again when its time is up: the walk goes on where it was."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class ClusterExecutor(Executor):
    """An executor of jobs through submitit, an optional dependency.

    Args:
        folder: Folder that submitit keeps its files in.
        cluster: One of :data:`CLUSTERS`.
        workers: The most jobs at a time; None: all at once.
        threads: Threads of each job, and its cores.
        options: Arguments of submitit's ``update_parameters``, such as ``timeout_min``,
            ``slurm_partition`` or ``gpus_per_node``.

    Raises:
        InputError: submitit is not installed, Slurm is not there, or an option is unknown.
    """

    def __init__(
        self,
        folder: Path,
        cluster: str,
        workers: int | None,
        threads: int,
        options: Mapping[str, Any],
    ) -> None:
        try:
            import submitit
        except ImportError as error:
            raise InputError(
                f'--cluster {cluster} needs submitit, which is not installed: pip install submitit'
            ) from error
        self.interval = 5.0 if cluster == 'slurm' else 0.2
        self.threads = threads
        self._workers = workers
        self._jobs: list[_Submitted] = []
        # The processes of jobs find the package where this process has found it.
        root = str(Path(mmseg_cil.__file__).resolve().parents[1])
        os.environ['PYTHONPATH'] = os.pathsep.join(
            dict.fromkeys([root, *filter(None, os.environ.get('PYTHONPATH', '').split(os.pathsep))])
        )
        given = {'timeout_min': _MINUTES, 'cpus_per_task': threads, **options}
        try:
            self._executor: Any = submitit.AutoExecutor(folder=folder, cluster=cluster)
            self._executor.update_parameters(**given)
        except Exception as error:
            raise InputError(
                f'--cluster {cluster} cannot be used: {type(error).__name__}: {error}'
            ) from error

    def has_room(self) -> bool:
        """See :class:`Executor`."""
        if self._workers is None:
            return True
        return sum(job.poll() is None for job in self._jobs) < self._workers

    def start(self, job: Job) -> Running:
        """See :class:`Executor`."""
        self._executor.update_parameters(name=job.name.replace('/', '_')[:100])
        submitted = _Submitted(self._executor.submit(WalkJob(job, self.threads)), job.log)
        self._jobs.append(submitted)
        return submitted


class _Submitted(Running):
    def __init__(self, job: Any, log: Path) -> None:
        self._job = job
        self._log = log
        self._status: int | None = None

    def poll(self) -> int | None:
        if self._status is None and self._job.done():
            try:
                self._status = int(self._job.result())
            except Exception as error:
                # The job has died together with the process that was to report it.
                self._status = 1
                with open(self._log, 'a', encoding='utf-8') as log:
                    log.write(f'\nerror: the job {self._job.job_id} has died: {_first(error)}\n')
        return self._status

    def stop(self) -> None:
        if self._status is None:
            self._job.cancel()


def _first(error: BaseException) -> str:
    """Return the type of an error, and the first line of its message that is not empty."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f'{type(error).__name__}: {lines[0] if lines else ""}'
