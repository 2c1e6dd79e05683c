"""Sub-steps: trained once beside a step, killed and resumed, and what they hand on."""

import json
import shutil
import signal

import pytest
import torch
from mmengine.dist import get_rank

from mmseg_cil.engine.record.fingerprint import file_hash
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.errors import InputError
from mmseg_cil.hooks import IterationSeedHook
from mmseg_cil.testing.processes import run_two
from mmseg_cil.testing.tiny import tiny_config, weights
from mmseg_cil.testing.toy_sub_step import ARTEFACT
from mmseg_cil.testing.walks import Killed, assert_same_weights


def config(data_root, **changes):
    cfg = tiny_config(data_root, 'finetune')
    cfg.method.sub_steps = [
        dict(type='ToySubStep', name='prelude', when='before', length=3),
        dict(type='ToySubStep', name='coda', when='after', length=3),
    ]
    cfg.merge_from_dict(changes)
    return cfg


def record(work_dir, step):
    journal = json.loads((work_dir / 'journal.json').read_text())
    return next(entry for entry in journal['steps'] if entry['step'] == step)


def trained(monkeypatch, work_dir, kill_in=None, at=0):
    """Notes the Runners that train, as 'step_01/prelude'; one of them is killed."""
    begun = []
    before = IterationSeedHook.before_train_iter

    def note(self, runner, *args, **kwargs):
        name = str(runner.work_dir).removeprefix(f'{work_dir}/')
        if name not in begun:
            begun.append(name)
        if name == kill_in and runner.iter == at:
            raise Killed
        before(self, runner, *args, **kwargs)

    monkeypatch.setattr(IterationSeedHook, 'before_train_iter', note)
    return begun


