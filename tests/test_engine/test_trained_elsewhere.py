"""A network that was trained elsewhere is step 0 of a walk over new data."""

import functools
import hashlib
import json
import sys

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.utils import get_classes
from PIL import Image

from mmseg_cil.engine.config.step_config import StepInputs
from mmseg_cil.engine.step_configs import training_config
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.errors import InputError
from mmseg_cil.memory.memory import FILE_NAME, ExemplarMemory
from mmseg_cil.registry import MODELS
from mmseg_cil.testing.tiny import CLASSES, make_data, tiny_config
from mmseg_cil.testing.walks import assert_same_weights, weights

pytestmark = pytest.mark.walk
OLD = list(CLASSES[:3])
NEW_IDS = {3: 1, 4: 7}


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A folder with the config, the checkpoint and the data of a network of three classes."""
    folder = tmp_path_factory.mktemp('elsewhere')
    make_data(folder / 'old_data')
    cfg = tiny_config(folder / 'old_data', 'finetune')
    cfg.protocol.steps = [OLD]
    cfg.step_overrides = {0: dict(max_iters=6)}
    WalkRunner(cfg, folder / 'walk').run()
    content = torch.load(folder / 'walk/step_00/checkpoint.pth', weights_only=True)
    content['optimizer'] = dict(param_groups=[dict(lr=0.1)])
    content['state_dict'] = {f'module.{k}': v for k, v in content['state_dict'].items()}
    torch.save(content, folder / 'old.pth')
    Config(dict(model=cfg.model.to_dict(), custom_imports=None)).dump(folder / 'old.py')
    return folder


@pytest.fixture(scope='module')
def new_data(tmp_path_factory):
    """Data of another layout whose masks hold the new classes alone, as 1 and 7."""
    root = tmp_path_factory.mktemp('new_data')
    make_data(root / 'drawn')
    for split in ('train', 'val'):
        for kind in ('pictures', 'labels'):
            (root / split / kind).mkdir(parents=True)
        for path in sorted((root / 'drawn/masks').glob(f'{split}_*.png')):
            mask = np.array(Image.open(path))
            ids = np.zeros_like(mask)
            for old, new in NEW_IDS.items():
                ids[mask == old] = new
            ids[mask == 255] = 11
            Image.fromarray(ids).save(root / split / 'labels' / path.name)
            picture = Image.open(root / 'drawn/images' / path.name)
            picture.save(root / split / 'pictures' / path.name)
    return root


def extension(trained, new_data, method='mib', **changes):
    cfg = tiny_config(new_data, method)
    for split, loader in (('train', cfg.train_dataloader), ('val', cfg.test_dataloader)):
        dataset = loader.dataset
        dataset.data_prefix = dict(img_path=f'{split}/pictures', seg_map_path=f'{split}/labels')
        dataset.pop('ann_file')
        dataset.pop('metainfo')
    cfg.pop('model')
    cfg.protocol = dict(
        name='extended',
        dataset='mine',
        checkpoint=dict(config=str(trained / 'old.py'), checkpoint=str(trained / 'old.pth')),
        steps=[['blue'], ['grey']],
        labels=dict(blue=1, grey=7),
        void_ids=[11],
    )
    cfg.step_overrides = dict(later=dict(lr=0.02, max_iters=4))
    for key, value in changes.items():
        *path, last = key.split('.')
        functools.reduce(lambda node, name: node[name], path, cfg)[last] = value
    return cfg


@pytest.fixture(scope='module')
def walked(trained, new_data, tmp_path_factory):
    """A walk of MiB over the new data, and the files that it opened."""
    opened = []

    def note(event, arguments):
        if event == 'open' and isinstance(arguments[0], str):
            opened.append(arguments[0])

    sys.addaudithook(note)
    walk = tmp_path_factory.mktemp('walked') / 'walk'
    WalkRunner(extension(trained, new_data), walk).run()
    return walk, tuple(opened)


def test_a_walk_goes_on_from_it_and_opens_none_of_its_data(trained, new_data, walked):
    walk, opened = walked
    assert not [path for path in opened if str(trained / 'old_data') in path]
    assert [path for path in opened if str(new_data / 'train') in path]
    first = weights(walk, 0)
    for name, value in weights(trained / 'walk', 0).items():
        assert torch.equal(value, first[name]), name
    assert weights(walk, 2)['decode_head.conv_seg.weight'].shape[0] == 5
    journal = json.loads((walk / 'journal.json').read_text())
    record = journal['steps'][0]
    assert record['trained'] and record['iterations'] == 0 and record['images'] == 0
    digest = hashlib.sha256((trained / 'old.pth').read_bytes()).hexdigest()
    assert record['taken_from']['checkpoint'] == str(trained / 'old.pth')
    assert record['taken_from']['sha256'] == digest
    scores = json.loads((walk / 'metrics.json').read_text())['steps']
    assert [step['images'] for step in scores] == [0, 4, 6]
    assert scores[0]['mIoU']['all'] is None
    assert scores[2]['IoU']['blue'] is not None and scores[2]['IoU']['red'] is None


@pytest.mark.parametrize('method', ['rcil', 'lwf_mc', 'ilt'])
def test_every_method_goes_on_from_it(trained, new_data, tmp_path, method):
    cfg = extension(trained, new_data, method)
    WalkRunner(cfg, tmp_path / 'walk', steps='0-1').run()
    assert weights(tmp_path / 'walk', 1)['decode_head.conv_seg.weight'].shape[0] == 4


def test_what_vdfd_keeps_of_it_is_made_from_the_new_images(trained, new_data, tmp_path):
    # So that the network predicts each of its classes somewhere.
    content = torch.load(trained / 'old.pth', weights_only=True)
    content['state_dict']['module.decode_head.conv_seg.bias'] = torch.tensor([-5.0, 0.0, 0.0])
    torch.save(content, tmp_path / 'old.pth')
    checkpoint = {'protocol.checkpoint.checkpoint': str(tmp_path / 'old.pth')}
    cfg = extension(trained, new_data, 'vdfd', **checkpoint)
    WalkRunner(cfg, tmp_path / 'walk', steps='0-1').run()
    folder = tmp_path / 'walk/step_00'
    journal = json.loads((tmp_path / 'walk/journal.json').read_text())
    assert journal['steps'][0]['kept_from_images_of'] == 1
    assert (folder / 'vdfd.pth').is_file()
    means = torch.load(folder / 'class_means.pth', weights_only=True)
    # New images are labelled with new classes alone: what the old network predicts counts.
    assert len(means['classes']) > 1


def test_a_stopped_walk_goes_on_to_the_same_end(trained, new_data, walked, tmp_path):
    cfg = extension(trained, new_data)
    WalkRunner(cfg, tmp_path / 'parts', steps='0').run()
    WalkRunner(cfg, tmp_path / 'parts', resume=True).run()
    assert_same_weights(walked[0], tmp_path / 'parts', 0, 1, 2)


def refused(cfg, folder, match):
    with pytest.raises(InputError, match=match):
        WalkRunner(cfg, folder).prepare()
    assert not (folder / 'journal.json').exists()


@pytest.mark.parametrize(
    ('changes', 'match'),
    [
        ({'protocol.steps': [OLD[:2], ['blue'], ['grey']]}, r'step 0 of extended has'),
        ({'protocol.steps': [OLD, ['red']]}, r"'red' is a class that the network .* already"),
        ({'protocol.labels': dict(blue=1)}, r"adds 'grey', but labels give it no id"),
        ({'protocol.labels': dict(blue=1, gray=7)}, r"adds 'grey'.*did you mean 'gray'"),
        ({'protocol.labels': dict(blue=1, grey=1)}, r'give the id 1 to blue and grey'),
        ({'protocol.void_ids': [7, 11]}, r'the id 7 is of a class in labels and in void_ids'),
        ({'protocol.void_ids': []}, r'hold ids that extended does not know: \[11\]'),
        ({'protocol.labels': dict(blue=1, grey=9), 'protocol.void_ids': [7, 11]}, r'step 2'),
        ({'protocol.checkpoint.checkpoint': 'nowhere.pth'}, r'nowhere.pth cannot be read'),
        ({'protocol.checkpoint.weights': 'x'}, r"has no setting 'weights'"),
        ({'protocol.checkpoint.classes': 'background'}, 'must list the names of the outputs'),
        ({'protocol.checkpoint.classes': []}, 'must list the names of the outputs'),
        ({'protocol.checkpoint.revise_keys': ['(']}, 'must be a list of pairs'),
        ({'protocol.steps': [['blue'], ['blue', 'grey']]}, "'blue' is listed twice"),
        (
            {'protocol.steps': [['blue'], dict(data=dict())]},
            r'step 2 must be a list of classes, or',
        ),
        ({'protocol.checkpoint.classes': ['background', 'a']}, r'of another shape: .*conv_seg'),
    ],
)
def test_what_does_not_fit_is_refused_before_training(trained, new_data, tmp_path, changes, match):
    refused(extension(trained, new_data, **changes), tmp_path / 'walk', match)


def test_another_network_is_refused(trained, new_data, tmp_path):
    cfg = extension(trained, new_data)
    cfg.model = Config.fromfile(trained / 'old.py').model
    cfg.model.backbone.dilations = (1, 1, 1, 2)
    refused(cfg, tmp_path / 'walk', r'another network .*: model.backbone.dilations')
    # Wrong outputs of the same weights: the same shapes, other numbers.
    for key, value in (
        ('data_preprocessor.mean', [0.0, 0.0, 0.0]),
        ('data_preprocessor.bgr_to_rgb', False),
        ('backbone.norm_cfg', dict(type='BN', eps=0.1)),
        ('backbone.norm_cfg', dict(type='GN', num_groups=2)),
    ):
        cfg.model = Config.fromfile(trained / 'old.py').model
        cfg.merge_from_dict({f'model.{key}': value})
        refused(cfg, tmp_path / 'walk', rf'another network .*model.{key}')
    cfg.model = Config.fromfile(trained / 'old.py').model
    cfg.model.backbone.norm_cfg = dict(type='SyncBN', requires_grad=True)
    WalkRunner(cfg, tmp_path / 'same').prepare()
    cfg.pop('model')
    cfg.protocol.checkpoint.pop('config')
    cfg.model = Config.fromfile(trained / 'old.py').model
    cfg.model.backbone.base_channels = 8
    cfg.model.decode_head.in_channels = 64
    cfg.model.auxiliary_head.in_channels = 32
    refused(cfg, tmp_path / 'walk', r'is of another network than the config: not in the file')


def test_exemplars_begin_empty_where_the_old_images_are_gone(trained, new_data, tmp_path, capsys):
    walk = tmp_path / 'walk'
    runner = WalkRunner(extension(trained, new_data, 'icarl'), walk)
    runner.run()
    assert 'the exemplars of icarl begin empty' in capsys.readouterr().out
    kept = [ExemplarMemory.load(walk / f'step_0{step}/{FILE_NAME}') for step in range(3)]
    assert kept[0].names == []
    assert list(kept[1].lists) == ['blue'] and list(kept[2].lists) == ['blue', 'grey']
    assert set(kept[1].stored.values()) == {1} and kept[2].lists['grey']
    steps = json.loads((walk / 'journal.json').read_text())['steps']
    assert [step['replayed'] for step in steps] == [0, 0, len(kept[1].names)]


def test_another_file_is_refused_when_the_walk_goes_on(trained, new_data, tmp_path):
    cfg = extension(trained, new_data)
    WalkRunner(cfg, tmp_path / 'walk', steps='0').run()
    other = torch.load(trained / 'old.pth', weights_only=True)
    other['meta']['note'] = 'another'
    torch.save(other, tmp_path / 'other.pth')
    cfg.protocol.checkpoint.checkpoint = str(tmp_path / 'other.pth')
    with pytest.raises(InputError, match='is not the file that step 0'):
        WalkRunner(cfg, tmp_path / 'walk', resume=True).prepare()


def test_names_of_weights_are_revised_and_averages_are_told(trained, new_data, tmp_path, capsys):
    content = torch.load(trained / 'old.pth', weights_only=True)
    state = {f'net.{k}': v for k, v in content['state_dict'].items()}
    torch.save(dict(content, state_dict=state), tmp_path / 'renamed.pth')
    path = {'protocol.checkpoint.checkpoint': str(tmp_path / 'renamed.pth')}
    refused(extension(trained, new_data, **path), tmp_path / 'w', 'revise_keys')
    path['protocol.checkpoint.revise_keys'] = [(r'^net\.module\.', '')]
    path['protocol.checkpoint.classes'] = OLD
    WalkRunner(extension(trained, new_data, **path), tmp_path / 'renamed', steps='0').run()
    assert_same_weights(trained / 'walk', tmp_path / 'renamed', 0)
    torch.save(dict(content, ema_state_dict=state), tmp_path / 'renamed.pth')
    path['protocol.checkpoint.revise_keys'] = []
    WalkRunner(extension(trained, new_data, **path), tmp_path / 'averaged', steps='0').open()
    assert 'its averaged weights (EMA) are used' in capsys.readouterr().out
    torch.save(dict(ema_state_dict=state), tmp_path / 'renamed.pth')
    refused(extension(trained, new_data, **path), tmp_path / 'w', 'and no state_dict')


def test_it_is_one_thing_or_the_other(trained, new_data, tmp_path):
    with pytest.raises(InputError, match='give one of them'):
        WalkRunner(extension(trained, new_data), tmp_path / 'w', start_from='x').prepare()


BACKBONES = dict(
    resnet=dict(
        type='ResNetV1c',
        depth=18,
        base_channels=8,
        stem_channels=8,
        out_indices=(0, 1, 2, 3),
        norm_cfg=dict(type='BN'),
    ),
    mit=dict(
        type='MixVisionTransformer',
        embed_dims=8,
        num_layers=[1, 1, 1, 1],
        num_heads=[1, 1, 1, 1],
        sr_ratios=[8, 4, 2, 1],
        mlp_ratio=2,
    ),
)
HEADS = dict(
    deeplabv3plus=(
        'resnet',
        dict(
            type='DepthwiseSeparableASPPHead',
            in_channels=64,
            in_index=3,
            channels=16,
            dilations=(1, 2),
            c1_in_channels=8,
            c1_channels=8,
        ),
    ),
    segformer=(
        'mit',
        dict(
            type='SegformerHead',
            in_channels=[8, 8, 8, 8],
            in_index=[0, 1, 2, 3],
            channels=16,
        ),
    ),
    upernet=(
        'resnet',
        dict(
            type='UPerHead',
            in_channels=[8, 16, 32, 64],
            in_index=[0, 1, 2, 3],
            pool_scales=(1, 2),
            channels=16,
        ),
    ),
)
CITYSCAPES = get_classes('cityscapes')


@pytest.mark.parametrize('name', HEADS)
def test_a_network_of_a_model_zoo_says_of_old_classes_what_it_said(
    new_data, tmp_path, name, capsys
):
    backbone, head = HEADS[name]
    model = dict(
        type='EncoderDecoder',
        data_preprocessor=dict(type='SegDataPreProcessor', size=(24, 24)),
        backbone=BACKBONES[backbone],
        decode_head=dict(head, num_classes=19, norm_cfg=dict(type='BN'), dropout_ratio=0.1),
        train_cfg=dict(),
        test_cfg=dict(mode='whole'),
    )
    init_default_scope('mmseg_cil')
    torch.manual_seed(3)
    old = MODELS.build(model)
    old.init_weights()
    content = dict(state_dict=old.state_dict(), meta=dict(CLASSES=CITYSCAPES, PALETTE=[]))
    torch.save(content, tmp_path / 'old.pth')
    Config(dict(model=model)).dump(tmp_path / 'old.py')
    cfg = extension(tmp_path, new_data, 'lwf')
    cfg.protocol.steps = [['blue', 'grey']]
    runner = WalkRunner(cfg, tmp_path / 'walk').open()
    assert 'pixels that nobody labelled are void' in capsys.readouterr().out
    walk = runner.walk
    assert not walk.protocol.taxonomy.has_background
    assert walk.seen_names(0) == list(CITYSCAPES)
    inputs = StepInputs(runner._snapshot(0), runner._snapshot(0), walk.train_images)
    grown = MODELS.build(training_config(walk, 1, inputs).model)
    grown.init_weights()
    image = torch.randn(1, 3, 48, 48)
    with torch.no_grad():
        expected = old.eval().encode_decode(image, [dict(img_shape=(48, 48))])
        found = grown.eval().encode_decode(image, [dict(img_shape=(48, 48))])
    assert found.shape[1] == 21
    torch.testing.assert_close(found[:, :19], expected)
    # Without a background, what nobody labelled is no class.
    labels = walk.protocol.train_table(1)[[0, 1, 7, 11]]
    assert labels.tolist() == [255, 19, 20, 255]
    cfg = extension(tmp_path, new_data, 'mib')
    refused(cfg, tmp_path / 'mib', 'the row of the background, and the classes .* have none')


@pytest.fixture(scope='module')
def without_background(tmp_path_factory):
    """A folder with the config and the checkpoint of a network that has no background."""
    folder = tmp_path_factory.mktemp('without_background')
    cfg = tiny_config(folder, 'finetune')
    model = cfg.model.to_dict()
    model['decode_head']['num_classes'] = 3
    for head in [model.get('auxiliary_head')] if model.get('auxiliary_head') else []:
        head['num_classes'] = 3
    init_default_scope('mmseg_cil')
    torch.manual_seed(5)
    network = MODELS.build(model)
    network.init_weights()
    meta = dict(CLASSES=('road', 'car', 'sky'), PALETTE=[])
    torch.save(dict(state_dict=network.state_dict(), meta=meta), folder / 'old.pth')
    Config(dict(model=model)).dump(folder / 'old.py')
    return folder


def without(folder, new_data, method, **changes):
    cfg = extension(folder, new_data, method, **changes)
    cfg.protocol.policy = dict(unlabelled='old')
    if cfg.method.get('classifier_init') in ('balanced', 'copied_background'):
        cfg.method.classifier_init = 'random'
    return cfg


@pytest.mark.parametrize('method', ['mib', 'plop', 'rcil', 'vdfd'])
def test_a_network_without_background_learns_where_new_classes_are_not(
    without_background, new_data, tmp_path, method
):
    cfg = without(without_background, new_data, method)
    runner = WalkRunner(cfg, tmp_path / 'walk')
    walk = runner.open().walk
    config = training_config(walk, 1, StepInputs(None, None, walk.train_images))
    assert config.model.step.old_labels_hidden and not config.model.step.has_background
    runner.run()
    assert weights(tmp_path / 'walk', 2)['decode_head.conv_seg.weight'].shape[0] == 5


def test_a_loss_that_would_take_unlabelled_pixels_for_the_first_class_is_refused(
    without_background, new_data, tmp_path
):
    cfg = without(without_background, new_data, 'finetune')
    refused(cfg, tmp_path / 'w', r'CrossEntropyLoss takes the label 0 for the first class')
    cfg = without(without_background, new_data, 'finetune')
    cfg.protocol.policy = dict(unlabelled='void')
    WalkRunner(cfg, tmp_path / 'walk', steps='0').run()
