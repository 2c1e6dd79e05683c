"""Configs of MMSegmentation go in as they are: by ``mmseg::``, whole or as bases, pure Python."""

import json
import shutil

import pytest
import torch
from mmengine.config import Config
from mmengine.config import utils as config_utils
from mmseg.registry import VISUALIZERS
from mmseg.visualization import SegLocalVisualizer
from PIL import Image

from mmseg_cil.engine.config import files
from mmseg_cil.engine.config.compose import compose
from mmseg_cil.engine.config.files import find_config, read_config
from mmseg_cil.engine.config.load import load_config, with_options
from mmseg_cil.engine.config.type_names import with_type_names
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.errors import InputError
from mmseg_cil.testing.tiny import (
    CLASSES,
    PALETTE,
    ROOT,
    STEPS,
    tiny_config,
    tiny_loaders,
    tiny_model,
    weights,
)
from mmseg_cil.testing.walks import logged

WHOLE = 'fcn/fcn_r50-d8_4xb4-20k_voc12aug-512x512'


@pytest.mark.parametrize('installed', ['onedl-mmsegmentation', 'mmsegmentation'])
def test_mmseg_means_whichever_mmsegmentation_is_installed(monkeypatch, installed):
    monkeypatch.setitem(config_utils.MODULE2PACKAGE, 'mmseg', 'other')
    monkeypatch.setattr(files, 'is_installed', lambda name: name == installed)
    files.know_installed_mmsegmentation()
    assert config_utils.MODULE2PACKAGE['mmseg'] == installed


def test_a_whole_stock_config_is_found_with_and_without_its_suffix():
    for name in (f'mmseg::{WHOLE}', f'mmseg::{WHOLE}.py'):
        cfg = load_config(name)
        assert cfg.model.decode_head.type == 'FCNHead' and cfg.train_cfg.max_iters == 20000
    cfg = compose(dict(method='mib', protocol='voc_15-1'), load_config(f'mmseg::{WHOLE}'))
    assert cfg.method.name == 'mib' and cfg.filename.startswith('fcn_r50-d8_4xb4-20k')


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('mmseg::fcn/nothing.py', r'there is no .*fcn/nothing\.py'),
        ('mmseg::nothing', r'there is no .*nothing\.py'),
        ('mmdet::atss/atss.py', 'mmdet is not installed'),
        ('nowhere/config.py', 'no config file nowhere/config.py'),
    ],
)
def test_a_config_that_is_not_there_is_named(name, message):
    with pytest.raises(InputError, match=message):
        find_config(name)


def test_a_wrong_base_of_mmsegmentation_is_named(tmp_path):
    (tmp_path / 'c.py').write_text("_base_ = ['mmseg::_base_/models/nothing.py']\n")
    with pytest.raises(InputError, match=r'there is no .*nothing\.py'):
        load_config(tmp_path / 'c.py')


STOCK = """
_base_ = ['mmseg::_base_/models/fcn_r50-d8.py', 'mmseg::_base_/datasets/pascal_voc12.py',
          'mmseg::_base_/default_runtime.py', 'mmseg::_base_/schedules/schedule_20k.py',
          {method!r}]
protocol = dict(name='tiny', dataset='voc', steps=[
    ['background', 'aeroplane', 'bicycle'], ['bird'], ['boat']])
crop = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'),
        dict(type='RandomCrop', crop_size=(24, 24)), dict(type='PackSegInputs')]
train_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(
    data_root={data!r}, ann_file='lists/train.txt', pipeline=crop,
    data_prefix=dict(img_path='images', seg_map_path='masks')))
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(
    data_root={data!r}, ann_file='lists/val.txt',
    data_prefix=dict(img_path='images', seg_map_path='masks')))
test_dataloader = val_dataloader
model = dict(
    pretrained=None, data_preprocessor=dict(size=(24, 24)),
    backbone=dict(depth=18, base_channels=4, stem_channels=4),
    decode_head=dict(in_channels=32, channels=8), auxiliary_head=dict(in_channels=16, channels=8))
{more}
"""


@pytest.fixture(scope='module')
def voc_root(data_root, tmp_path_factory):
    """The tiny pictures in JPEG, as MMSegmentation's class for VOC looks for them."""
    root = tmp_path_factory.mktemp('voc') / 'data'
    shutil.copytree(data_root, root, ignore=shutil.ignore_patterns('.mmseg_cil'))
    for path in (root / 'images').glob('*.png'):
        Image.open(path).save(path.with_suffix('.jpg'))
    return root