@pytest.fixture(scope='module')
def unbroken(data_root, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('sub_steps')
    WalkRunner(config(data_root), work_dir, steps='0-1').run()
    return work_dir


def from_step_0(data_root, unbroken, work_dir):
    return WalkRunner(config(data_root), work_dir, start_from=str(unbroken), steps='1').open()


def assert_same(first, second):
    assert_same_weights(first, second, 0, 1)
    for step in (0, 1):
        assert {name: part['files'] for name, part in record(first, step)['sub_steps'].items()} == {
            name: part['files'] for name, part in record(second, step)['sub_steps'].items()
        }


def test_they_are_recorded_where_they_apply(unbroken):
    assert list(record(unbroken, 0)['sub_steps']) == ['coda']
    assert list(record(unbroken, 1)['sub_steps']) == ['prelude', 'coda']
    for step in (0, 1):
        assert record(unbroken, step)['status'] == 'done'
        for name, sub_step in record(unbroken, step)['sub_steps'].items():
            folder = unbroken / f'step_{step:02d}' / name
            assert sub_step['files'] == {ARTEFACT: file_hash(folder / ARTEFACT)}
            assert sub_step['iterations'] == 3 and sub_step['seconds'] > 0
            assert not (folder / 'resume.pth').exists()
    metrics = json.loads((unbroken / 'metrics.json').read_text())
    assert [entry['step'] for entry in metrics['steps']] == [0, 1]


def test_one_before_a_step_hands_on_and_one_after_starts_from_the_step(unbroken):
    step = weights(unbroken, 1)
    coda = torch.load(unbroken / 'step_01/coda' / ARTEFACT)
    assert coda['began'] == pytest.approx(float(step['decode_head.conv_seg.weight'].sum()))
    assert coda['ended'] != coda['began']
    given = [path.read_text() for path in (unbroken / 'step_01').glob('*/config.py')]
    # The Runner that trained has it; that which evaluated, after the coda, needs nothing.
    expected = f"handed_on='{unbroken}/step_01/prelude/{ARTEFACT}'"
    assert sum(expected in text for text in given) == 1


@pytest.mark.parametrize(
    ('where', 'resumed'),
    [
        ('step_01/prelude', ['step_01/prelude', 'step_01', 'step_01/coda']),
        pytest.param('step_01', ['step_01', 'step_01/coda'], marks=pytest.mark.slow),
        ('step_01/coda', ['step_01/coda']),
    ],
)
def test_a_kill_loses_nothing_that_was_finished(
    where, resumed, data_root, unbroken, tmp_path, monkeypatch
):
    trained(monkeypatch, tmp_path, where, at=2)
    with pytest.raises(Killed):
        from_step_0(data_root, unbroken, tmp_path).run()
    state = torch.load(tmp_path / where / 'resume.pth', weights_only=False)
    assert state['meta']['iter'] == 2
    monkeypatch.undo()
    begun = trained(monkeypatch, tmp_path)
    WalkRunner(config(data_root), tmp_path, resume=True, steps='1').run()
    assert begun == resumed
    assert_same(unbroken, tmp_path)


def test_a_state_of_another_sub_step_is_refused(data_root, unbroken, tmp_path, monkeypatch):
    trained(monkeypatch, tmp_path, 'step_01/prelude', at=2)
    with pytest.raises(Killed):
        from_step_0(data_root, unbroken, tmp_path).run()
    monkeypatch.undo()
    shutil.copy(tmp_path / 'step_01/prelude/resume.pth', tmp_path / 'step_01/resume.pth')
    state = tmp_path / 'step_01/prelude/resume.pth'
    content = torch.load(state, weights_only=False)
    content['meta']['walk_step']['sub_step'] = 'coda'
    torch.save(content, state)
    with pytest.raises(InputError, match=r'prelude/resume.pth.*differs in: sub_step'):
        WalkRunner(config(data_root), tmp_path, resume=True, steps='1').run()
    state.unlink()
    with pytest.raises(InputError, match=r'step_01/resume.pth.*differs in: .*sub_step'):
        WalkRunner(config(data_root), tmp_path, resume=True, steps='1').run()


@pytest.mark.parametrize('spoil', ['missing', 'changed'])
def test_a_file_that_is_not_as_recorded_is_refused_with_the_way_out(
    spoil, data_root, unbroken, tmp_path, monkeypatch
):
    work_dir = shutil.copytree(unbroken, tmp_path / 'walk')
    path = work_dir / 'step_01/coda' / ARTEFACT
    if spoil == 'missing':
        path.unlink()
    else:
        path.write_bytes(b'other')
    problem = 'does not exist' if spoil == 'missing' else 'SHA-256'
    with pytest.raises(InputError, match=f'{problem}.*delete {path.parent} and go on'):
        WalkRunner(config(data_root), work_dir, resume=True, steps='0-1').run()
    shutil.rmtree(path.parent)
    begun = trained(monkeypatch, work_dir)
    WalkRunner(config(data_root), work_dir, resume=True, steps='0-1').run()
    assert begun == ['step_01/coda']
    assert_same(unbroken, work_dir)


def test_a_step_that_was_taken_over_gets_what_comes_after_it(
    data_root, unbroken, tmp_path, monkeypatch
):
    WalkRunner(tiny_config(data_root, 'finetune'), tmp_path / 'plain', steps='0').run()
    begun = trained(monkeypatch, tmp_path / 'walk')
    WalkRunner(
        config(data_root), tmp_path / 'walk', start_from=str(tmp_path / 'plain'), steps='1'
    ).run()
    assert begun == ['step_00/coda', 'step_01/prelude', 'step_01', 'step_01/coda']
    assert_same(unbroken, tmp_path / 'walk')


def test_accepted_changes_train_an_unused_sub_step_anew(data_root, unbroken, tmp_path, monkeypatch):
    trained(monkeypatch, tmp_path, 'step_01', at=0)
    with pytest.raises(Killed):
        from_step_0(data_root, unbroken, tmp_path).run()
    assert record(tmp_path, 1)['status'] == 'begun'
    longer = config(data_root)
    longer.method.sub_steps[0].length = 4
    monkeypatch.undo()
    begun = trained(monkeypatch, tmp_path)
    with pytest.raises(InputError, match='method'):
        WalkRunner(longer, tmp_path, resume=True, steps='1').run()
    WalkRunner(longer, tmp_path, resume=True, accept_changes=True, steps='1').run()
    assert 'step_01/prelude' in begun
    assert record(tmp_path, 1)['sub_steps']['prelude']['iterations'] == 4


def test_what_cannot_be_built_is_refused_before_training(data_root, tmp_path):
    for change, message in (
        (dict(type='NoSubStep'), 'no sub step .*NoSubStep'),
        (dict(type='ToySubStep', name='a/b'), 'cannot be that of its folder'),
        (dict(type='ToySubStep', name='x', when='never'), 'not one of'),
    ):
        cfg = config(data_root)
        cfg.method.sub_steps = [change]
        with pytest.raises(InputError, match=message):
            WalkRunner(cfg, tmp_path / 'walk').prepare()
    cfg.method.sub_steps = [dict(type='ToySubStep', name='x')] * 2
    with pytest.raises(InputError, match='one name'):
        WalkRunner(cfg, tmp_path / 'walk').prepare()
    assert not (tmp_path / 'walk/step_00').exists() and get_rank() == 0


#: Walks step 0 and 1 of ``DATA FOLDER``; the second time the kill is not there.
WALK = """
import os, signal, sys
from pathlib import Path
from mmseg_cil.engine.runner.distributed import process_group
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.hooks import IterationSeedHook
from mmseg_cil.testing import toy_sub_step
from mmseg_cil.testing.tiny import tiny_config

before = IterationSeedHook.before_train_iter
def kill(self, runner, *args, **kwargs):
    if str(runner.work_dir).endswith(sys.argv[3]) and runner.iter == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    before(self, runner, *args, **kwargs)
IterationSeedHook.before_train_iter = kill
cfg = tiny_config(Path(sys.argv[1]), 'finetune')
cfg.method.sub_steps = [dict(type='ToySubStep', name='prelude', length=3)]
with process_group('pytorch'):
    WalkRunner(cfg, sys.argv[2], 'pytorch', resume='resume' in sys.argv, steps='0-1').run()
"""


@pytest.mark.slow
def test_two_processes_are_killed_in_one_and_resume(data_root, tmp_path):
    for name, kill, status in (('unbroken', '-', 0), ('killed', 'prelude', -signal.SIGKILL)):
        results = run_two(['-c', WALK, data_root, tmp_path / name, kill], tmp_path / 'log')
        assert status in [code for code, _ in results], results[0][1]
    for status, output in run_two(
        ['-c', WALK, data_root, tmp_path / 'killed', '-', 'resume'], tmp_path / 'log'
    ):
        assert status == 0, output
    assert_same_weights(tmp_path / 'unbroken', tmp_path / 'killed', 1)
    assert (
        record(tmp_path / 'unbroken', 1)['sub_steps']['prelude']['files']
        == record(tmp_path / 'killed', 1)['sub_steps']['prelude']['files']
    )
