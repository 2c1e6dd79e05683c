"""PLOP as the paper states it, for reading and for tests; training does not use it.

Where official code exists, tests compare these forms with stored numbers of that code. Other
tests compare the forms used in training, which are in ``local_pod`` and ``pseudo_labels``, with
these forms.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from mmseg_cil.losses.precision import at_least_float32
from mmseg_cil.methods.plop.local_pod import SCALES, region_edges


def local_pod(maps: Tensor, scales: Sequence[int] = SCALES, regions: str = 'even') -> Tensor:
    """Compute the local POD embedding in its plain form.

    For every scale, region row and region column the embedding has the means over the
    region's width, ordered by channel and then by row, followed by the means over the
    region's height, ordered by channel and then by column. Maps are not squared here.

    Source: Douillard et al., "PLOP: Learning without Forgetting for Continual
    Semantic Segmentation", CVPR 2021, equations 3 to 5.

    Args:
        maps: ``(N, C, H, W)``.
        scales: Number of regions along each axis, for each scale.
        regions: See :func:`region_edges`.

    Returns:
        ``(N, E)``; with even regions ``E = C * sum_s (s * H + s * W)``.

    Raises:
        InputError: As :func:`region_edges`.
    """
    parts = []
    for scale in scales:
        rows, columns = region_edges(maps.shape[2], maps.shape[3], scale, regions)
        for top, bottom in itertools.pairwise(rows):
            for left, right in itertools.pairwise(columns):
                region = maps[:, :, top:bottom, left:right]
                parts += [region.mean(dim=3).flatten(1), region.mean(dim=2).flatten(1)]
    return torch.cat(parts, dim=1)


def pseudo_label_cross_entropy(logits: Tensor, labels: Tensor, factors: Tensor) -> Tensor:
    """Compute the cross-entropy per pixel times the factor of the image.

    Args:
        logits: ``(N, C, H, W)``. Half precision is computed in float32.
        labels: ``(N, H, W)`` model ids; 255 is ignored.
        factors: ``(N, 1, 1)``.

    Returns:
        ``(N, H, W)``, zero at ignored pixels.
    """
    loss = functional.cross_entropy(
        at_least_float32(logits), labels.long(), ignore_index=255, reduction='none'
    )
    return loss * factors


def uncertainty(teacher_logits: Tensor) -> Tensor:
    r"""Compute the entropy of every pixel as a fraction of the greatest possible, in [0, 1].

    :math:`u = -\frac{1}{\log O} \sum_c p_c \log p_c`, Douillard et al., CVPR 2021, section 3.3.
    This is the plain form; :func:`predicted_with_uncertainty` keeps less in memory.

    Args:
        teacher_logits: ``(N, O, H, W)``. Half precision is computed in float32.

    Returns:
        ``(N, H, W)``; zero where O is 1.

    Example:
        >>> # Equal logits are as unsure as can be, whatever the number of classes.
        >>> uncertainty(torch.zeros(1, 5, 1, 1)).item()
        1.0
    """
    logs = at_least_float32(teacher_logits).log_softmax(dim=1)
    num_old = logs.shape[1]
    if num_old == 1:
        return torch.zeros_like(logs[:, 0])
    # If p underflows to 0, p log p must be 0 too, so an infinite logarithm is clamped.
    products = logs.exp() * logs.clamp(min=torch.finfo(logs.dtype).min)
    return -products.sum(dim=1) / math.log(num_old)
