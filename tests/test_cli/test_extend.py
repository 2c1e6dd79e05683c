"""A trained network learns classes of new images, by the command."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

import mmseg_cil
from mmseg_cil.cli.commands import COMMANDS
from mmseg_cil.engine.commands import run_walk
from mmseg_cil.engine.config.extension import Extension
from mmseg_cil.engine.config.further_steps import FurtherSteps
from mmseg_cil.engine.config.new_data import ImagesAndMasks, NewData
from mmseg_cil.engine.extend import extend_walk
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.errors import InputError
from mmseg_cil.testing.tiny import CLASSES, make_data, tiny_config


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """A network of three classes, and new images whose masks hold the other two as 1 and 7."""
    folder = tmp_path_factory.mktemp('extend')
    cfg = tiny_config(make_data(folder / 'data'), 'finetune')
    cfg.protocol.steps = [list(CLASSES[:3])]
    cfg.step_overrides = {0: dict(max_iters=2)}
    WalkRunner(cfg, folder / 'walk').run()
    shutil.copy(folder / 'walk/step_00/checkpoint.pth', folder / 'old.pth')
    # As MMSegmentation's own: no key of a walk, and a data set for validation.
    for key in ('protocol', 'method', 'step_overrides', 'rehearsal', 'global_batch_size'):
        cfg.pop(key, None)
    cfg.val_dataloader = cfg.test_dataloader
    cfg.val_cfg, cfg.val_evaluator = dict(type='ValLoop'), dict(type='IoUMetric')
    cfg.default_scope = 'mmseg'
    cfg.dump(folder / 'old.py')
    for name in ('masks', 'new/masks', 'new/images', 'val/masks', 'val/images'):
        (folder / name).mkdir(parents=True)
    for path in (folder / 'data/masks').glob('*.png'):
        mask = np.array(Image.open(path))
        ids = np.select([mask == 3, mask == 4, mask == 255], [1, 7, 11], 0).astype(np.uint8)
        Image.fromarray(ids).save(folder / f'masks/{path.stem}_ids.png')
        own = 'new' if path.name.startswith('train') else 'val'
        Image.fromarray(ids).save(folder / own / 'masks' / path.name)
        shutil.copy(folder / 'data/images' / path.name, folder / own / 'images')
    return folder


def extend(place, work_dir, *words):
    return COMMANDS['extend'].call(
        [
            *map(str, [place / 'old.py', place / 'old.pth', '--images', place / 'data/images']),
            *map(str, ['--masks', place / 'masks', '--work-dir', work_dir, '--no-report']),
            *('--new-classes', 'horse', '--iterations', '2', *words),
        ]
    )


@pytest.mark.walk
def test_it_writes_a_config_and_walks_it(place, tmp_path, capsys):
    words = ['--new-classes', 'sheep', '--ids', 'horse=1', 'sheep=7', '--void-ids', '11']
    extend(place, tmp_path / 'walk', *words)
    assert 'the images that are trained on' in capsys.readouterr().out
    steps = json.loads((tmp_path / 'walk/journal.json').read_text())['steps']
    assert [step['status'] for step in steps] == ['done'] * 3
    assert [step['iterations'] for step in steps] == [0, 2, 2]
    cfg = Config.fromfile(tmp_path / 'walk/step_02/config.py')
    assert cfg.model.decode_head.num_classes == 5
    state = torch.load(tmp_path / 'walk/step_00/checkpoint.pth', weights_only=True)['state_dict']
    old = torch.load(place / 'old.pth', weights_only=True)['state_dict']
    assert all(torch.equal(state[name], old[name]) for name in old)
    # The same command goes on; another one is another walk.
    with pytest.raises(InputError, match='already holds a walk'):
        extend(place, tmp_path / 'walk', *words)
    with pytest.raises(InputError, match='another extension'):
        extend(place, tmp_path / 'walk', *words, '--method', 'plop', '--resume')
    extend(place, tmp_path / 'walk', *words, '--resume')


@pytest.mark.walk
def test_an_extended_network_is_extended(place, tmp_path):
    words = ['--ids', 'horse=1', '--void-ids', '7', '11']
    extend(place, tmp_path / 'first', *words)
    last = ['walk_config.py', 'step_01/checkpoint.pth']
    config, checkpoint = (str(tmp_path / 'first' / name) for name in last)
    arguments = [config, checkpoint, '--images', str(place / 'data/images')]
    arguments += ['--masks', str(place / 'masks'), '--work-dir', str(tmp_path / 'second')]
    arguments += ['--new-classes', 'sheep', '--ids', 'horse=1', 'sheep=7', '--void-ids', '11']
    COMMANDS['extend'].call(
        [*arguments, '--method', 'finetune', '--iterations', '2', '--no-report']
    )
    journal = json.loads((tmp_path / 'second/journal.json').read_text())
    assert journal['protocol']['classes'] == [*CLASSES[:3], 'horse', 'sheep']
    assert journal['method']['name'] == 'finetune'


@pytest.mark.walk
@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['--ids', 'horse'], 'write CLASS=ID'),
        (['--ids', 'horse=1', 'sheep=2'], 'sheep'),
        (['--test-images', 'x'], 'go together'),
        (['--method', 'nothing'], 'no method nothing'),
        (['--new-classes', 'red'], 'knows already'),
        (['--masks', 'nowhere'], 'no folder nowhere'),
    ],
)
def test_what_is_wrong_is_refused(place, tmp_path, words, message):
    with pytest.raises(InputError, match=message):
        extend(place, tmp_path / 'walk', *words)
    assert not (tmp_path / 'walk/journal.json').exists()


def own_images(place):
    """Options for new images that are no test images of the old data."""
    return ['--images', str(place / 'new/images'), '--masks', str(place / 'new/masks')]


@pytest.fixture(scope='module')
def extended(place, tmp_path_factory):
    """The folder of a network that has learnt horse, scored on the old test images too."""
    folder = tmp_path_factory.mktemp('extended') / 'walk'
    words = ['--ids', 'horse=1', '--void-ids', '7', '11']
    with pytest.raises(InputError, match=r"8 training .* are test images of the data set 'old'"):
        extend(place, folder, *words, '--old-test')
    test = ['--test-images', str(place / 'val/images'), '--test-masks', str(place / 'val/masks')]
    extend(place, folder, *words, '--old-test', *own_images(place), *test)
    return folder


@pytest.mark.walk
def test_old_test_images_are_scored_beside_the_new(extended):
    entries = json.loads((extended / 'metrics.json').read_text())['steps']
    assert list(entries[0]['data_sets']) == ['old'] and entries[0]['mIoU']['all'] is not None
    assert list(entries[1]['data_sets']) == ['old', 'step_01']
    assert entries[1]['data_sets']['old']['IoU']['red'] is not None
    assert entries[1]['data_sets']['step_01']['IoU']['red'] is None


@pytest.mark.walk
def test_a_finished_walk_goes_on_with_new_classes(place, extended, tmp_path):
    walk = tmp_path / 'walk'
    shutil.copytree(extended, walk)
    words = [
        str(walk),
        *own_images(place),
        '--ids',
        'horse=1',
        'sheep=7',
        '--void-ids',
        '11',
        '--no-report',
    ]
    before = (walk / 'step_01/checkpoint.pth').read_bytes()
    for wrong, message in (
        (['--new-classes', 'horse'], 'knows already'),
        (['--domain', 'night'], 'give --new-classes'),
        (['--new-classes', 'sheep', '--method', 'plop'], '--method does not go with'),
        (['--new-classes', 'sheep', '--method', 'mib'], '--method does not go with'),
        (['--new-classes', 'sheep', '--work-dir', 'x'], '--work-dir does not go with'),
    ):
        with pytest.raises(InputError, match=message):
            COMMANDS['extend'].call([*words, *wrong])
    more = [*words, '--new-classes', 'sheep', '--iterations', '3', '--lr', '0.01']
    COMMANDS['extend'].call(more)
    journal = json.loads((walk / 'journal.json').read_text())
    assert journal['protocol']['classes'] == [*CLASSES[:3], 'horse', 'sheep']
    assert [record['iterations'] for record in journal['steps']] == [0, 2, 3]
    assert 'accepted_changes' not in journal or not journal['accepted_changes']
    assert (walk / 'step_01/checkpoint.pth').read_bytes() == before
    # The same command again finds that all is done.
    COMMANDS['extend'].call(more)
    assert json.loads((walk / 'journal.json').read_text())['steps'] == journal['steps']


@pytest.mark.walk
def test_a_walk_of_a_named_protocol_goes_on(place, tmp_path):
    cfg = tiny_config(place / 'data', 'finetune')
    cfg.protocol = dict(
        name='tiny_3-1', dataset='tiny', class_order=[1, 3, 2, 4], setting='disjoint'
    )
    cfg.step_overrides = {0: dict(max_iters=1), 'later': dict(max_iters=1)}
    walk = tmp_path / 'walk'
    run_walk(cfg, walk, report=False)
    data = NewData(ImagesAndMasks(place / 'new/images', place / 'new/masks'), void_ids=[7, 11])
    further = FurtherSteps(walk, [['horse']], data)
    extended = further.config()
    assert extended.protocol.name == 'tiny_3-1_and_more'
    assert [list(step) for step in extended.protocol.steps[:2]] == [
        ['background', 'red', 'blue', 'green'],
        ['grey'],
    ]
    extend_walk(further, report=False)
    journal = json.loads((walk / 'journal.json').read_text())
    assert [record['status'] for record in journal['steps']] == ['done'] * 3
    assert journal['protocol']['setting'] == 'disjoint'
    # It is stopped in the new step, say: the same goes on, and another is refused.
    assert FurtherSteps(walk, [['horse']], data).config().protocol.steps[2].classes == ['horse']
    with pytest.raises(InputError, match='knows already'):
        FurtherSteps(walk, [['horse']], replace(data, void_ids=[11])).config()
    with pytest.raises(InputError, match='holds no walk'):
        FurtherSteps(tmp_path, [['horse']], data).config()


@pytest.mark.walk
def test_a_network_learns_a_new_domain(place, tmp_path):
    (tmp_path / 'new.py').write_text(
        f'_base_ = [{str(place / "old.py")!r}]\n'
        'train_dataloader = dict(dataset=dict(metainfo=dict(classes='
        "('empty', 'red', 'green', 'sky', 'blue'))))\n"
        'test_dataloader = dict(dataset=dict(metainfo=dict(classes='
        "('empty', 'red', 'green', 'sky', 'blue'))))\n"
    )
    COMMANDS['extend'].call(
        [
            *map(str, [place / 'old.py', place / 'old.pth', '--data', tmp_path / 'new.py']),
            *('--domain', 'night', '--name', 'dark', '--class-map', 'empty=background'),
            *('--iterations', '2', '--no-report', '--method', 'lwf'),
            *('--work-dir', str(tmp_path / 'walk')),
        ]
    )
    journal = json.loads((tmp_path / 'walk/journal.json').read_text())
    assert [step['domains'] for step in journal['protocol']['steps']] == [['trained'], ['night']]
    entries = json.loads((tmp_path / 'walk/metrics.json').read_text())['steps']
    assert list(entries[1]['data_sets']) == ['dark']
    # Sky and blue are no classes of the network: background, as the walk has one.
    assert list(entries[1]['IoU']) == list(CLASSES[:3])


@pytest.mark.slow
@pytest.mark.walk
def test_python_writes_the_config_of_the_command(place, tmp_path):
    words = ['--new-classes', 'sheep', '--ids', 'horse=1', 'sheep=7', '--void-ids', '11']
    result = mmseg_cil.extend(
        place / 'old.py',
        place / 'old.pth',
        tmp_path / 'walk',
        images=place / 'data/images',
        masks=place / 'masks',
        new_classes=[['horse'], ['sheep']],
        ids=dict(horse=1, sheep=7),
        void_ids=[11],
        iterations=2,
        report=False,
        progress=False,
    )
    assert [step.new for step in result.steps[1:]] == [('horse',), ('sheep',)]
    # The command goes on with it: its config is the same.
    extend(place, tmp_path / 'walk', *words, '--resume')
    with pytest.raises(InputError, match='a list of names a step'):
        mmseg_cil.extend(
            'x', 'x', tmp_path / 'x', images='x', masks='x', new_classes=['horse', ['sheep']]
        )


def text_of(place, **settings):
    images = ImagesAndMasks(place / 'data/images', place / 'masks')
    given = dict(classes=('road', 'car', 'sky'), steps=[['horse']], data=NewData(images))
    given.update(settings)
    return Extension(str(place / 'old.py'), str(place / 'old.pth'), **given).text()


def test_without_background_unlabelled_pixels_are_old_where_the_method_can_learn_that(place):
    images = ImagesAndMasks(place / 'data/images', place / 'masks')
    mib = text_of(place)
    assert "policy=dict(unlabelled='old')" in mib and "classifier_init='random'" in mib
    # VDFD's loss lies in its piece by protocol.
    assert "unlabelled='old'" in text_of(place, method='vdfd')
    lwf = text_of(place, method='lwf')
    assert "unlabelled='void'" in lwf and 'classifier_init' not in lwf
    used = text_of(place, data=NewData(images, old_labels='used'))
    assert "unlabelled='void'" in used
    asked = text_of(place, data=NewData(images, unlabelled='void'))
    assert "policy=dict(unlabelled='void')" in asked and "classifier_init='random'" in asked
    with_background = text_of(place, classes=('background', 'car', 'sky'))
    assert 'policy' not in with_background and 'classifier_init' not in with_background
    by_domain = text_of(place, steps=[], domain='night')
    assert 'policy' not in by_domain and 'classifier_init' not in by_domain


@pytest.mark.walk
def test_where_data_of_finished_steps_are_gone_the_last_network_is_extended(place, tmp_path):
    for name in ('images', 'masks'):
        shutil.copytree(place / 'new' / name, tmp_path / 'lent' / name)
    lent = ['--images', str(tmp_path / 'lent/images'), '--masks', str(tmp_path / 'lent/masks')]
    test = ['--test-images', str(place / 'val/images'), '--test-masks', str(place / 'val/masks')]
    extend(place, tmp_path / 'walk', '--ids', 'horse=1', '--void-ids', '7', '11', *lent, *test)
    shutil.rmtree(tmp_path / 'lent')
    later = [*own_images(place), *test, '--new-classes', 'sheep', '--ids', 'sheep=7']
    later += ['--void-ids', '1', '11', '--iterations', '2', '--no-report']
    with pytest.raises(InputError, match='If data of finished steps are gone') as refusal:
        COMMANDS['extend'].call([str(tmp_path / 'walk'), *later])
    hint = str(refusal.value).partition('mmseg-cil extend ')[2].split()
    assert hint[2] == '--work-dir'
    COMMANDS['extend'].call([*hint[:2], *later, '--work-dir', str(tmp_path / 'second')])
    journal = json.loads((tmp_path / 'second/journal.json').read_text())
    assert journal['protocol']['classes'] == [*CLASSES[:3], 'horse', 'sheep']
