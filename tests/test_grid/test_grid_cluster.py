"""Jobs through submitit, with a stand-in for it where it is not installed."""

import sys
import types

import pytest

from mmseg_cil.errors import InputError
from mmseg_cil.grid import cluster
from mmseg_cil.grid.cluster import ClusterExecutor
from mmseg_cil.grid.executors import Job
from mmseg_cil.grid.schedule import run_jobs


class Submitted:
    def __init__(self, call, job_id):
        self.call, self.job_id, self.cancelled, self.looks = call, job_id, False, 0

    def done(self):
        self.looks += 1
        return self.cancelled or self.looks > 2

    def result(self):
        if self.cancelled:
            raise RuntimeError('\nthe job was cancelled\nat length')
        return self.call()

    def cancel(self):
        self.cancelled = True


class AutoExecutor:
    """The part of submitit's class that we use."""

    known = ('name', 'timeout_min', 'cpus_per_task', 'slurm_partition')

    def __init__(self, folder, cluster):
        self.folder, self.cluster, self.parameters, self.submitted = folder, cluster, {}, []

    def update_parameters(self, **parameters):
        unknown = set(parameters) - set(self.known)
        if unknown:
            raise NameError(f'unknown {unknown}')
        self.parameters |= parameters

    def submit(self, call):
        self.submitted.append(Submitted(call, len(self.submitted)))
        return self.submitted[-1]


@pytest.fixture
def submitit(monkeypatch):
    module = types.ModuleType('submitit')
    module.AutoExecutor = AutoExecutor
    monkeypatch.setitem(sys.modules, 'submitit', module)
    monkeypatch.setenv('PYTHONPATH', '')
    begun = []

    def begin(job, arguments, variables):
        """A process that fails where its job is called so."""
        begun.append((job.name, variables['OMP_NUM_THREADS'], arguments))
        job.log.write_text('ValueError: it broke\n')
        return types.SimpleNamespace(wait=lambda: int(job.name == 'bad'))

    monkeypatch.setattr(cluster, 'begin', begin)
    return begun


def executor(folder, **options):
    made = ClusterExecutor(folder, 'slurm', 2, 3, options)
    made.interval = 0.0
    return made


def test_jobs_are_submitted_and_their_statuses_are_the_walks(submitit, tmp_path):
    made = executor(tmp_path, timeout_min=7, slurm_partition='gpu')
    jobs = [Job(name, (), tmp_path / name, after) for name, after in
            (('a', ''), ('b', 'a'), ('bad', ''), ('c', 'bad'))]  # fmt: skip
    outcomes = run_jobs(jobs, made, lambda *_: None)
    assert {name: outcome.status for name, outcome in outcomes.items()} == {
        'a': 0, 'b': 0, 'bad': 1, 'c': 1
    }  # fmt: skip
    assert outcomes['bad'].error == 'ValueError: it broke'
    assert {name for name, threads, _ in submitit} == {'a', 'b', 'bad'}
    assert all(threads == '3' for _, threads, _ in submitit)
    parameters = made._executor.parameters
    assert (parameters['timeout_min'], parameters['cpus_per_task']) == (7, 3)
    assert parameters['slurm_partition'] == 'gpu'


def test_no_more_jobs_than_workers_at_a_time(submitit, tmp_path):
    made = executor(tmp_path)
    for name in 'ab':
        assert made.has_room()
        made.start(Job(name, (), tmp_path / name))
    assert not made.has_room()
    while made._jobs[0].poll() is None:
        pass
    assert made.has_room()


def test_a_job_that_has_died_tells_so_in_its_log(submitit, tmp_path):
    running = executor(tmp_path).start(Job('a', (), tmp_path / 'a'))
    running.stop()
    assert running.poll() == 1
    assert 'error: the job 0 has died: RuntimeError: the job was' in (tmp_path / 'a').read_text()


def test_what_cannot_be_used_is_told(submitit, tmp_path, monkeypatch):
    with pytest.raises(InputError, match='cannot be used: NameError'):
        executor(tmp_path, slurm_partitoin='gpu')
    monkeypatch.setitem(sys.modules, 'submitit', None)
    with pytest.raises(InputError, match='pip install submitit'):
        executor(tmp_path)
