"""The executors of a grid's jobs: in processes of this machine, or on a cluster."""

from __future__ import annotations

import abc
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import mmseg_cil


@dataclass(frozen=True)
class Job:
    """A walk to be run in a process of its own.

    Attributes:
        name: Name for people.
        arguments: Arguments of ``python -m mmseg_cil.grid.cell``.
        log: File that all output of the job is appended to.
        after: Name of the job that must have succeeded before; empty: none.
    """

    name: str
    arguments: tuple[str, ...]
    log: Path
    after: str = ''


class Running(abc.ABC):
    """A job that was begun."""

    @abc.abstractmethod
    def poll(self) -> int | None:
        """Return the exit status of the job; None while it runs."""

    @abc.abstractmethod
    def stop(self) -> None:
        """Ask the job to save its state and end."""


class Executor(abc.ABC):
    """An executor, which begins as many jobs at a time as it has room for."""

    #: Seconds between two looks at the running jobs.
    interval: float = 0.2

    @abc.abstractmethod
    def has_room(self) -> bool:
        """Return whether another job may begin."""

    @abc.abstractmethod
    def start(self, job: Job) -> Running:
        """Begin a job."""


class LocalExecutor(Executor):
    """An executor of jobs in processes of this machine.

    Args:
        workers: The most processes at a time.
        threads: Threads of each process.
        gpus: Numbers of the GPUs that the workers have in turn; None leaves the environment as
            it is.
    """

    def __init__(self, workers: int, threads: int, gpus: Sequence[str] | None = None) -> None:
        self.threads = threads
        self._places: list[_Process | None] = [None] * workers
        self._gpus = gpus

    def has_room(self) -> bool:
        """See :class:`Executor`."""
        return any(place is None or place.poll() is not None for place in self._places)

    def start(self, job: Job) -> Running:
        """See :class:`Executor`."""
        place = next(
            i
            for i, running in enumerate(self._places)
            if running is None or running.poll() is not None
        )
        variables = thread_variables(self.threads)
        if self._gpus is not None:
            variables['CUDA_VISIBLE_DEVICES'] = self._gpus[place % len(self._gpus)]
        arguments = ['--threads', str(self.threads), '--parent', str(os.getpid())]
        process = _Process(job, arguments, variables)
        self._places[place] = process
        return process


class _Process(Running):
    def __init__(self, job: Job, arguments: Sequence[str], variables: Mapping[str, str]) -> None:
        self._process = begin(job, arguments, variables)

    def poll(self) -> int | None:
        return self._process.poll()

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)


def thread_variables(threads: int) -> dict[str, str]:
    """Return the environment variables that keep a process to some threads."""
    return {f'{name}_NUM_THREADS': str(threads) for name in ('OMP', 'MKL', 'OPENBLAS')}


def begin(
    job: Job, arguments: Sequence[str], variables: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start the process of a job, out of reach of the terminal's Ctrl-C.

    Args:
        job: The job.
        arguments: Further arguments of the process.
        variables: Variables of the process's environment, in addition to those of this process.
    """
    root = str(Path(mmseg_cil.__file__).resolve().parents[1])
    path = [root, *filter(None, os.environ.get('PYTHONPATH', '').split(os.pathsep))]
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with open(job.log, 'ab') as log:
        return subprocess.Popen(
            [sys.executable, '-m', 'mmseg_cil.grid.cell', *job.arguments, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **variables, 'PYTHONPATH': os.pathsep.join(path)},
            start_new_session=True,
        )