@pytest.mark.filterwarnings('ignore')
def test_a_config_of_stock_bases_is_walked(voc_root, tmp_path):
    method = str(ROOT / 'configs/_base_/methods/mib.py')
    short = "step_overrides = {0: dict(max_iters=3), 'later': dict(lr=0.001, max_epochs=1)}"
    (tmp_path / 'c.py').write_text(STOCK.format(method=method, data=str(voc_root), more=short))
    cfg = load_config(tmp_path / 'c.py')
    assert '_scope_' not in cfg.pretty_text
    WalkRunner(cfg, tmp_path / 'walk', steps='0-1').run()
    journal = json.loads((tmp_path / 'walk/journal.json').read_text())
    assert journal['iterations'] == [3, 2, 1]
    assert len(json.loads((tmp_path / 'walk/metrics.json').read_text())['steps']) == 2
    # The schedule of 20,000 iterations is stretched to those of the step.
    assert logged(tmp_path / 'walk', 0)[-1]['lr'] == pytest.approx(1e-4)


PURE = """
from mmengine.config import read_base
with read_base():
    from .pure_base import *
from mmengine.hooks import CheckpointHook, IterTimerHook, LoggerHook, ParamSchedulerHook
from mmengine.optim import OptimWrapper, PolyLR
from mmengine.runner import IterBasedTrainLoop, LogProcessor, TestLoop, ValLoop
from mmengine.visualization import LocalVisBackend
from mmseg.datasets import BaseSegDataset, LoadAnnotations, PackSegInputs, RandomCrop
from mmcv.transforms import LoadImageFromFile, RandomFlip
from mmseg.engine import SegVisualizationHook
from mmseg.evaluation import IoUMetric
from mmseg.models import CrossEntropyLoss, EncoderDecoder, FCNHead, ResNet, SegDataPreProcessor
from mmseg.visualization import SegLocalVisualizer
from torch.nn import SyncBatchNorm
from torch.optim import SGD

norm_cfg = dict(type=SyncBatchNorm, requires_grad=True)
head = dict(type=FCNHead, in_channels=32, in_index=3, channels=8, num_convs=1, concat_input=False,
            dropout_ratio=0.1, num_classes=2, norm_cfg=norm_cfg,
            loss_decode=dict(type=CrossEntropyLoss, loss_weight=1.0))
model = dict(
    type=EncoderDecoder,
    data_preprocessor=dict(type=SegDataPreProcessor, mean=[110.0] * 3, std=[60.0] * 3,
                           bgr_to_rgb=True, pad_val=0, seg_pad_val=255, size=(24, 24)),
    backbone=dict(type=ResNet, depth=18, base_channels=4, stem_channels=4, num_stages=4,
                  out_indices=(0, 1, 2, 3), strides=(1, 2, 1, 1), dilations=(1, 1, 2, 2),
                  norm_cfg=norm_cfg, norm_eval=False, style='pytorch', contract_dilation=True),
    decode_head=head, auxiliary_head=dict(head, in_channels=16, in_index=2, loss_decode=dict(
        type=CrossEntropyLoss, loss_weight=0.4)),
    train_cfg=dict(), test_cfg=dict(mode='whole'))
load = [dict(type=LoadImageFromFile), dict(type=LoadAnnotations)]
dataset.update(type=BaseSegDataset)
train_dataloader = dict(batch_size=4, num_workers=0, dataset=dict(
    dataset, ann_file='lists/train.txt', pipeline=[
        *load, dict(type=RandomCrop, crop_size=(24, 24)), dict(type=RandomFlip, prob=0.5),
        dict(type=PackSegInputs)]))
val_dataloader = dict(batch_size=1, num_workers=0, dataset=dict(
    dataset, ann_file='lists/val.txt', pipeline=[*load, dict(type=PackSegInputs)]))
test_dataloader = val_dataloader
val_evaluator = dict(type=IoUMetric, iou_metrics=['mIoU'])
test_evaluator = val_evaluator
val_cfg, test_cfg = dict(type=ValLoop), dict(type=TestLoop)
optim_wrapper = dict(type=OptimWrapper, optimizer=dict(
    type=SGD, lr=0.05, momentum=0.9, weight_decay=1e-4))
param_scheduler = [dict(type=PolyLR, power=0.9, eta_min=0.0, begin=0, end=6, by_epoch=False)]
train_cfg = dict(type=IterBasedTrainLoop, max_iters=6)
default_hooks = dict(
    timer=dict(type=IterTimerHook), logger=dict(type=LoggerHook, interval=1),
    param_scheduler=dict(type=ParamSchedulerHook),
    checkpoint=dict(type=CheckpointHook, by_epoch=False, interval=2),
    visualization=dict(type=SegVisualizationHook))
visualizer = dict(type=SegLocalVisualizer, name='visualizer', vis_backends=[
    dict(type=LocalVisBackend)])
log_processor = dict(type=LogProcessor, by_epoch=False, window_size=1)
"""

