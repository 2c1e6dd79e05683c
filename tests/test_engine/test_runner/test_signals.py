"""A signal ends a walk so that it can go on, with the weights of an unbroken one."""

import os
import signal
import time
from pathlib import Path

import pytest
import torch

from mmseg_cil.engine.runner import step_runner
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.hooks import IterationSeedHook
from mmseg_cil.testing.processes import start_two
from mmseg_cil.testing.tiny import tiny_config
from mmseg_cil.testing.walks import assert_same_weights
from mmseg_cil.utils.stopping import Stopped, ended_by_signals

TERM, USR1, INT = signal.SIGTERM, signal.SIGUSR1, signal.SIGINT


def send_at(patch, place, number):
    """From now on this process gets a signal in an iteration of 'step_01' or 'step_01/NAME'."""
    before = IterationSeedHook.before_train_iter

    def send(self, runner, *args, **kwargs):
        before(self, runner, *args, **kwargs)
        name, iteration = place
        if str(runner.work_dir).endswith(name) and runner.iter == iteration:
            os.kill(os.getpid(), number)

    patch.setattr(IterationSeedHook, 'before_train_iter', send)


@pytest.fixture(scope='module')
def unbroken(data_root, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('unbroken')
    WalkRunner(config(data_root), work_dir, steps='0-1').run()
    return work_dir


def config(data_root):
    cfg = tiny_config(data_root, rehearsal=False)
    # No state but those that a signal has saved.
    cfg.default_hooks.checkpoint.interval = 1000
    return cfg


def walk_on(data_root, unbroken, work_dir):
    resume = work_dir.exists()
    return WalkRunner(
        config(data_root),
        work_dir,
        resume=resume,
        start_from=None if resume else str(unbroken),
        steps='1',
    ).open()


@pytest.mark.parametrize(
    ('iteration', 'number', 'status'),
    [
        pytest.param(0, INT, 130, marks=pytest.mark.slow),
        (1, TERM, 143),
        pytest.param(3, USR1, 143, marks=pytest.mark.slow),
    ],
)
def test_training_saves_after_the_iteration_and_goes_on_as_if_unbroken(
    data_root, unbroken, tmp_path, monkeypatch, iteration, number, status
):
    work_dir, former = tmp_path / 'walk', signal.getsignal(number)
    with monkeypatch.context() as patch, pytest.raises(Stopped) as caught, ended_by_signals():
        send_at(patch, ('step_01', iteration), number)
        walk_on(data_root, unbroken, work_dir).run()
    assert signal.getsignal(number) is former
    assert caught.value.status == status
    assert f'step 1 is saved after iteration {iteration + 1} of 4' in str(caught.value)
    state = torch.load(work_dir / 'step_01/resume.pth', weights_only=False)
    assert state['meta']['iter'] == iteration + 1
    assert not (work_dir / 'step_01/checkpoint.pth').exists()
    trained = []
    with monkeypatch.context() as patch:
        before = IterationSeedHook.before_train_iter
        patch.setattr(
            IterationSeedHook,
            'before_train_iter',
            lambda self, runner, *rest, **more: (
                trained.append(runner.iter),
                before(self, runner, *rest, **more),
            ),
        )
        walk_on(data_root, unbroken, work_dir).run()
    assert trained == list(range(iteration + 1, 4))
    assert_same_weights(unbroken, work_dir, 1)


@pytest.mark.slow
def test_an_evaluation_ends_at_once_and_is_made_again(data_root, unbroken, tmp_path, monkeypatch):
    work_dir, own = tmp_path / 'walk', step_runner.evaluate

    def evaluate(runner, has_run):
        os.kill(os.getpid(), TERM)
        raise AssertionError('the signal was not followed at once')

    with monkeypatch.context() as patch, pytest.raises(Stopped) as caught, ended_by_signals():
        patch.setattr(step_runner, 'evaluate', evaluate)
        walk_on(data_root, unbroken, work_dir).run()
    assert caught.value.where == '' and step_runner.evaluate is own
    walk_on(data_root, unbroken, work_dir).run()
    assert_same_weights(unbroken, work_dir, 1)
    assert (work_dir / 'step_01/metrics.json').read_bytes() == (
        unbroken / 'step_01/metrics.json'
    ).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ('place', 'saved'),
    [
        (('step_01/prelude', 1), 'step 1, sub-step prelude, is saved after iteration 2 of 3'),
        (('step_01/coda', 2), 'step 1, sub-step coda, is saved after iteration 3 of 3'),
    ],
)
def test_a_sub_step_does_likewise(data_root, unbroken, tmp_path, monkeypatch, place, saved):
    from mmseg_cil.testing import toy_sub_step  # noqa: F401  (registers it)

    def walk(work_dir, **options):
        cfg = config(data_root)
        cfg.method.sub_steps = [
            dict(type='ToySubStep', name='prelude', when='before'),
            dict(type='ToySubStep', name='coda', when='after'),
        ]
        WalkRunner(cfg, work_dir, start_from=str(unbroken), steps='1', **options).run()

    walk(tmp_path / 'whole')
    with monkeypatch.context() as patch, pytest.raises(Stopped, match=saved), ended_by_signals():
        send_at(patch, place, TERM)
        walk(tmp_path / 'broken')
    walk(tmp_path / 'broken', resume=True)
    assert_same_weights(tmp_path / 'whole', tmp_path / 'broken', 1)
    files = [
        {path.name: torch.load(path) for path in sorted((tmp_path / name).rglob('toy.pth'))}
        for name in ('whole', 'broken')
    ]
    assert files[0] == files[1]


