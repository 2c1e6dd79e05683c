"""EWF as the official code computes it, for reading and for tests.

Tests compare these forms with stored numbers of the official code, and the hook, which works in
place and on the device, with these forms.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

#: Share of entries that the variant with a threshold fuses: the entries that change most.
FUSED_SHARE = 0.45


def fusion_factor(num_old: int, num_new: int) -> float:
    r"""Return the share of the end weights, :math:`\sqrt{K / (K + O)}`.

    Source: Xiao et al., "Endpoints Weight Fusion for Class Incremental Semantic Segmentation",
    CVPR 2023; schuy1er/EWF_official ``run.py``.

    Args:
        num_old: O, classes before the step, background included.
        num_new: K, classes that the step adds.

    Example:
        >>> fusion_factor(num_old=3, num_new=1)
        0.5
    """
    return math.sqrt(num_new / (num_new + num_old))


def change_threshold(old: Mapping[str, Tensor], new: Mapping[str, Tensor]) -> float:
    """Return the change that 45 % of all entries reach or exceed (``--threshold_choice``).

    Source: the same file; the paper does not mention this option.

    Args:
        old: Tensors by name.
        new: Tensors with at least the names of ``old``.
    """
    changes = torch.cat([(new[name] - value).abs().flatten() for name, value in old.items()])
    count = int(FUSED_SHARE * len(changes))
    return float(changes.sort(descending=True).values[max(count, 1) - 1])


def fuse(
    old: Mapping[str, Tensor],
    new: Mapping[str, Tensor],
    factor: float,
    threshold: float | None = None,
) -> dict[str, Tensor]:
    """Return the fused weights, ``(1 - a)`` times the old value plus ``a`` times the new one.

    Args:
        old: Floating-point tensors by name, norm statistics among them.
        new: Tensors after the step, of the same names and shapes, and those of new classes, which
            stay as they are.
        factor: a.
        threshold: Entries that changed by less keep their new value. None: all are fused.

    Example:
        >>> old, new = {'row': torch.zeros(2)}, {'row': torch.tensor([1.0, 2.0])}
        >>> fuse(old, new, factor=0.5)['row'].tolist()
        [0.5, 1.0]
    """
    result = dict(new)
    for name, before in old.items():
        after = new[name]
        fused = (1 - factor) * before + factor * after
        if threshold is not None:
            fused = torch.where((after - before).abs() < threshold, after, fused)
        result[name] = fused
    return result
