"""Damaged and lost files of finished steps: what is said, and that the advice in it works."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from mmseg_cil.engine import commands
from mmseg_cil.engine.exemplars.lists import exemplars_before
from mmseg_cil.engine.preflight.prepare import prepare_walk
from mmseg_cil.engine.record import computing
from mmseg_cil.engine.record.completeness import load_journal, needed_steps
from mmseg_cil.engine.record.verify import check_checkpoint
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.errors import InputError
from mmseg_cil.testing.tiny import tiny_config
from mmseg_cil.testing.walks import assert_same_weights
from mmseg_cil.utils.atomic import write_text


def config(data_root, method='finetune', **changes):
    cfg = tiny_config(data_root, method, **changes)
    cfg.step_overrides = {0: dict(max_iters=2), 'later': dict(max_iters=2)}
    return cfg


@pytest.fixture(scope='module')
def walked(data_root, tmp_path_factory):
    """A whole walk, and one of its first two steps."""
    root = tmp_path_factory.mktemp('walked')
    cfg = config(data_root)
    WalkRunner(cfg, root / 'part', steps='0-1').run()
    write_text(root / 'part/walk_config.py', cfg.pretty_text)
    shutil.copytree(root / 'part', root / 'whole')
    WalkRunner(cfg, root / 'whole', resume=True).run()
    return root


@pytest.fixture
def part(walked, tmp_path):
    return Path(shutil.copytree(walked / 'part', tmp_path / 'walk'))


@pytest.fixture
def whole(walked, tmp_path):
    return Path(shutil.copytree(walked / 'whole', tmp_path / 'whole'))


class Arguments:
    """The command line of ``tools/test.py``."""

    def __init__(self, work_dir, step=None):
        self.work_dir, self.step = str(work_dir), step
        self.config, self.dry_run, self.launcher, self.cfg_options = None, False, 'none', {}


def checkpoint(work_dir, step):
    return work_dir / f'step_{step:02d}/checkpoint.pth'


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def resume(data_root, work_dir, **options):
    scheduler = WalkRunner(config(data_root), work_dir, resume=True, **options).open()
    scheduler.run()
    return scheduler


def same_metrics(first, second):
    texts = [(work_dir / 'metrics.json').read_text() for work_dir in (first, second)]
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    'gone',
    [
        pytest.param([2], marks=pytest.mark.slow),
        [1, 2],
        pytest.param([0, 1, 2], marks=pytest.mark.slow),
    ],
)
def test_steps_whose_folders_were_deleted_are_trained_again(whole, walked, data_root, gone, capsys):
    for step in gone:
        shutil.rmtree(whole / f'step_{step:02d}')
    resume(data_root, whole)
    said = capsys.readouterr().out
    assert f'note: {", ".join(f"step_0{step}" for step in gone)} of {whole}' in said
    assert_same_weights(walked / 'whole', whole, 0, 1, 2)
    same_metrics(walked / 'whole', whole)


def test_a_folder_that_later_steps_started_from_is_named_with_the_way_out(whole, walked, data_root):
    kept = shutil.move(whole / 'step_01', whole.parent / 'kept')
    before = (whole / 'journal.json').read_text()
    with pytest.raises(
        InputError,
        match=r'step_01 is gone, and step 2 started from it: put .* '
        r'back, or delete step_02 in .*--resume, which trains steps 1, 2 again',
    ):
        WalkRunner(config(data_root), whole, resume=True).prepare()
    assert (whole / 'journal.json').read_text() == before
    other = shutil.copytree(whole, whole.parent / 'other')
    # Either way.
    shutil.move(kept, whole / 'step_01')
    resume(data_root, whole)
    shutil.rmtree(other / 'step_02')
    resume(data_root, other)
    for work_dir in (whole, other):
        assert_same_weights(walked / 'whole', work_dir, 0, 1, 2)


@pytest.mark.parametrize('how', [pytest.param('missing', marks=pytest.mark.slow), 'damaged'])
def test_weights_that_are_needed_are_refused_before_anything_is_done(part, walked, data_root, how):
    path = checkpoint(part, 1)
    path.unlink() if how == 'missing' else damage(path)
    message = 'does not exist' if how == 'missing' else 'changed or damaged'
    with pytest.raises(
        InputError,
        match=rf'step_01/checkpoint.pth .*{message}.*delete step_01 in '
        '.*--resume, which trains step 1 again',
    ):
        WalkRunner(config(data_root), part, resume=True).prepare()
    shutil.rmtree(part / 'step_01')
    resume(data_root, part)
    assert_same_weights(walked / 'whole', part, 1, 2)


@pytest.mark.parametrize('how', ['missing', 'damaged'])
def test_a_lone_checkpoint_is_reported_whenever_the_walk_goes_on(
    whole, part, data_root, how, capsys
):
    for step in (0, 1):
        path = checkpoint(whole, step)
        path.unlink() if how == 'missing' else damage(path)
    WalkRunner(config(data_root), whole, resume=True).open()
    said = capsys.readouterr().out
    for step in (0, 1):
        assert f'warning: {checkpoint(whole, step)}' in said
    with pytest.raises(InputError, match=r'step_00/checkpoint.pth'):
        commands.test(Arguments(whole))
    capsys.readouterr()
    commands.test(Arguments(whole, step=2))
    assert f'warning: {checkpoint(whole, 0)}' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('method', 'steps'), [('finetune', {1}), ('m2kd', {0, 1}), ('m2kd_pruned', {0, 1})]
)
def test_which_weights_are_needed_is_known_before(part, data_root, method, steps):
    damage(checkpoint(part, 0))
    scheduler = WalkRunner(config(data_root), part, resume=True).open()
    cfg = config(data_root, method)
    walk = prepare_walk(cfg, part)
    assert needed_steps(walk, scheduler.journal, [0, 1, 2], ()) == steps
    for step in (0, 1) if method == 'm2kd_pruned' else ():
        # Pruned snapshots are read in the place of checkpoints.
        scheduler.journal.update_step(step, sub_steps=dict(prune={}))
        assert needed_steps(walk, scheduler.journal, [0, 1, 2], ()) == {1}
    assert needed_steps(scheduler.walk, scheduler.journal, [0, 1], ()) == set()
    assert needed_steps(scheduler.walk, scheduler.journal, [0, 1], [0]) == {0}


def test_what_hooks_kept_of_a_step_is_held_against_the_journal(data_root, tmp_path):
    cfg = config(data_root, 'vdfd_plain')
    scheduler = WalkRunner(cfg, tmp_path, steps='0').open()
    scheduler.run()
    assert list(scheduler.journal.step(0)['kept_sha256']) == ['vdfd.pth']
    damage(tmp_path / 'step_00/vdfd.pth')
    with pytest.raises(InputError, match=r'step_00/vdfd\.pth is not the file'):
        WalkRunner(cfg, tmp_path, resume=True).prepare()


def test_steps_taken_over_come_again_from_their_run(part, data_root, tmp_path):
    new = tmp_path / 'new'
    options = dict(start_from=f'{part}:1', steps='0-1')
    WalkRunner(config(data_root), new, **options).run()
    shutil.rmtree(new / 'step_01')
    with pytest.raises(InputError, match=f'step 1 is not there: add --start-from {part}:1 again'):
        WalkRunner(config(data_root), new, resume=True).prepare()
    journal = resume(data_root, new, **options).journal
    assert journal.step(1)['taken_from']['work_dir'] == str(part)
    assert_same_weights(part, new, 0, 1)
    moved = part.rename(tmp_path / 'moved')
    shutil.rmtree(new / 'step_01')
    with pytest.raises(
        InputError,
        match=r'step 1: to be taken over from .*, which holds no walk.*'
        '--start-from',
    ):
        WalkRunner(config(data_root), new, resume=True, start_from=f'{part}:1').prepare()
    WalkRunner(config(data_root), new, resume=True, start_from=f'{moved}:1').open()
    assert_same_weights(moved, new, 0, 1)


def test_scores_that_were_changed_are_made_again(part, data_root, capsys):
    before = (part / 'metrics.json').read_text()
    path = part / 'step_00/metrics.json'
    content = json.loads(path.read_text())
    content['mIoU']['all'] = 0.99
    path.write_text(json.dumps(content))
    resume(data_root, part, steps='0-1')
    assert f'note: {path} is not the file that journal.json records' in capsys.readouterr().out
    assert (part / 'metrics.json').read_text() == before
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r'not the file that journal.json records.*--step'):
        commands.test(Arguments(part, step=1))
    commands.test(Arguments(part))
    assert (part / 'metrics.json').read_text() == before


def test_a_step_before_the_record_of_hashes_is_taken_as_it_is(part, data_root):
    content = json.loads((part / 'journal.json').read_text())
    for record in content['steps']:
        for key in ('metrics_sha256', 'kept_sha256', 'computing'):
            del record[key]
    del content['computing']
    write_text(part / 'journal.json', json.dumps(content))
    resume(data_root, part, steps='0-1')
    assert check_checkpoint(load_journal(part), 1) == checkpoint(part, 1)


def test_another_way_of_computing_is_said_while_something_is_to_train(
    part, whole, data_root, capsys, monkeypatch
):
    monkeypatch.setattr(computing, 'get_world_size', lambda: 2)
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 96)
    for work_dir, times in ((part, 1), (whole, 0)):
        WalkRunner(config(data_root), work_dir, resume=True, steps='0-1').open()
        said = [line for line in capsys.readouterr().out.splitlines() if 'way of computing' in line]
        assert len(said) == times
        for line in said:
            assert 'processes 1 before, 2 now' in line and '96 now' in line
            assert 'device' not in line and 'PyTorch' not in line


RANDOM = {'method.memory': dict(budget=4, selection='random')}


@pytest.mark.parametrize('content', ['{"format": 1', None])
def test_a_list_of_exemplars_that_is_deleted_is_made_again(data_root, tmp_path, content):
    cfg = config(data_root, **RANDOM)
    WalkRunner(cfg, tmp_path, steps='0').run()
    path = tmp_path / 'step_00/exemplars.json'
    before = path.read_text()
    path.write_text(before.replace('train', 'train_') if content is None else content)
    scheduler = WalkRunner(cfg, tmp_path, resume=True).open()
    with pytest.raises(InputError, match=r'step_00/exemplars\.json .*or delete it, and the walk'):
        exemplars_before(scheduler.walk, scheduler.journal, 1)
    path.unlink()
    scheduler = WalkRunner(cfg, tmp_path, resume=True).open()
    assert exemplars_before(scheduler.walk, scheduler.journal, 1) == str(path)
    assert path.read_text() == before


@pytest.mark.slow
def test_exemplars_that_are_gone_are_replaced_when_all_lists_are_deleted(data_root, tmp_path):
    data = Path(shutil.copytree(data_root, tmp_path / 'data'))
    cfg, walk = config(data, **RANDOM), tmp_path / 'walk'
    WalkRunner(cfg, walk, steps='0-1').run()
    kept = [
        {image['name'] for image in json.loads(path.read_text())['images']}
        for path in sorted(walk.glob('step_*/exemplars.json'))
    ]
    gone = sorted(set.intersection(*kept))[0]
    path = data / 'lists/train.txt'
    path.write_text('\n'.join(name for name in path.read_text().split() if name != gone))
    options = dict(resume=True, accept_changes=True)
    with pytest.raises(InputError, match='delete this file in the folders of all steps'):
        WalkRunner(cfg, walk, **options).run()
    for path in walk.glob('step_*/exemplars.json'):
        path.unlink()
    WalkRunner(cfg, walk, resume=True).run()
    assert gone not in (walk / 'step_01/exemplars.json').read_text()
