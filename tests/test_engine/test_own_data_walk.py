"""Steps that bring data sets of their own: other folders, ids, names, sizes and pipelines."""

import copy
import json
import re
import shutil
import sys

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmseg.registry import DATASETS as PLAIN
from PIL import Image

import mmseg_cil
from mmseg_cil.cli.commands import COMMANDS
from mmseg_cil.datasets import IncrementalDataset
from mmseg_cil.engine.data import dataset_of_step
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.errors import InputError
from mmseg_cil.memory.memory import ExemplarMemory
from mmseg_cil.registry import DATASETS
from mmseg_cil.testing.tiny import CLASSES, make_data, tiny_config
from mmseg_cil.testing.walks import assert_same_weights, weights
from mmseg_cil.visualization.tables import data_set_table
from mmseg_cil.visualization.walk_record import read_walk

#: The id that masks of the other data set hold for red, blue and grey, of which there are two.
IDS = {1: 9, 3: 2}


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """The tiny data set, and another one of larger pictures in folders of its own."""
    root = tmp_path_factory.mktemp('own_data')
    make_data(root / 'first')
    drawn = root / 'drawn'
    make_data(drawn)
    for split in ('train', 'val'):
        for kind in ('pictures', 'labels'):
            (root / 'second' / split / kind).mkdir(parents=True)
        for number, path in enumerate(sorted((drawn / 'masks').glob(f'{split}_*.png'))):
            mask = np.array(Image.open(path).resize((64, 48), 0))
            ids = np.zeros_like(mask)
            for old, new in IDS.items():
                ids[mask == old] = new
            ids[mask == 4] = 5 + number % 2
            ids[mask == 255] = 11
            image = Image.open(drawn / 'images' / path.name).resize((64, 48))
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            ids = np.ascontiguousarray(ids[:, ::-1])
            image.save(root / f'second/{split}/pictures/{path.stem}.bmp')
            Image.fromarray(ids).save(root / f'second/{split}/labels/{path.stem}_ids.png')
    shutil.rmtree(drawn)
    return root


def second(place, **changes):
    """The other data set, whose pipeline at training crops more than the first's."""
    load = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]
    pipelines = dict(
        train=[*load, dict(type='RandomCrop', crop_size=(24, 24)), dict(type='PackSegInputs')],
        val=[*load, dict(type='PackSegInputs')],
    )
    data = {
        split: dict(
            type='BaseSegDataset',
            data_root=str(place / 'second'),
            data_prefix=dict(img_path=f'{folder}/pictures', seg_map_path=f'{folder}/labels'),
            img_suffix='.bmp',
            seg_map_suffix='_ids.png',
            pipeline=pipelines[folder],
        )
        for split, folder in (('train', 'train'), ('test', 'val'))
    }
    return (
        dict(data, name='second', labels=dict(red=9, blue=2, grey=[5, 6]), void_ids=[11]) | changes
    )


def config(place, method='finetune', **changes):
    cfg = tiny_config(place / 'first', method)
    data = second(place, **changes)
    cfg.protocol.steps = [
        CLASSES[:3],
        dict(classes=['blue'], data=data),
        dict(classes=['grey'], data=copy.deepcopy(data)),
    ]
    cfg.step_overrides = {0: dict(max_iters=4), 'later': dict(lr=0.02, max_iters=3)}
    return cfg


def view(cfg, place, step, split='train', **changes):
    config = dataset_of_step(cfg, step, split, str(place / 'index'), False)
    dataset = DATASETS.build(dict(config, **changes))
    assert isinstance(dataset, IncrementalDataset)
    return dataset


def labels(dataset):
    """The labels that occur in each image."""
    return [
        sorted(np.unique(dataset[i]['data_samples'].gt_sem_seg.data.numpy()).tolist())
        for i in range(len(dataset))
    ]


def test_each_step_reads_its_own_data_and_tests_read_all_so_far(place):
    cfg = config(place)
    first, blue, grey = (view(cfg, place, step) for step in range(3))
    assert not [name for name in first.image_names if '::' in name]
    assert all(name.startswith('second::train_') for name in blue.image_names + grey.image_names)
    assert not {*blue.image_names} <= {*grey.image_names}
    tests = [view(cfg, place, step, 'test') for step in range(3)]
    own = [[name for name in test.image_names if '::' in name] for test in tests]
    assert not own[0] and own[1] and len(own[2]) >= len(own[1])
    # Red is an old class, and the other data show it too.
    assert len(own[1]) == 8 - sum(
        i % 4 != 0 and i % 4 != 2 and i // 2 % 4 not in (0, 2) for i in range(8)
    )
    assert blue[0]['inputs'].shape[1:] == (24, 24)
    sizes = {tuple(tests[2][i]['inputs'].shape[1:]) for i in range(len(tests[2]))}
    assert sizes == {(32, 40), (48, 64)}


