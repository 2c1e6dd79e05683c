"""The losses of PointRend's second head, which classifies single points of the images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from mmseg.models.decode_heads import PointHead, point_head
from torch import Tensor

from mmseg_cil.contracts import Features, NetworkOutput, PixelLoss
from mmseg_cil.losses.pixel_logits import PixelLogits
from mmseg_cil.models.head_losses import head_losses, loss_modules, teacher_readers


def point_losses(
    head: PointHead,
    features: Features,
    coarse: Tensor,
    labels: Tensor,
    train_cfg: Mapping[str, Any],
    teacher: NetworkOutput | None,
) -> dict[str, Tensor]:
    """Compute losses at points of unsure coarse logits, as ``PointHead.loss`` draws points.

    The losses get the points of an image as a map of P pixels. Losses that
    read the teacher's logits get the teacher's logits at the same points.

    Args:
        head: The head, in training mode.
        features: Features of backbone and neck.
        coarse: ``(N, C, h, w)``, the logits of the head before.
        labels: ``(N, H, W)`` model ids or the head's ``ignore_index``.
        train_cfg: Training config of the segmentor, with the number of points.
        teacher: The last snapshot's record of the batch, or None.

    Returns:
        Scalars under the names that ``PointHead`` gives them.
    """
    maps = head._transform_inputs(features)
    with torch.no_grad():
        points = head.get_points_train(coarse, point_head.calculate_uncertainty, cfg=train_cfg)
        at_points = point_head.point_sample(
            labels.unsqueeze(1).float(), points, mode='nearest', align_corners=head.align_corners
        )
    logits = head.forward(
        head._get_fine_grained_point_feats(maps, points),
        head._get_coarse_point_feats(coarse, points),
    )
    modules = loss_modules(head)
    cuts = [cut for module in modules if isinstance(module, PixelLoss) for cut in module.cuts()]
    pixels = PixelLogits(
        logits.unsqueeze(-1),
        at_points.squeeze(1).long().unsqueeze(-1),
        cuts,
        ignore_index=head.ignore_index,
    )
    readers = teacher_readers(head)
    if teacher is not None and readers:
        sampled = point_head.point_sample(
            teacher.logits.float(), points, align_corners=head.align_corners
        )
        for reader in readers:
            reader.receive_teacher(replace(teacher, logits=sampled.unsqueeze(-1)))
    losses = head_losses(head, pixels)
    accuracy = losses.pop('acc_seg')
    return {**{f'point{name}': loss for name, loss in losses.items()}, 'acc_point': accuracy}