PURE_BASE = """
protocol = dict(name='tiny', dataset='tiny', steps={steps!r}, setting='overlapped')
global_batch_size = 4
step_overrides = {{0: dict(max_iters=6), 'later': dict(lr=0.02, max_iters=4)}}
randomness = dict(seed=3)
log_level = 'WARNING'
method = {method!r}
dataset = dict(data_root={data!r}, img_suffix='.png', seg_map_suffix='.png',
               metainfo=dict(classes={classes!r}, palette={palette!r}),
               data_prefix=dict(img_path='images', seg_map_path='masks'))
"""


@pytest.fixture
def pure(data_root, tmp_path):
    """A pure Python config of the walk of :func:`tiny.tiny_config`."""
    method = Config.fromfile(ROOT / 'configs/_base_/methods/mib.py').method.to_dict()
    (tmp_path / 'pure_base.py').write_text(
        PURE_BASE.format(
            steps=STEPS, method=method, data=str(data_root), classes=CLASSES, palette=PALETTE
        )
    )
    (tmp_path / 'pure.py').write_text(PURE)
    return tmp_path / 'pure.py'


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore')
def test_a_pure_python_config_is_walked_to_the_same_weights(pure, data_root, tmp_path):
    WalkRunner(load_config(pure), tmp_path / 'pure', steps='0-1').run()
    WalkRunner(tiny_config(data_root), tmp_path / 'plain', steps='0-1').run()
    for step in (0, 1):
        for key, value in weights(tmp_path / 'plain', step).items():
            assert torch.equal(value, weights(tmp_path / 'pure', step)[key]), (step, key)
    exported = Config.fromfile(tmp_path / 'pure/step_01/config.py')
    assert exported.model.decode_head.type == 'FCNHead'
    assert exported.model.backbone.norm_cfg.type == 'BN'
    # It goes on from the copy that the tool keeps, in which classes are dotted names.
    copied = load_config(pure)
    (tmp_path / 'copy.py').write_text(copied.pretty_text)
    WalkRunner(
        load_config(tmp_path / 'copy.py'), tmp_path / 'pure', steps='0-1', resume=True
    ).open()


def test_a_piece_replaces_a_part_of_a_pure_python_config(pure, monkeypatch):
    # A step's exported config, read by an earlier test, puts its own class under this name.
    monkeypatch.setitem(VISUALIZERS.module_dict, 'SegLocalVisualizer', SegLocalVisualizer)
    cfg = with_type_names(compose(dict(method='plop'), load_config(pure)))
    assert cfg.method.name == 'plop' and cfg.model.type == 'EncoderDecoder'
    assert cfg.visualizer.type == 'SegLocalVisualizer'


def test_types_have_their_registered_names_however_they_are_given():
    given = Config(
        dict(
            a=dict(type='mmseg.EncoderDecoder'),
            b=[dict(type='mmseg.models.ResNet')],
            c=dict(type=torch.optim.SGD),
            d=dict(type='torch.nn.SyncBatchNorm'),
            e=dict(type='mmpretrain.ConvNeXt'),
            f=dict(type='mmseg.NoSuchThing'),
            g=dict(type='ResNet'),
            h=(dict(type='my_package.nets.Own'),),
            i=dict(type='mmengine.model.PretrainedInit'),
        )
    )
    named = with_type_names(given)
    kinds = [
        (value[0] if isinstance(value, (list, tuple)) else value)['type']
        for value in named._cfg_dict.values()
    ]
    assert kinds == [
        'EncoderDecoder',
        'ResNet',
        'SGD',
        'SyncBN',
        'mmpretrain.ConvNeXt',
        'mmseg.NoSuchThing',
        'ResNet',
        'my_package.nets.Own',
        'Pretrained',
    ]
    assert given.a.type == 'mmseg.EncoderDecoder'


def test_names_that_ours_shadow_are_left_alone():
    cfg = Config(dict(loader=tiny_loaders('data'), model=tiny_model()))
    assert with_type_names(cfg).to_dict() == cfg.to_dict()


def test_scopes_of_other_packages_stay(tmp_path):
    (tmp_path / 'c.py').write_text(
        "a = dict(type='X', _scope_='mmpretrain')\nb = dict(type='Y', _scope_='mmseg')\n"
    )
    cfg = read_config(tmp_path / 'c.py')
    assert cfg.a == dict(type='X', _scope_='mmpretrain') and cfg.b == dict(type='Y')


def test_options_may_have_steps_as_keys():
    options = {'step_overrides': {0: dict(max_iters=6)}, 'global_batch_size': 2}
    cfg = compose(dict(method='mib', protocol='embedded_11-5'))
    later = cfg.step_overrides['later']
    with_options(cfg, options)
    assert cfg.step_overrides == {0: dict(max_iters=6), 'later': later}
    assert cfg.global_batch_size == 2