def test_labels_are_those_of_the_walk_by_name_and_id(place):
    cfg = config(place)
    load = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]
    plain = [*load, dict(type='PackSegInputs')]
    for data in (cfg.protocol.steps[1].data, cfg.protocol.steps[2].data):
        data.train.pipeline = plain
    # Outputs: background, red, green, blue, grey. Old classes are hidden in the background.
    assert {label for image in labels(view(cfg, place, 1)) for label in image} == {0, 3, 255}
    assert {label for image in labels(view(cfg, place, 2)) for label in image} == {0, 4, 255}
    tested = view(cfg, place, 2, 'test')
    found = {name: image for name, image in zip(tested.image_names, labels(tested), strict=True)}
    assert {x for name, image in found.items() if '::' in name for x in image} == {0, 1, 3, 4, 255}
    assert {x for name, image in found.items() if '::' not in name for x in image} == {
        *range(5),
        255,
    }
    # Known old classes are shown, and what label 0 may still hide is those that it lacks: green.
    for data in (cfg.protocol.steps[1].data, cfg.protocol.steps[2].data):
        data.old_labels = 'used'
    used = view(cfg, place, 2)
    assert {label for image in labels(used) for label in image} == {0, 3, 4, 255}
    assert used[0]['data_samples'].metainfo['cil_hidden'] == (2,)
    for data in (cfg.protocol.steps[1].data, cfg.protocol.steps[2].data):
        data.unlabelled = 'void'
    assert {label for image in labels(view(cfg, place, 2)) for label in image} == {3, 4, 255}


def test_what_another_data_set_brought_hides_in_images_of_the_first(place):
    cfg = config(place, labels=dict(pink=9, blue=2), void_ids=[5, 6, 11])
    data = cfg.protocol.steps[1].data
    cfg.protocol.setting = 'sequential'
    cfg.protocol.steps = [CLASSES[:3], dict(classes=['pink'], data=data), ['blue']]
    late = view(cfg, place, 2)
    assert len(late) and not [name for name in late.image_names if '::' in name]
    # Outputs: background, red, green, pink, blue. All labels are shown, and pink has none here.
    assert {*labels(late)[0]} <= {0, 1, 2, 4, 255}
    assert late[0]['data_samples'].metainfo['cil_hidden'] == (3,)
    exemplars = ExemplarMemory(
        late.protocol.beginning_fingerprint(0), {}, 0, {'red': ('train_000',)}, {'train_000': 0}
    )
    exemplars.save(place / 'exemplars.json')
    replay = dict(file=str(place / 'exemplars.json'), labels='at_replay')
    pink = view(cfg, place, 1, exemplars=replay)
    sample = pink[pink.num_own]['data_samples']
    assert pink.image_names[pink.num_own] == 'train_000'
    assert sample.metainfo['cil_hidden'] == (3,)


def test_classes_are_matched_by_name_and_several_are_one(place):
    classes = ['paper', 'sky', 'blue', 'q', 'r', 'ash', 'lead', 's', 't', 'red']
    meta = dict(metainfo=dict(classes=classes, palette=[[i, 0, 0] for i in range(10)]))
    data = second(place, labels=None, class_map=dict(ash='grey', lead='grey'))
    for split in ('train', 'test'):
        data[split].update(meta)
    cfg = config(place)
    cfg.protocol.steps[1:] = [dict(classes=['blue', 'grey'], data=data)]
    tested = view(cfg, place, 1, 'test', whole=True)
    assert {label for image in labels(tested) for label in image} == {0, 1, 2, 3, 4, 255}
    assert tested.palette_by_name()['blue'] == [30, 30, 200]
    cfg.protocol.steps[1]['classes'] = ['azure', 'grey']
    data['class_map'] = dict(blue='azure', ash='grey', lead='grey')
    dataset = view(cfg, place, 1)
    assert dataset.metainfo['classes'] == ('background', 'red', 'green', 'azure', 'grey')
    assert dataset.metainfo['palette'][3] == [2, 0, 0]


