"""Jobs begin after those that they wait for, and fail alone."""

import pytest

from mmseg_cil.grid.executors import Executor, Job, Running
from mmseg_cil.grid.schedule import run_jobs


class Pretended(Running):
    def __init__(self, status, turns):
        self.status, self.turns, self.stopped = status, turns, False

    def poll(self):
        self.turns -= 1
        return self.status if self.turns <= 0 or self.stopped else None

    def stop(self):
        self.stopped = True


class Pretender(Executor):
    interval = 0.0

    def __init__(self, workers, failing=(), turns=3):
        self.workers, self.failing, self.turns, self.begun = workers, failing, turns, []

    def has_room(self):
        return sum(process.turns > 0 for process in self.begun) < self.workers

    def start(self, job):
        if job.name in self.failing:
            job.log.write_text('at work\nTraceback\nValueError: it broke\n\n')
        self.begun.append(Pretended(int(job.name in self.failing), self.turns))
        return self.begun[-1]


def jobs(folder, **after):
    return [Job(name, (), folder / name, parent) for name, parent in after.items()]


@pytest.mark.parametrize('workers', [1, 3])
def test_a_failure_stops_those_that_wait_for_it_and_no_other(tmp_path, workers):
    listed = jobs(tmp_path, a='base', b='base', base='', c='other', other='', d='')
    executor, order = Pretender(workers, failing={'base'}), []
    outcomes = run_jobs(listed, executor, lambda job, _: None, lambda job: order.append(job.name))
    assert order[:2] == ['base', 'other'] and set(order) == {'base', 'other', 'c', 'd'}
    assert {name for name, outcome in outcomes.items() if outcome.status} == {'base', 'a', 'b'}
    assert outcomes['base'].error == 'ValueError: it broke'
    assert outcomes['a'].error == 'base: ValueError: it broke'


def test_running_jobs_are_asked_to_end_and_waited_for(tmp_path):
    executor = Pretender(2, turns=10**9)

    def interrupt(job):
        if job.name == 'b':
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_jobs(jobs(tmp_path, a='', b='', c=''), executor, lambda *_: None, interrupt)
    assert [process.stopped for process in executor.begun] == [True]
