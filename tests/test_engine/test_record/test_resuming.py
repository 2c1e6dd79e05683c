"""States of steps in training: those of several processes, and those that must not be used."""

import json
import shutil
import signal

import pytest
import torch

from mmseg_cil.engine import walk_runner as scheduler_module
from mmseg_cil.engine.record.resume_state import can_resume, step_identity
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.errors import InputError
from mmseg_cil.hooks import IterationSeedHook
from mmseg_cil.hooks.step_checkpoint_hook import BUFFERS_KEY, IDENTITY_KEY, RESUME_NAME
from mmseg_cil.testing import walks
from mmseg_cil.testing.processes import run_two
from mmseg_cil.testing.tiny import tiny_config, weights
from mmseg_cil.testing.walks import Killed, assert_same_weights, at

#: Walks ``DATA FOLDER NAME:KILL_AT:RESUME ...``: step 0, killed by SIGKILL before an iteration.
WALK = """
import os, signal, sys
from pathlib import Path
from mmseg_cil.engine import walk_runner
from mmseg_cil.engine.runner.distributed import process_group
from mmseg_cil.hooks import IterationSeedHook
from mmseg_cil.testing.tiny import tiny_config

before = IterationSeedHook.before_train_iter
def kill(self, runner, *args, **kwargs):
    if runner.iter == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
    before(self, runner, *args, **kwargs)
IterationSeedHook.before_train_iter = kill

def look(*args, **kwargs):
    raise AssertionError('only the main process looks at what is on the disk')
if os.environ['RANK'] == '1':
    walk_runner.Journal.load = walk_runner.can_resume = walk_runner.check_pretrained = look
    walk_runner.check_weights_fit = look

data, folder = map(Path, sys.argv[1:3])
with process_group('pytorch'):
    for name, kill_at, resume in (one.split(':') for one in sys.argv[3:]):
        kill_at = int(kill_at)
        cfg = tiny_config(data)
        cfg.custom_hooks = [dict(type='EMAHook', momentum=0.3, update_buffers=True)]
        walk_runner.WalkRunner(cfg, folder / name, 'pytorch', resume=bool(resume),
                                steps='0').run()
"""


def test_two_killed_processes_resume_with_their_own_statistics(data_root, tmp_path):
    arguments = ['-c', WALK, data_root, tmp_path]
    killed = run_two([*arguments, 'killed:5:'], tmp_path / 'log')
    assert -signal.SIGKILL in [status for status, _ in killed], killed[0][1]
    state = torch.load(tmp_path / 'killed/step_00' / RESUME_NAME, weights_only=False)
    assert state['meta']['iter'] == 4
    own = state['meta'][BUFFERS_KEY]
    # The batches of the two processes differ, and so do the statistics of their norms.
    assert own[0] == {}
    assert {key.split('.')[0] for key in own[1] if 'running_mean' in key} == {'model', 'average_0'}
    for status, output in run_two(
        [*arguments, 'killed:-1:resume', 'unbroken:-1:'], tmp_path / 'log'
    ):
        assert status == 0, output
    assert any('running_var' in key for key in weights(tmp_path / 'unbroken', 0))
    assert_same_weights(tmp_path / 'unbroken', tmp_path / 'killed', 0)