def test_several_data_sets_are_of_one_step_by_domain(place):
    cfg = tiny_config(place / 'first', 'finetune')
    cfg.protocol = dict(
        name='domains',
        dataset='tiny',
        domains=[dict(name='left'), dict(name='right', data=second(place))],
        domain_steps=[['left', 'right']],
    )
    both = view(cfg, place, 0)
    assert len(both) == 32
    shown = {
        '::' in name: both[i]['data_samples'].gt_sem_seg.data.shape
        for i, name in enumerate(both.image_names)
    }
    assert shown == {False: (1, 24, 24), True: (1, 24, 24)}
    cfg.protocol.domain_steps = None
    first, other = (view(cfg, place, step, 'test') for step in range(2))
    assert len(first) == 8 and len(other) == 16
    domains = [other[i]['data_samples'].cil_domain for i in range(16)]
    assert domains == [int('::' in name) for name in other.image_names]
    # By domain every label stays, and what the data lack may hide in the background.
    late = view(cfg, place, 1)
    assert {label for image in labels(late) for label in image} <= {0, 1, 3, 4, 255}
    assert late[0]['data_samples'].metainfo['cil_hidden'] == (2,)


@pytest.fixture(scope='module')
def walked(place, tmp_path_factory):
    """A walk, and the files that it opened before the first and in the later steps."""
    opened = []
    sys.addaudithook(
        lambda event, values: (
            opened.append(str(values[0]))
            if event == 'open' and isinstance(values[0], (str, bytes))
            else None
        )
    )
    folder = tmp_path_factory.mktemp('walked') / 'walk'
    WalkRunner(config(place, 'mib'), folder, steps='0').run()
    runner = WalkRunner(config(place, 'mib'), folder, resume=True)
    runner.open()
    opened.clear()
    runner.run()
    return folder, tuple(opened)


@pytest.mark.walk
def test_a_walk_is_scored_on_each_data_set_and_on_all(place, walked):
    folder, opened = walked
    entries = json.loads((folder / 'metrics.json').read_text())['steps']
    assert [list(entry['data_sets']) for entry in entries] == [
        ['tiny'],
        ['tiny', 'second'],
        ['tiny', 'second'],
    ]
    for entry in entries:
        assert entry['images'] == sum(part['images'] for part in entry['data_sets'].values())
    result = mmseg_cil.load_walk(folder)
    assert result.steps[2].data_sets['second'] == entries[2]['data_sets']['second']['mIoU']
    table = data_set_table(read_walk(folder))
    assert [row[:3] for row in table.rows[1:3]] == [
        ['1', 'tiny', str(entries[1]['data_sets']['tiny']['images'])],
        ['1', 'second', str(entries[1]['data_sets']['second']['images'])],
    ]
    last = entries[2]['data_sets']
    assert last['second']['IoU']['green'] is None and last['tiny']['IoU']['green'] is not None
    journal = json.loads((folder / 'journal.json').read_text())
    data = journal['protocol']['data']
    assert data[0] == [''] and data[1] == data[2] and data[1][0].startswith('second ')
    # Training of later steps has opened no training image of the first step.
    pictures = [path for path in opened if str(place / 'first') in path and 'train_' in path]
    assert not pictures
    assert [path for path in opened if str(place / 'second/train/pictures') in path]


@pytest.mark.walk
def test_the_list_of_test_images_scores_as_the_walk(place, walked):
    folder, _ = walked
    cfg = Config.fromfile(folder / 'step_02/config.py')
    with DefaultScope.overwrite_default_scope('mmseg'):
        plain = PLAIN.build(cfg.test_dataloader.dataset)
    ours = view(config(place), place, 2, 'test')
    assert len(plain) == len(ours)
    for i in range(len(ours)):
        assert torch.equal(
            plain[i]['data_samples'].gt_sem_seg.data, ours[i]['data_samples'].gt_sem_seg.data
        )


@pytest.mark.walk
def test_a_stopped_walk_goes_on_to_the_same_end(place, walked, tmp_path):
    WalkRunner(config(place, 'mib'), tmp_path / 'unbroken').run()
    assert_same_weights(walked[0], tmp_path / 'unbroken', 0, 1, 2)
    changed = config(place, 'mib', old_labels='used')
    with pytest.raises(InputError, match='protocol'):
        WalkRunner(changed, walked[0], resume=True).prepare().open()


@pytest.mark.walk
def test_a_finished_walk_goes_on_with_another_data_set(place, tmp_path):
    cfg = tiny_config(place / 'first', 'finetune')
    cfg.protocol.steps = [CLASSES[:3], ['blue']]
    cfg.step_overrides = {0: dict(max_iters=2), 'later': dict(max_iters=2)}
    WalkRunner(cfg, tmp_path / 'walk').run()
    before = weights(tmp_path / 'walk', 1)
    cfg.protocol.steps = [
        CLASSES[:3],
        ['blue'],
        dict(
            classes=['grey', 'pink'], data=second(place, labels=dict(grey=[5, 6], pink=9, blue=2))
        ),
    ]
    WalkRunner(cfg, tmp_path / 'walk', resume=True).run()
    after = weights(tmp_path / 'walk', 1)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert weights(tmp_path / 'walk', 2)['decode_head.conv_seg.weight'].shape[0] == 6
    records = json.loads((tmp_path / 'walk/journal.json').read_text())['steps']
    assert [record['status'] for record in records] == ['done'] * 3


