"""Running the jobs of a grid: first those that others wait for; no failure stops the others."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mmseg_cil.grid.executors import Executor, Job, Running
from mmseg_cil.grid.outcome import last_line


@dataclass(frozen=True)
class Outcome:
    """The outcome of a job.

    Attributes:
        status: 0 for done, else an exit status of :func:`~mmseg_cil.utils.cli.run_tool`.
        error: Last line of the job's log; empty where the job is done.
    """

    status: int
    error: str = ''


def run_jobs(
    jobs: Sequence[Job],
    executor: Executor,
    ended: Callable[[Job, Outcome], None],
    begun: Callable[[Job], None] = lambda job: None,
) -> dict[str, Outcome]:
    """Run all jobs; a job whose predecessor has failed fails too, without being begun.

    Args:
        jobs: The jobs, each after the job that it waits for. Among the jobs that can begin, those
            that most others wait for begin first.
        executor: Executor of the jobs.
        ended: Called when a job has ended.
        begun: Called when a job begins.

    Returns:
        The outcomes by the names of the jobs.

    Raises:
        KeyboardInterrupt: This process was told to end; the running jobs were told so, too, and
            have ended.
    """
    waited = Counter(job.after for job in jobs)
    waiting = sorted(jobs, key=lambda job: -waited[job.name])
    running: list[tuple[Job, Running]] = []
    outcomes: dict[str, Outcome] = {}

    def end(job: Job, outcome: Outcome) -> None:
        outcomes[job.name] = outcome
        ended(job, outcome)

    known = {job.name for job in jobs}
    try:
        while waiting or running:
            for job, process in list(running):
                status = process.poll()
                if status is not None:
                    running.remove((job, process))
                    end(job, Outcome(status, last_line(job.log) if status else ''))
            for job in list(waiting):
                before = outcomes.get(job.after)
                if before is not None and before.status:
                    waiting.remove(job)
                    end(job, Outcome(1, f'{job.after}: {before.error}'))
                elif (before is not None or job.after not in known) and executor.has_room():
                    waiting.remove(job)
                    begun(job)
                    running.append((job, executor.start(job)))
            if running:
                time.sleep(executor.interval)
    except KeyboardInterrupt:
        _stop(running, executor.interval)
        raise
    return outcomes


def _stop(running: Sequence[tuple[Job, Running]], interval: float) -> None:
    """Ask all jobs to save their states and end, and wait for that, or for a second signal."""
    for _, process in running:
        process.stop()
    while any(process.poll() is None for _, process in running):
        time.sleep(interval)
