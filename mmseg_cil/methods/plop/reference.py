"""PLOP as the paper states it: to be read and tested against, not trained with.

Stored numbers of the official code, where there is some, pin these forms, and tests compare the
forms that train with them: those are in ``local_pod``, ``pseudo_labels``.
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
    """The local POD embedding, stated plainly.

    For every scale, region row and region column: the mean over the region's
    width, channels before rows, then the mean over its height, channels before
    columns. Maps are not squared here.

    Source: Douillard et al., "PLOP: Learning without Forgetting for Continual
    Semantic Segmentation", CVPR 2021, equations 3 to 5.

    Args:
        maps: ``(N, C, H, W)``.
        scales: Regions along each axis, for each scale.
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
    """Cross-entropy per pixel times the factor of the image.

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
    r"""Entropy of every pixel as a fraction of the greatest possible, in [0, 1].

    :math:`u = -\frac{1}{\log O} \sum_c p_c \log p_c`, Douillard et al., CVPR 2021, section 3.3.
    Stated plainly; :func:`predicted_with_uncertainty` keeps less.

    Args:
        teacher_logits: ``(N, O, H, W)``. Half precision is computed in float32.

    Returns:
        ``(N, H, W)``; zero where O is 1.
    """
    logs = at_least_float32(teacher_logits).log_softmax(dim=1)
    num_old = logs.shape[1]
    if num_old == 1:
        return torch.zeros_like(logs[:, 0])
    # Below the least number p is 0 and so is p log p, whatever the logarithm says.
    products = logs.exp() * logs.clamp(min=torch.finfo(logs.dtype).min)
    return -products.sum(dim=1) / math.log(num_old)
