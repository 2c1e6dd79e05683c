"""Cells of a grid in forks of a process that has imported everything, which begin at once."""

import signal

from mmseg_cil.grid import cell
from mmseg_cil.grid.executors import Executor, Running
from mmseg_cil.testing.processes import Program
from mmseg_cil.utils.cli import run_tool


def walk_cell(arguments):
    run_tool(lambda: cell.main(list(arguments)), goes_on='the grid goes on')


class Fork(Running):
    def __init__(self, job, watch=lambda: None):
        self.watch = watch
        job.log.parent.mkdir(parents=True, exist_ok=True)
        self.program = Program(walk_cell, [job.arguments], job.log)

    def poll(self):
        self.watch()
        return self.program.poll()

    def stop(self):
        self.program.send_signal(signal.SIGTERM)


class Forks(Executor):
    interval = 0.05

    def __init__(self, workers=1, watch=lambda: None):
        self.workers, self.watch, self.started = workers, watch, []

    def has_room(self):
        return sum(process.poll() is None for _, process in self.started) < self.workers

    def start(self, job):
        fork = Fork(job, self.watch)
        self.started.append((job.name, fork))
        return fork
