"""Logits of a teacher for whole images."""

import pytest
import torch
from mmengine.config import ConfigDict
from mmseg.models.utils import resize

from mmseg_cil.models.teacher import Teacher
from mmseg_cil.testing.networks import base_step, network, snapshot

#: The network sees crops of one size alone: each of its patches has a position of its own.
FIXED = dict(
    type='MAE',
    img_size=(32, 32),
    patch_size=16,
    embed_dims=16,
    num_layers=2,
    num_heads=2,
    mlp_ratio=2,
    out_indices=(1,),
)


def teacher(tmp_path, mode, **model):
    config = network()
    config.update(model)
    base_step(config, tmp_path / 'step.pth')
    config['test_cfg'] = ConfigDict(mode=mode, crop_size=(32, 32), stride=(24, 24))
    kept = snapshot(tmp_path / 'step.pth', 3)
    return Teacher(config, kept['checkpoint'], num_classes=3)


def test_without_windows_they_are_the_records_resized(tmp_path):
    plain = teacher(tmp_path, 'whole')
    images = torch.randn(1, 3, 40, 56)
    record = plain(images)
    expected = resize(record.logits, size=(40, 56), mode='bilinear', align_corners=False)
    assert torch.equal(plain.image_logits(images), expected)
    sliding = teacher(tmp_path, 'slide')
    assert torch.equal(sliding.image_logits(images, windows=False), expected)


def test_windows_are_those_of_evaluation(tmp_path):
    head = dict(type='FCNHead', in_channels=16, in_index=0, channels=8, num_convs=1, num_classes=3)
    sliding = teacher(tmp_path, 'slide', backbone=FIXED, decode_head=head)
    images = torch.randn(2, 3, 40, 56)
    logits = sliding.image_logits(images)
    assert logits.shape == (2, 3, 40, 56) and not logits.requires_grad
    corner = sliding.image_logits(images[..., :32, :32], windows=False)
    # No other window reaches the first 8 rows and 24 columns.
    torch.testing.assert_close(logits[..., :8, :24], corner[..., :8, :24])
    with pytest.raises(RuntimeError, match='size of tensor'):
        sliding.image_logits(images, windows=False)