@pytest.mark.walk
@pytest.mark.parametrize('method', ['icarl', 'vdfd'])
def test_exemplars_and_gradients_know_their_data_set(place, tmp_path, method):
    cfg = config(place, method)
    WalkRunner(cfg, tmp_path / 'walk').run()
    if method == 'icarl':
        kept = json.loads((tmp_path / 'walk/step_01/exemplars.json').read_text())
        assert {'::' in image['name'] for image in kept['images']} == {True, False}
        replay = dict(file=str(tmp_path / 'walk/step_01/exemplars.json'), labels='at_replay')
        dataset = view(cfg, place, 2, exemplars=replay)
        late = [
            dataset[i]['data_samples'].metainfo.get('cil_hidden')
            for i in range(dataset.num_own, len(dataset))
        ]
        assert {*late} == {(), (2,)}


def test_the_command_counts_the_images_of_each_step(place, tmp_path, capsys):
    config(place).dump(tmp_path / 'own.py')
    COMMANDS['protocols'].call(['--config', str(tmp_path / 'own.py')])
    told = capsys.readouterr().out
    for step in range(3):
        count = len(view(config(place), place, step).image_names)
        assert re.search(rf'{count}\b', told.splitlines()[-3 + step]), told


def refused(cfg, folder, match):
    with pytest.raises(InputError, match=match):
        WalkRunner(cfg, folder).prepare()
    assert not (folder / 'journal.json').exists()


@pytest.mark.parametrize(
    ('changes', 'match'),
    [
        (dict(labels=dict(blue=2, grey=2)), 'give the id 2 to blue and grey'),
        (dict(labels=dict(blue=2)), r'step 2 adds grey, which the data set .second. does not have'),
        (dict(labels=dict(blue=2, grey=5, reed=9)), r"labels name 'reed'.*did you mean 'red'"),
        (dict(labels=dict(blue='2')), 'must give the mask ids of each class'),
        (dict(labels=dict(blue=200, grey=[5, 6], red=[2, 9])), r'no training image for step 1'),
        (
            dict(void_ids=[]),
            r"hold ids that the data set 'second' does not know: \[11\](?s:.*)data\.v",
        ),
        (dict(void_ids=[2, 11]), 'the id 2 is of .blue. in labels and in void_ids'),
        (dict(labels=None), 'tells no classes'),
        (dict(class_map=dict(a='b')), 'there is nothing left for class_map'),
        (dict(unlabelled='nothing'), r"data.unlabelled is 'nothing'; write 'background' or 'void'"),
        (dict(train=None), 'data has no train'),
        (dict(lables=1), r"no setting 'lables' \(did you mean 'labels'"),
    ],
)
def test_what_does_not_fit_is_refused_before_training(place, tmp_path, changes, match):
    refused(config(place, **changes), tmp_path / 'walk', match)


def test_a_pipeline_that_fails_and_other_classes_are_refused(place, tmp_path):
    cfg = config(place)
    load = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]
    for step in (1, 2):
        cfg.protocol.steps[step].data.train.pipeline = [
            *load,
            dict(type='Normalize', mean=[0.0] * 7, std=[1.0] * 7),
            dict(type='PackSegInputs'),
        ]
    refused(cfg, tmp_path / 'walk', 'Normalize in the pipeline of the train split fails on')
    cfg = config(place, labels=None)
    for step in (1, 2):
        for split in ('train', 'test'):
            names = [f'thing {i}' for i in range(10)]
            cfg.protocol.steps[step].data[split].metainfo = dict(classes=names)
    refused(cfg, tmp_path / 'walk', "second', data.train has none of the classes of the walk")


def test_a_pipeline_without_labels_and_images_of_other_tests_are_refused(place, tmp_path):
    cfg = config(place)
    for step in (1, 2):
        cfg.protocol.steps[step].data.train.pipeline = [
            dict(type='LoadImageFromFile'),
            dict(type='PackSegInputs'),
        ]
    refused(cfg, tmp_path / 'walk', 'data.train: its pipeline has no LoadAnnotations')
    cfg = config(place, labels=None, void_ids=[])
    data = cfg.protocol.steps[1].data
    data.train = copy.deepcopy(cfg.test_dataloader.dataset)
    data.test = copy.deepcopy(cfg.train_dataloader.dataset)
    cfg.protocol.steps[2].data = copy.deepcopy(data)
    refused(cfg, tmp_path / 'walk', '24 training images .* are test images of the data set')
