"""Walks of networks whose heads are not one classifier each, up to plain MMSegmentation."""

import copy
import json

import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.errors import InputError
from mmseg_cil.registry import MODELS
from mmseg_cil.testing.tiny import tiny_config, weights
from mmseg_cil.testing.walks import logged

NORM = dict(type='BN', requires_grad=True)
CROSS = dict(type='CrossEntropyLoss', loss_weight=1.0)
HEAD = dict(in_channels=32, in_index=3, channels=8, num_classes=2, norm_cfg=NORM, loss_decode=CROSS)
SIDE = dict(HEAD, type='FCNHead', in_channels=16, in_index=2, num_convs=1, concat_input=False)
DUAL = dict(HEAD, type='DAHead', pam_channels=4)
ENCODED = dict(HEAD, type='EncHead', in_channels=(16, 32), in_index=(2, 3), num_codes=4)
CASCADE = [
    dict(HEAD, type='FCNHead', num_convs=1, loss_decode=dict(CROSS, loss_weight=0.4)),
    dict(HEAD, type='OCRHead', ocr_channels=4),
]
BOUNDARY = dict(
    SIDE,
    type='STDCHead',
    in_channels=4,
    in_index=0,
    boundary_threshold=0.1,
    loss_decode=[
        dict(type='CrossEntropyLoss', loss_name='loss_ce', use_sigmoid=True),
        dict(type='DiceLoss', loss_name='loss_dice'),
    ],
)
TRANSFORMER = dict(
    type='VisionTransformer',
    img_size=(32, 32),
    patch_size=8,
    embed_dims=16,
    num_layers=4,
    num_heads=2,
    out_indices=(0, 1, 2, 3),
    final_norm=False,
    with_cls_token=True,
    output_cls_token=True,
)
DPT = dict(
    HEAD,
    type='DPTHead',
    in_channels=(16,) * 4,
    in_index=(0, 1, 2, 3),
    embed_dims=16,
    post_process_channels=[4, 4, 8, 8],
    readout_type='project',
    patch_size=8,
    input_transform='multiple_select',
)
PIDNET = dict(
    type='PIDNet', channels=8, ppm_channels=8, num_stem_blocks=1, num_branch_blocks=1, norm_cfg=NORM
)
PID = dict(
    type='PIDHead',
    in_channels=32,
    channels=8,
    num_classes=2,
    norm_cfg=NORM,
    act_cfg=dict(type='ReLU', inplace=True),
    loss_decode=[
        dict(CROSS, loss_weight=0.4, class_weight=[0.5, 1.0, 1.0, 2.0, 2.0]),
        dict(type='OhemCrossEntropy', thres=0.9, min_kept=100, loss_weight=1.0),
        dict(type='BoundaryLoss', loss_weight=20.0),
        dict(type='OhemCrossEntropy', thres=0.9, min_kept=100, loss_weight=1.0),
    ],
)
DDRNET = dict(type='DDRNet', in_channels=3, channels=8, ppm_channels=8, norm_cfg=NORM)
DDR = dict(
    type='DDRHead',
    in_channels=32,
    channels=8,
    num_classes=2,
    norm_cfg=NORM,
    act_cfg=dict(type='ReLU', inplace=True),
    loss_decode=[
        dict(type='OhemCrossEntropy', thres=0.9, min_kept=100, loss_weight=1.0),
        dict(type='OhemCrossEntropy', thres=0.9, min_kept=100, loss_weight=0.4),
    ],
)


def heads(decode, auxiliary=None, **model):
    return dict(decode_head=decode, auxiliary_head=auxiliary, **model)


KINDS = {
    'DANet': heads(DUAL, SIDE),
    'EncNet': heads(ENCODED),
    'OCRNet': heads(CASCADE, type='CascadeEncoderDecoder', num_stages=2),
    'STDC': heads(
        dict(
            HEAD,
            type='FCNHead',
            num_convs=1,
            sampler=dict(type='OHEMPixelSampler', thresh=0.7, min_kept=50),
        ),
        [SIDE, BOUNDARY],
    ),
    'DPT': heads(DPT, backbone=TRANSFORMER),
    'PIDNet': heads(PID, backbone=PIDNET),
    'DDRNet': heads(DDR, backbone=DDRNET),
}


def config_of(kind, data_root, method, **changes):
    """A walk of two steps of two iterations."""
    cfg = tiny_config(data_root, method)
    cfg.model.pop('auxiliary_head')
    for key, value in copy.deepcopy(KINDS[kind]).items():
        cfg.model.pop(key, None)
        if value is not None:
            cfg.model[key] = value
    size = 64 if kind in ('PIDNet', 'DDRNet') else 32
    cfg.model.data_preprocessor.size = (size, size)
    pipeline = cfg.train_dataloader.dataset.pipeline
    pipeline[2] = dict(type='Resize', scale=(size, size))
    if kind == 'PIDNet':
        pipeline.insert(-1, dict(type='GenerateEdge', edge_width=4))
    # Maps of the test images have the size of a batch's.
    cfg.test_dataloader.dataset.pipeline.insert(1, dict(type='Resize', scale=(size, size)))
    cfg.protocol.steps = [['background', 'red', 'green'], ['blue', 'grey']]
    cfg.step_overrides = {0: dict(max_iters=2), 'later': dict(max_iters=2)}
    cfg.merge_from_dict(changes)
    return cfg


def walked(cfg, work_dir):
    scheduler = WalkRunner(cfg, work_dir).open()
    scheduler.run()
    steps = json.loads((work_dir / 'metrics.json').read_text())['steps']
    assert len(steps) == 2 and steps[1]['mIoU']['all'] is not None
    for step in (0, 1):
        lines = logged(work_dir, step)
        assert len(lines) == 2 and all(line['loss'] == line['loss'] for line in lines)
        check_plain(work_dir, step)
    return lines