@pytest.fixture(scope='module')
def unbroken(data_root, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('unbroken')
    WalkRunner(tiny_config(data_root), work_dir, steps='0-1').run()
    return work_dir


@pytest.fixture(scope='module')
def killed_once(data_root, tmp_path_factory):
    """A walk killed at iteration 5 of step 0, whose state is that of iteration 4."""
    work_dir = tmp_path_factory.mktemp('killed')
    with walks.killed(at(step=0, iteration=5)):
        WalkRunner(tiny_config(data_root), work_dir).run()
    return work_dir


@pytest.fixture
def killed(killed_once, tmp_path):
    return shutil.copytree(killed_once, tmp_path / 'walk')


def identity_in(work_dir):
    fingerprints = json.loads((work_dir / 'journal.json').read_text())['fingerprints']
    return step_identity(0, 3, fingerprints)


def test_the_state_is_that_of_its_step(killed):
    state = torch.load(killed / 'step_00' / RESUME_NAME, weights_only=False)
    assert state['meta'][IDENTITY_KEY] == identity_in(killed)
    assert can_resume(killed / 'step_00', identity_in(killed))
    assert not can_resume(killed / 'step_01', identity_in(killed))


def cut(path):
    path.write_bytes(path.read_bytes()[:-200])


def flip(path):
    """Changes a bit of a weight, which PyTorch does not notice."""
    content = bytearray(path.read_bytes())
    weight = torch.load(path, weights_only=False)['state_dict']['backbone.layer1.0.conv1.weight']
    content[content.index(weight.numpy().tobytes())] ^= 1
    path.write_bytes(content)


def rewritten(change):
    def rewrite(path):
        content = torch.load(path, weights_only=False)
        change(content)
        torch.save(content, path)

    return rewrite


BROKEN = {
    'cut off': (cut, 'cannot be read'),
    'one bit': (flip, 'changed or damaged'),
    'empty': (lambda path: path.write_bytes(b''), 'cannot be read'),
    'a text': (lambda path: path.write_text('resume'), 'cannot be read'),
    'a list': (lambda path: torch.save([1, 2], path), 'no state'),
    'weights': (
        lambda path: torch.save({'state_dict': {}, 'meta': {'mmseg_cil': '1'}}, path),
        'no state',
    ),
    'no optimizer': (rewritten(lambda state: state.pop('optimizer')), 'lacks optimizer'),
    'no iteration': (rewritten(lambda state: state['meta'].pop('iter')), 'lacks the iteration'),
    'another step': (
        rewritten(lambda state: state['meta'][IDENTITY_KEY].update(step=2, classes=5)),
        'classes 5 instead of 3, step 2 instead of 0',
    ),
    'another method': (
        rewritten(lambda state: state['meta'][IDENTITY_KEY].update(method='a b')),
        'differs in: method',
    ),
}


@pytest.mark.parametrize('kind', BROKEN)
def test_a_state_that_does_not_fit_is_refused_by_name(killed, kind):
    spoil, message = BROKEN[kind]
    path = killed / 'step_00' / RESUME_NAME
    spoil(path)
    with pytest.raises(InputError, match=message) as caught:
        can_resume(path.parent, identity_in(killed))
    assert str(path) in str(caught.value) and 'Delete' in str(caught.value)


def test_without_the_damaged_state_the_step_begins_anew(killed, unbroken, data_root):
    path = killed / 'step_00' / RESUME_NAME
    cut(path)
    with pytest.raises(InputError, match='cannot go on from'):
        WalkRunner(tiny_config(data_root), killed, resume=True, steps='0').run()
    path.unlink()
    WalkRunner(tiny_config(data_root), killed, resume=True, steps='0').run()
    assert_same_weights(unbroken, killed, 0)


def test_a_resumed_walk_removes_what_the_kill_left_unfinished(killed, unbroken, data_root):
    leftovers = [killed / 'step_00/.resume.pth.x1.tmp', killed / '.journal.json.x2.tmp']
    for path in leftovers:
        path.write_bytes(b'half')
    WalkRunner(tiny_config(data_root), killed, resume=True, steps='0').run()
    assert not any(path.exists() for path in leftovers)
    assert_same_weights(unbroken, killed, 0)


def test_a_new_walk_does_not_use_anothers_state(killed, unbroken, data_root):
    (killed / 'journal.json').unlink()
    WalkRunner(tiny_config(data_root), killed, steps='0').run()
    assert_same_weights(unbroken, killed, 0)


def test_an_accepted_change_begins_the_step_anew(killed, data_root, tmp_path):
    changed = tiny_config(data_root, **{'optim_wrapper.optimizer.momentum': 0.5})
    WalkRunner(changed, killed, resume=True, accept_changes=True, steps='0').run()
    WalkRunner(changed, tmp_path / 'fresh', steps='0').run()
    assert_same_weights(tmp_path / 'fresh', killed, 0)


def test_metrics_are_whole_after_a_kill_just_before_they_are_written(
    unbroken, data_root, tmp_path, monkeypatch
):
    write = scheduler_module.write_metrics

    def kill(walk, journal):
        if journal.is_done(1):
            raise Killed
        write(walk, journal)

    monkeypatch.setattr(scheduler_module, 'write_metrics', kill)
    with pytest.raises(Killed):
        WalkRunner(tiny_config(data_root), tmp_path, steps='0-1').run()
    assert len(json.loads((tmp_path / 'metrics.json').read_text())['steps']) == 1
    monkeypatch.undo()
    WalkRunner(tiny_config(data_root), tmp_path, resume=True, steps='0-1').run()
    for name in ('metrics.json', 'metrics.csv'):
        assert (tmp_path / name).read_text() == (unbroken / name).read_text()


def test_a_file_lost_during_training_is_not_called_missing_weights(
    data_root, tmp_path, monkeypatch
):
    def lose(self, runner, *args, **kwargs):
        raise FileNotFoundError('train_003.png')

    monkeypatch.setattr(IterationSeedHook, 'before_train_iter', lose)
    with pytest.raises(FileNotFoundError, match='train_003'):
        WalkRunner(tiny_config(data_root), tmp_path, steps='0').run()
