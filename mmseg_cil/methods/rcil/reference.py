"""RCIL's pooled cube as the paper states it, for reading and for tests, not for training.

Where official code exists, tests compare these forms with stored numbers of that code. Other
tests compare the forms used in training, which are in ``pooled_cube``, with these forms.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from mmseg_cil.methods.rcil.pooled_cube import CHANNELS, SIZES, _norms


def channel_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Compute the Frobenius norm of the difference of two squared maps pooled over channels.

    This is the plain form. The average is over a channel and its two neighbours; the
    missing neighbours of the first and the last channel count as zero.

    Source: as for :func:`spatial_distance`; ``features_distillation_channel``.

    Args:
        student: ``(N, C, H, W)``.
        teacher: The same shape.

    Returns:
        ``(N,)``, not negative.
    """
    pooled = [
        functional.avg_pool2d(
            (feature**2).flatten(2).unsqueeze(1),
            (CHANNELS, 1),
            stride=1,
            padding=(CHANNELS // 2, 0),
        )
        for feature in (student, teacher)
    ]
    return _norms(pooled[0] - pooled[1])


def spatial_distance(student: Tensor, teacher: Tensor, sizes: Sequence[int] = SIZES) -> Tensor:
    r"""Compute the distance of two squared maps pooled over squares, in its plain form.

    .. math:: \frac{1}{|K|} \sum_{k \in K} \big\| \mathrm{avg}_k(a^2)
              - \mathrm{avg}_k(b^2) \big\|_F

    Windows of k x k pixels lie at stride 1, with k // 2 zeros around the map
    that count in the averages. A map may therefore be smaller than a window, and
    there are (H + 1)(W + 1) windows of an even side.

    Source: Zhang et al., "Representation Compensation Networks for Continual
    Semantic Segmentation", CVPR 2022, section 3.3; zhangchbin/RCIL
    ``train.py``, ``features_distillation_spatial``.

    Args:
        student: ``(N, C, H, W)``.
        teacher: The same shape.
        sizes: Sides of the windows, K.

    Returns:
        ``(N,)``, not negative.
    """
    norms = []
    for size in sizes:
        pooled = [
            functional.avg_pool2d(feature**2, size, stride=1, padding=size // 2)
            for feature in (student, teacher)
        ]
        norms.append(_norms(pooled[0] - pooled[1]))
    return torch.stack(norms).mean(dim=0)