#: Iterations that no machine has done before the signal.
LONG = 150
#: Walks ``DATA FOLDER``: step 0 in two processes, as tools/train.py would.
WALK = """
import sys
from mmseg_cil.engine.runner.distributed import process_group
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.utils.cli import run_tool
from mmseg_cil.testing.tiny import tiny_config

def main():
    cfg = tiny_config(sys.argv[1], rehearsal=False, log_level='INFO')
    cfg.train_dataloader.num_workers = 1
    cfg.step_overrides[0].max_iters = int(sys.argv[3])
    cfg.default_hooks.checkpoint.interval = 10000
    with process_group('pytorch'):
        WalkRunner(cfg, sys.argv[2], 'pytorch', resume=True, steps='0').run()

run_tool(main, goes_on='go on with --resume')
"""


@pytest.mark.slow
@pytest.mark.parametrize('ranks', [(1,), (0, 1)])
def test_a_signal_to_any_of_two_processes_ends_both_alike(data_root, tmp_path, ranks):
    def run(name, signalled):
        log = tmp_path / f'log_{name}'
        processes = start_two(['-c', WALK, data_root, tmp_path / name, str(LONG)], log)
        try:
            deadline = time.monotonic() + 200
            while signalled and 'Iter(train)' not in Path(f'{log}.0').read_text():
                assert time.monotonic() < deadline and processes[0].poll() is None
                time.sleep(0.05)
            for rank in signalled:
                processes[rank].send_signal(TERM)
            return [process.wait(200) for process in processes], Path(f'{log}.0').read_text()
        finally:
            for process in processes:
                process.kill()
                process.wait()

    statuses, output = run('broken', ranks)
    assert statuses == [143, 143], output[-3000:]
    assert 'ended by SIGTERM, step 0 is saved after iteration' in output.splitlines()[-1]
    assert 'Traceback' not in output
    done = torch.load(tmp_path / 'broken/step_00/resume.pth', weights_only=False)['meta']['iter']
    assert 0 < done < LONG
    for name in ('broken', 'whole'):
        assert run(name, ())[0] == [0, 0], name
    assert_same_weights(tmp_path / 'whole', tmp_path / 'broken', 0)
