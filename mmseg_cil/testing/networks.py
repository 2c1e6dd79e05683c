"""Thin networks of every kind of head, and small batches for them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import Tensor

from mmseg_cil.models import IncrementalEncoderDecoder
from mmseg_cil.models.plain import plain_state_dict
from mmseg_cil.registry import MODELS

NORM = dict(type='BN', requires_grad=True)
RESNET = dict(
    type='ResNet',
    depth=18,
    base_channels=8,
    num_stages=4,
    out_indices=(0, 1, 2, 3),
    strides=(1, 2, 2, 1),
    dilations=(1, 1, 1, 2),
    norm_cfg=NORM,
    contract_dilation=True,
)
MIT = dict(
    type='MixVisionTransformer',
    embed_dims=8,
    num_layers=[1, 1, 1, 1],
    num_heads=[1, 1, 1, 1],
    sr_ratios=[8, 4, 2, 1],
)
DEEP: dict[str, Any] = dict(in_channels=64, in_index=3, channels=12)
STAGES: dict[str, Any] = dict(in_index=[0, 1, 2, 3], channels=12)
HEADS: dict[str, dict[str, Any]] = {
    'ASPPHead': dict(**DEEP, dilations=(1, 2)),
    'DepthwiseSeparableASPPHead': dict(**DEEP, dilations=(1, 2), c1_in_channels=8, c1_channels=4),
    'PSPHead': dict(**DEEP, pool_scales=(1, 2)),
    'FCNHead': dict(**DEEP, num_convs=1),
    'UPerHead': dict(**STAGES, in_channels=[8, 16, 32, 64], pool_scales=(1, 2)),
    'SegformerHead': dict(**STAGES, in_channels=[8, 8, 8, 8]),
}
AUXILIARIES = ('none', 'single', 'list')
UNKD = dict(type='LogitDistiller', loss=dict(type='UnbiasedKnowledgeDistillationLoss'))


def network(
    head: str = 'FCNHead',
    auxiliary: str = 'none',
    loss: str = 'UnbiasedCrossEntropyLoss',
    **head_changes: object,
) -> dict[str, Any]:
    """Return the config of a plain EncoderDecoder; its number of classes is a placeholder.

    Args:
        head: A key of :data:`HEADS`.
        auxiliary: One of :data:`AUXILIARIES`, which selects the auxiliary heads.
        loss: Type of the loss of every head.
        **head_changes: Settings of the decode head.
    """
    common: dict[str, Any] = dict(num_classes=19, loss_decode=dict(type=loss), norm_cfg=NORM)
    mit = head == 'SegformerHead'

    def fcn(index: int) -> dict[str, Any]:
        return dict(
            common,
            type='FCNHead',
            in_channels=8 if mit else 8 * 2**index,
            in_index=index,
            channels=6,
            num_convs=1,
            loss_decode=dict(type=loss, loss_weight=0.4),
        )

    heads = {'none': None, 'single': fcn(2), 'list': [fcn(1), fcn(2)]}
    return dict(
        type='EncoderDecoder',
        data_preprocessor=dict(type='SegDataPreProcessor', size=(32, 32), seg_pad_val=255),
        backbone=copy.deepcopy(MIT if mit else RESNET),
        decode_head=dict(common, type=head, **{**copy.deepcopy(HEADS[head]), **head_changes}),
        auxiliary_head=heads[auxiliary],
        train_cfg=dict(),
        test_cfg=dict(mode='whole'),
    )


def segmentor(
    config: Mapping[str, Any],
    counts: Sequence[int],
    has_background: bool = True,
    class_steps: Sequence[int] | None = None,
    index: int | None = None,
    **arguments: object,
) -> IncrementalEncoderDecoder:
    """Build the package's segmentor at a step of a walk.

    Args:
        config: The config, from :func:`network`.
        counts: Number of new classes of every step.
        has_background: Whether class 0 is the background.
        class_steps: The step of every output; None: it follows from ``counts``.
        index: The step; the last step by default.
        **arguments: Arguments of the segmentor.
    """
    class_steps = class_steps or [k for k, count in enumerate(counts) for _ in range(count)]
    content = copy.deepcopy(dict(config))
    heads = content['auxiliary_head']
    for head in [content['decode_head'], *(heads if isinstance(heads, list) else [heads])]:
        if head is not None:
            head['num_classes'] = len(class_steps)
    step = dict(
        index=len(counts) - 1 if index is None else index,
        class_steps=class_steps,
        has_background=has_background,
        old_labels_hidden=has_background,
    )
    content.update(type='IncrementalEncoderDecoder', step=step, **arguments)
    init_default_scope('mmseg_cil')
    model: IncrementalEncoderDecoder = MODELS.build(ConfigDict(content))
    return model


def base_step(
    config: Mapping[str, Any], path: str | Path, count: int = 3, **arguments: object
) -> IncrementalEncoderDecoder:
    """Build a network of step 0 with normally drawn classifiers, and save it in plain form."""
    torch.manual_seed(0)
    model = segmentor(config, [count], **arguments)  # type: ignore[arg-type]
    model.init_weights()
    with torch.no_grad():
        for head in model.heads.values():
            for name in ('weight', 'bias'):
                head.get_parameter(f'conv_seg.{name}').normal_()
    torch.save(dict(state_dict=plain_state_dict(model.state_dict()), meta={}), path)
    return model.eval()


def snapshot(path: str | Path, num_classes: int) -> dict[str, Any]:
    """Return the config entry that names the checkpoint of an earlier step."""
    return dict(checkpoint=str(path), num_classes=num_classes)


def next_step(
    config: Mapping[str, Any],
    path: str | Path,
    counts: Sequence[int] = (3, 2),
    distillers: Sequence[Mapping[str, Any]] = (UNKD,),
    **arguments: object,
) -> IncrementalEncoderDecoder:
    """Build the network of the step after :func:`base_step`, whose network is the teacher too."""
    old = snapshot(path, sum(counts[:-1]))
    torch.manual_seed(1)
    parts: dict[str, Any] = dict(previous=old, teacher=old, distillers=list(distillers))
    model = segmentor(config, list(counts), **{**parts, **arguments})
    model.init_weights()
    return model


def batch(
    num_classes: int, size: int = 32, count: int = 2, seed: int = 0
) -> tuple[Tensor, list[SegDataSample]]:
    """Draw images and their labels, in which the first two rows are void.

    Returns:
        Images (count, 3, size, size), and ``count`` samples.
    """
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 3, size, size, generator=generator)
    samples = []
    for _ in range(count):
        labels = torch.randint(0, num_classes, (1, size, size), generator=generator)
        labels[:, :2] = 255
        sample = SegDataSample(gt_sem_seg=PixelData(data=labels))
        shape = (size, size)
        sample.set_metainfo(dict(img_shape=shape, ori_shape=shape, pad_shape=shape))
        samples.append(sample)
    return images, samples