def check_plain(work_dir, step):
    """MMSegmentation alone builds the network of a step and takes its weights."""
    cfg = Config.fromfile(work_dir / f'step_{step:02d}' / 'config.py')
    with DefaultScope.overwrite_default_scope('mmseg'):
        plain = MODELS.parent.build(cfg.model)
    assert type(plain).__module__.startswith('mmseg.')
    plain.load_state_dict(weights(work_dir, step), strict=True)


@pytest.mark.parametrize(
    ('kind', 'method', 'losses'),
    [
        ('DANet', 'mib', {'decode.pam.loss_unce', 'aux.loss_unce', 'distill.loss_unkd'}),
        ('OCRNet', 'plop', {'decode_0.loss_plop', 'decode_1.loss_plop', 'distill.loss_pod'}),
        (
            'STDC',
            'mib',
            {'aux_1.loss_ce', 'aux_1.loss_dice', 'aux_0.loss_unce', 'decode.loss_unce'},
        ),
        pytest.param('DPT', 'vdfd', {'regularise.loss_vdfd'}, marks=pytest.mark.slow),
        ('PIDNet', 'plop', {'decode.loss_sem_p', 'decode.loss_bd', 'distill.loss_pod'}),
        pytest.param(
            'EncNet', 'plop', {'decode.loss_se', 'distill.loss_pod'}, marks=pytest.mark.slow
        ),
        pytest.param(
            'DDRNet', 'mib', {'decode.loss_context', 'distill.loss_unkd'}, marks=pytest.mark.slow
        ),
    ],
)
def test_a_walk_of_an_unusual_network(kind, method, losses, data_root, tmp_path):
    lines = walked(config_of(kind, data_root, method), tmp_path / 'w')
    assert losses <= lines[-1].keys()


METHODS = (
    'finetune', 'mib', 'plop', 'rcil', 'vdfd', 'lwf_mc', 'icarl', 'm2kd', 'dkd', 'lgkd',
    'mib_ucd', 'reminder', 'sdr', 'caf', 'mib_awt', 'mib_nest', 'mib_ewf', 'dft_star', 'star',
    'dkd_decomposed',
)  # fmt: skip


#: Kinds whose heads a method refuses, because their outputs or losses are not those of conv_seg.
REFUSED = {
    'dft_star': ('DANet', 'EncNet', 'OCRNet', 'PIDNet', 'DDRNet'),
    'star': ('DANet', 'EncNet', 'STDC', 'PIDNet', 'DDRNet'),
}


@pytest.mark.slow
@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('kind', list(KINDS))
def test_every_kind_with_every_method(kind, method, data_root, tmp_path):
    if method == 'rcil' and KINDS[kind].get('backbone'):
        pytest.skip('RCIL branches ResNets alone, and says so')
    if (kind, method) == ('DDRNet', 'dkd_decomposed'):
        pytest.skip('with norm statistics of two iterations, held still, its maps reach 1e26')
    if method in REFUSED and kind in REFUSED[method]:
        with pytest.raises(InputError, match='such as ASPPHead'):
            WalkRunner(config_of(kind, data_root, method), tmp_path / 'w').open().run()
        return
    walked(config_of(kind, data_root, method), tmp_path / 'w')


LOSSES = {
    'weights': dict(CROSS, class_weight=(0.5, 1.0, 1.0, 2.0, 2.0)),
    'dice': [CROSS, dict(type='DiceLoss', loss_name='loss_dice', loss_weight=3.0)],
    'lovasz': (CROSS, dict(type='LovaszLoss', reduction='none', class_weight=[1.0] * 5)),
    'dice alone': dict(type='DiceLoss', use_sigmoid=False, ignore_index=0),
    'sigmoid': dict(CROSS, use_sigmoid=True, avg_non_ignore=True),
    'tversky': [CROSS, dict(type='TverskyLoss', class_weight=[1.0, 2.0, 3.0, 4.0, 5.0])],
}


@pytest.mark.slow
@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('loss', list(LOSSES))
def test_every_method_beside_the_users_losses(loss, method, data_root, tmp_path):
    cfg = tiny_config(data_root, method)
    for name in ('decode_head', 'auxiliary_head'):
        cfg.model[name]['loss_decode'] = copy.deepcopy(LOSSES[loss])
    cfg.protocol.steps = [['background', 'red', 'green'], ['grey', 'blue']]
    cfg.step_overrides = {0: dict(max_iters=2), 'later': dict(max_iters=2)}
    lines = walked(cfg, tmp_path / 'w')
    assert ('decode.loss_dice' in lines[-1]) == ('dice' in loss)


@pytest.mark.slow
@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('thresh', [None, 0.7])
def test_every_method_with_hard_pixels(method, thresh, data_root, tmp_path):
    cfg = config_of('STDC', data_root, method)
    cfg.model.decode_head.sampler.thresh = thresh
    walked(cfg, tmp_path / 'w')


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'model.decode_head.ignore_index': 0}, 'model.decode_head.ignore_index is 0'),
        (
            {'model.auxiliary_head.loss_decode': dict(CROSS, class_weight=[1.0, 2.0])},
            r'model.auxiliary_head.loss_decode.class_weight has 2 values',
        ),
        ({'model.decode_head.type': 'SegmenterMaskTransformerHead'}, 'cannot grow by the classes'),
        ({'model.type': 'SegTTAModel'}, 'tta_model'),
    ],
)
def test_what_cannot_be_right_is_refused_before_training(changes, message, data_root, tmp_path):
    with pytest.raises(InputError, match=message):
        WalkRunner(config_of('DANet', data_root, 'mib', **changes), tmp_path / 'w').prepare()
