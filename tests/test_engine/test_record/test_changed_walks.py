"""Walks that go on, are taken over or evaluated after data or protocol were changed."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmseg_cil.engine import walk_runner as scheduler_module
from mmseg_cil.engine.exemplars.lists import exemplars_before
from mmseg_cil.engine.record.fingerprint import file_hash
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.errors import InputError
from mmseg_cil.memory.memory import ExemplarMemory
from mmseg_cil.testing.tiny import STEPS, tiny_config
from mmseg_cil.testing.walks import assert_same_weights
from mmseg_cil.utils.atomic import write_json
from mmseg_cil.utils.config_text import config_text

SLOW = pytest.mark.slow


def config(root, **changes):
    cfg = tiny_config(root, 'finetune', **changes)
    cfg.step_overrides = {0: dict(max_iters=2), 'later': dict(max_iters=2)}
    return cfg


def short(root, **changes):
    return config(root, **{'protocol.steps': STEPS[:2], **changes})


@pytest.fixture(scope='module')
def walked(data_root, tmp_path_factory):
    """Data, and the first two of three steps of a walk over them."""
    root = tmp_path_factory.mktemp('walked')
    shutil.copytree(data_root, root / 'data')
    WalkRunner(config(root / 'data'), root / 'walk', steps='0-1').run()
    return root


@pytest.fixture
def place(walked, tmp_path):
    return Path(shutil.copytree(walked, tmp_path / 'place'))


@pytest.fixture
def evaluated(monkeypatch):
    """Steps that are evaluated again."""
    steps = []
    real = scheduler_module.evaluate_step
    monkeypatch.setattr(
        scheduler_module, 'evaluate_step', lambda *args: steps.append(args[2]) or real(*args)
    )
    return steps


def redraw(data, split):
    """Lets the masks of a split show more of their first class."""
    for path in (data / 'masks').glob(f'{split}_*.png'):
        mask = np.array(Image.open(path))
        mask[16:] = min(set(mask.flat) - {0})
        Image.fromarray(mask).save(path)


def reorder(data):
    path = data / 'lists/train.txt'
    path.write_text('\n'.join(reversed(path.read_text().split())))


def repeat(cfg):
    cfg.train_dataloader.dataset = dict(
        type='RepeatDataset', times=2, dataset=cfg.train_dataloader.dataset.to_dict()
    )


def journal(work_dir):
    return json.loads((work_dir / 'journal.json').read_text())


MESSAGE = r'training images \(of step.? 0, 1, 2: other images or masks, or in another order\)'


@pytest.mark.parametrize('change', ['masks', 'order', pytest.param('times', marks=SLOW)])
def test_other_training_images_are_refused_and_can_be_accepted(place, change, capsys):
    cfg = config(place / 'data')
    if change == 'masks':
        redraw(place / 'data', 'train')
    elif change == 'order':
        reorder(place / 'data')
    else:
        repeat(cfg)
    before = (place / 'walk/journal.json').read_text()
    with pytest.raises(InputError, match=MESSAGE):
        WalkRunner(cfg, place / 'walk', resume=True).prepare()
    with pytest.raises(InputError, match=r'start-from .*: steps 0, 1 of that run had other'):
        WalkRunner(cfg, place / 'new', start_from=f'{place / "walk"}:1').prepare()
    assert (place / 'walk/journal.json').read_text() == before and not (place / 'new').exists()
    WalkRunner(cfg, place / 'walk', resume=True, accept_changes=True).open()
    changes = journal(place / 'walk')['accepted_changes']
    assert changes == [{'changed': ['training images'], 'trained_before': [0, 1]}]
    # It is the walk's own from now on, and steps keep what they were trained on.
    WalkRunner(cfg, place / 'walk', resume=True).open()
    with pytest.raises(InputError, match='start-from'):
        WalkRunner(cfg, place / 'new', start_from=f'{place / "walk"}:1').prepare()
    WalkRunner(cfg, place / 'new', start_from=f'{place / "walk"}:1', accept_changes=True).open()
    assert '--accept-changes accepts' in capsys.readouterr().out


def test_settings_that_were_changed_are_named(place):
    copy = config_text(config(place / 'data'))
    (place / 'walk/walk_config.py').write_text(copy)
    cfg = config(place / 'data')
    cfg.step_overrides['later'].max_iters = 3
    cfg.work_dir = 'elsewhere'
    said = r'in: schedule \(changed settings: step_overrides\.later\.max_iters\)\. Results'
    with pytest.raises(InputError, match=said):
        WalkRunner(cfg, place / 'walk', resume=True).prepare()
    # A copy that holds more than plain values is not read.
    (place / 'walk/walk_config.py').write_text(f'import os\n{copy}')
    with pytest.raises(InputError, match=r'in: schedule\. Results'):
        WalkRunner(cfg, place / 'walk', resume=True).prepare()


def test_other_images_of_steps_that_are_not_taken_over_do_not_matter(place):
    data = place / 'data'
    # It shows grey alone, a class of step 2.
    names = (data / 'lists/train.txt').read_text().split()
    shutil.copy(data / 'masks/train_015.png', data / 'masks/more.png')
    shutil.copy(data / 'images/train_015.png', data / 'images/more.png')
    (data / 'lists/train.txt').write_text('\n'.join([*names, 'more']))
    taken = WalkRunner(
        config(data), place / 'new', start_from=str(place / 'walk'), steps='0'
    ).open()
    changed = [
        step
        for step in range(3)
        if taken.walk.prints.train[step] != journal(place / 'walk')['data']['train'][step]
    ]
    assert changed and 0 not in changed


def test_moved_data_are_the_same(place, tmp_path, evaluated):
    moved = (place / 'data').rename(tmp_path / 'moved')
    WalkRunner(config(moved), place / 'walk', resume=True, steps='0-1').run()
    assert evaluated == []


def test_other_test_images_are_evaluated_anew(place, evaluated, capsys):
    before = [(place / f'walk/step_0{step}/metrics.json').read_text() for step in range(2)]
    redraw(place / 'data', 'val')
    WalkRunner(config(place / 'data'), place / 'walk', resume=True, steps='0-1').run()
    assert evaluated == [0, 1]
    assert 'step 0 was evaluated with other settings or test images' in capsys.readouterr().out
    for step, text in enumerate(before):
        assert (place / f'walk/step_0{step}/metrics.json').read_text() != text
    WalkRunner(config(place / 'data'), place / 'walk', resume=True, steps='0-1').run()
    assert evaluated == [0, 1]


def test_a_finished_walk_goes_on_with_one_more_class(place, walked, evaluated):
    data = place / 'data'
    first = WalkRunner(short(data), place / 'short', start_from=f'{place / "walk"}:1').open()
    first.run()
    assert len(json.loads((place / 'short/metrics.json').read_text())['steps']) == 2
    WalkRunner(config(data), place / 'long', start_from=f'{place / "short"}:1').run()
    WalkRunner(config(data), place / 'short', resume=True).run()
    assert not json.loads((place / 'short/journal.json').read_text())['accepted_changes']
    # Neither trained nor evaluated again are the steps that were there.
    assert evaluated == []
    for name in ('long', 'short'):
        steps = json.loads((place / name / 'metrics.json').read_text())['steps']
        assert [len(step['seen']) for step in steps] == [3, 4, 5]
        assert_same_weights(place / 'walk', place / name, 0, 1)
    assert_same_weights(place / 'long', place / 'short', 2)
    WalkRunner(config(data), place / 'short', resume=True).open()


def test_further_steps_come_after_finished_ones_alone(place, walked):
    data = place / 'data'
    WalkRunner(short(data), place / 'begun', steps='0', start_from=f'{place / "walk"}:0').run()
    message = r'protocol \(steps 0, 1 the same, further ones come\)'
    with pytest.raises(InputError, match=message):
        WalkRunner(config(data), place / 'begun', resume=True).prepare()
    other = config(data, **{'optim_wrapper.optimizer.lr': 0.3})
    WalkRunner(short(data), place / 'whole', start_from=f'{place / "walk"}:1').run()
    with pytest.raises(InputError, match=message):
        WalkRunner(other, place / 'whole', resume=True).prepare()


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (
            {'protocol.steps': [STEPS[0], ['grey'], ['blue']]},
            'step 1 in .* is trained on the classes background, red, green, blue, and this config '
            'gives it background, red, green, grey',
        ),
        (
            {'protocol.steps': STEPS[:1]},
            r'records step 1, and .* 0\.\.0 only.*--start-from .*walk:0',
        ),
    ],
)
def test_weights_of_other_classes_cannot_be_accepted(place, changes, message):
    cfg = config(place / 'data', **changes)
    with pytest.raises(InputError, match=message):
        WalkRunner(cfg, place / 'walk', resume=True, accept_changes=True).prepare()
    # The way that the message names.
    WalkRunner(cfg, place / 'new', start_from=f'{place / "walk"}:0', steps='0').open()


@pytest.mark.parametrize(
    'changes',
    [
        {'protocol.steps': [['background', 'red'], ['green', 'blue']]},
        {'protocol.setting': 'disjoint'},
    ],
)
def test_a_run_of_other_steps_is_not_taken_over(place, changes):
    with pytest.raises(InputError, match='another protocol up to step 0'):
        WalkRunner(
            config(place / 'data', **changes),
            place / 'new',
            start_from=str(place / 'walk'),
            accept_changes=True,
        ).prepare()


@pytest.mark.parametrize('written', [pytest.param('now', marks=SLOW), 'by an earlier version'])
def test_exemplars_stay_when_a_class_is_added(data_root, tmp_path, monkeypatch, written):
    memory = {'method.memory': dict(budget=2, selection='random')}
    first = WalkRunner(short(data_root, **memory), tmp_path, steps='0').open()
    first.run()
    path = tmp_path / 'step_00/exemplars.json'
    content = json.loads(path.read_text())
    names = [image['name'] for image in content['images']]
    if written != 'now':
        # By the fingerprint of all steps that the walk had.
        write_json(path, {**content, 'protocol': first.walk.protocol.training_fingerprint()})
        first.journal.update_step(0, exemplars=dict(kept=2, sha256=file_hash(path)))
    monkeypatch.setattr('mmseg_cil.engine.exemplars.lists.choose_exemplars', None)
    longer = WalkRunner(
        config(data_root, **memory), tmp_path, resume=True, accept_changes=True
    ).open()
    assert exemplars_before(longer.walk, longer.journal, 1) == str(path)
    now = ExemplarMemory.load(path)
    assert now.names == names and now.is_of(longer.walk.protocol) and now.is_of(first.walk.protocol)
    assert now.protocol != longer.walk.protocol.training_fingerprint()


def test_a_network_that_the_weights_do_not_fit_cannot_be_accepted(place):
    before = (place / 'walk/journal.json').read_text()
    other = config(place / 'data', **{'model.decode_head.channels': 4})
    with pytest.raises(InputError, match=r'step_01/checkpoint\.pth does not fit the network'):
        WalkRunner(other, place / 'walk', resume=True, accept_changes=True).prepare()
    assert (place / 'walk/journal.json').read_text() == before
    similar = config(place / 'data', **{'model.decode_head.dropout_ratio': 0.2})
    WalkRunner(similar, place / 'walk', resume=True, accept_changes=True).open()
    assert journal(place / 'walk')['accepted_changes'][0]['changed'] == ['model']
