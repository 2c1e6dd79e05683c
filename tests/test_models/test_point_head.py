"""PointRend: its second head grows, and learns at points by the losses of a method."""

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmseg.models.decode_heads import point_head
from torch.nn import functional

from mmseg_cil.models.heads import main_head
from mmseg_cil.models.plain import plain_model_config, plain_state_dict
from mmseg_cil.registry import MODELS
from mmseg_cil.testing.networks import NORM, batch, network, snapshot

PLOP = dict(type='PseudoLabelCrossEntropyLoss')
UNBIASED = dict(type='UnbiasedCrossEntropyLoss')
POD = dict(type='LocalPODDistiller')


def sample(maps, points, **options):
    """Compute the result of MMCV's operator ``point_sample``."""
    grid = 2.0 * points.unsqueeze(2) - 1.0
    return functional.grid_sample(maps, grid, **options).squeeze(3)


@pytest.fixture(autouse=True)
def operator(monkeypatch):
    monkeypatch.setattr(point_head, 'point_sample', sample)
    init_default_scope('mmseg_cil')


def segmentor(loss, counts=(3,), **arguments):
    classes = sum(counts)
    config = network()
    config.pop('auxiliary_head')
    common = dict(num_classes=classes, loss_decode=loss)
    config.update(
        type='IncrementalCascadeEncoderDecoder',
        num_stages=2,
        decode_head=[
            dict(
                common,
                type='FPNHead',
                in_channels=[8, 16],
                in_index=[0, 1],
                channels=12,
                feature_strides=[4, 8],
                norm_cfg=NORM,
                dropout_ratio=-1,
            ),
            dict(
                common,
                type='PointHead',
                in_channels=[8],
                in_index=[0],
                channels=6,
                num_fcs=2,
                dropout_ratio=-1,
            ),
        ],
        train_cfg=dict(num_points=24, oversample_ratio=3, importance_sample_ratio=0.75),
        test_cfg=dict(mode='whole', subdivision_steps=1, subdivision_num_points=20, scale_factor=2),
        step=dict(
            index=len(counts) - 1,
            has_background=True,
            old_labels_hidden=True,
            class_steps=[k for k, count in enumerate(counts) for _ in range(count)],
        ),
    )
    model = MODELS.build(ConfigDict(dict(config, **arguments)))
    model.init_weights()
    return model


def steps(loss, path, **arguments):
    torch.manual_seed(0)
    first = segmentor(loss)
    torch.save(dict(state_dict=plain_state_dict(first.state_dict()), meta={}), path)
    second = segmentor(
        loss, (3, 2), previous=snapshot(path, 3), teacher=snapshot(path, 3), **arguments
    )
    return first, second


def test_points_of_old_classes_are_scored_as_before(tmp_path):
    first, second = steps(UNBIASED, tmp_path / 'x.pth', distillers=[POD])
    assert main_head(second)[0] == 'decode_head.0'
    fine, coarse = torch.randn(1, 8, 4), torch.randn(1, 5, 4)
    with torch.no_grad():
        expected = first.decode_head[1].forward(fine, coarse[:, :3])
        found = second.decode_head[1].forward(fine, coarse)
    torch.testing.assert_close(found[:, :3], expected)
    images, _ = batch(5)
    with torch.no_grad():
        assert second.eval().predict(images)[0].seg_logits.data.shape[0] == 5


def test_the_plain_network_takes_what_grew(tmp_path):
    _, second = steps(UNBIASED, tmp_path / 'x.pth', distillers=[POD])
    config = dict(second._network_config, type='CascadeEncoderDecoder')
    plain = MODELS.build(plain_model_config(config, 5))
    assert type(plain).__name__ == 'CascadeEncoderDecoder'
    plain.load_state_dict(plain_state_dict(second.state_dict()), strict=True)


def test_points_learn_by_the_methods_loss(tmp_path):
    _, model = steps(UNBIASED, tmp_path / 'x.pth', distillers=[POD])
    images, samples = batch(5)
    for data_sample in samples:
        # The step says of all pixels that they are background: nothing of old classes is wrong.
        data_sample.gt_sem_seg.data.fill_(0)
    model.train()
    with torch.no_grad():
        for head in model.decode_head:
            layer = head.conv_seg if hasattr(head, 'conv_seg') else head.fc_seg
            layer.weight.zero_()
            layer.bias.copy_(torch.tensor([-20.0, 20.0, -20.0, -20.0, -20.0]))
    found = model.loss(images, samples)
    assert found['decode_1.pointloss_unce'] < 1e-4 and found['decode_1.acc_point'] == 0.0
    assert 'decode_0.loss_unce' in found and 'distill.loss_pod' in found


def test_pseudo_labels_of_points_are_the_teachers_at_these_points(tmp_path):
    _, model = steps(PLOP, tmp_path / 'x.pth', distillers=[POD])
    images, samples = batch(5)
    for data_sample in samples:
        data_sample.gt_sem_seg.data.fill_(0)
    for module in model.modules():
        if hasattr(module, 'set_thresholds'):
            module.set_thresholds(torch.full((5,), 2.0))
    with torch.no_grad():
        # A teacher that is sure of class 2 everywhere.
        teacher = model.teacher.network.decode_head[0].conv_seg
        teacher.weight.zero_()
        teacher.bias.copy_(torch.tensor([-20.0, -20.0, 20.0]))
        points = model.decode_head[1].fc_seg
        points.weight.zero_()
        points.bias.copy_(torch.tensor([-20.0, -20.0, 20.0, -20.0, -20.0]))
    found = model.train().loss(images, samples)
    assert found['decode_1.pointloss_plop'] < 1e-4
    with torch.no_grad():
        points.bias.copy_(torch.tensor([20.0, -20.0, -20.0, -20.0, -20.0]))
    assert model.loss(images, samples)['decode_1.pointloss_plop'] > 10.0


def test_one_output_is_the_background_everywhere():
    model = MODELS.build(
        ConfigDict(
            dict(
                network(),
                type='IncrementalCascadeEncoderDecoder',
                num_stages=2,
                step=dict(index=0, class_steps=[0], has_background=True, old_labels_hidden=True),
                decode_head=[
                    dict(
                        type='FCNHead',
                        in_channels=64,
                        in_index=3,
                        channels=4,
                        num_convs=1,
                        num_classes=1,
                        norm_cfg=NORM,
                        loss_decode=UNBIASED,
                    ),
                    dict(
                        type='OCRHead',
                        in_channels=64,
                        in_index=3,
                        channels=4,
                        ocr_channels=4,
                        num_classes=1,
                        norm_cfg=NORM,
                        loss_decode=UNBIASED,
                    ),
                ],
            )
        )
    )
    images, _ = batch(1)
    with torch.no_grad():
        result = model.eval().predict(images)[0]
    assert result.pred_sem_seg.data.dtype == torch.int64
    assert not result.pred_sem_seg.data.any() and result.seg_logits.data.shape[0] == 1
