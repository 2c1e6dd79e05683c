"""Sums of sigmoid losses, and of logits of chosen classes, without the logits of every pixel.

Like :mod:`~mmseg_cil.losses.pixel_statistics`, whose blocks of classes are used here: nothing of
the size ``(N, C, H, W)`` exists, and the backward pass enlarges the logits again.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import softplus

from mmseg_cil.losses.pixel_statistics import Grid, at_labels, label_index
from mmseg_cil.losses.precision import at_least_float32

#: Least number of classes of a block where the work of a block is mostly that of its k maps.
_WIDTH = 16


def sigmoid_sums(
    logits: Tensor,
    labels: Tensor | None,
    grid: Grid,
    start: int = 0,
    stop: int | None = None,
    teacher_logits: Tensor | None = None,
    ignore_index: int = 255,
) -> tuple[Tensor, Tensor | None]:
    r"""Compute the binary cross-entropy at every pixel, summed over some of the classes.

    .. math:: \sum_{start \le c < stop} \mathrm{softplus}(z_c) - q_c z_c

    with the teacher's sigmoids q as targets, or the target 0. A positive of the labels adds
    :math:`-z_y`, so the logit of the label is returned beside the sum.

    Args:
        logits: ``(N, C, h, w)``. Half precision is computed in float32, the enlarging included.
        labels: ``(N, H, W)`` integer model ids in ``[0, C)``, or ``ignore_index``; or None. Any
            other label gives NaN, because a check of the labels would make the GPU wait.
        grid: Size of the labels, and how logits are enlarged to it.
        start: First class of the sum.
        stop: The class after the last; by default C.
        teacher_logits: ``(N, stop - start, h', w')``, of these classes alone, or None.
        ignore_index: Label whose pixels count as class 0.

    Returns:
        The sum, and the logit of the pixel's label, which is 0 if the label is outside of the
        classes of the sum, or None without labels. Both are ``(N, H, W)``, at least float32, and
        can be differentiated once with respect to ``logits``.
    """
    teacher = None if teacher_logits is None else at_least_float32(teacher_logits.detach())
    stop = logits.shape[1] if stop is None else stop
    index = None if labels is None else label_index(labels, ignore_index)
    total, own = _SigmoidSums.apply(at_least_float32(logits), teacher, index, grid, (start, stop))
    return total, own


def weighted_logits(logits: Tensor, weights: Tensor, classes: Tensor, grid: Grid) -> Tensor:
    """Return a weighted sum of the logits of k classes, which may differ from pixel to pixel.

    Args:
        logits: ``(N, C, h, w)``. Half precision is computed in float32, the enlarging included.
        weights: ``(N, k, H, W)``, without gradient.
        classes: ``(N, k, H, W)`` int64 in ``[0, C)``. Any other number gives NaN.
        grid: Size of ``classes``, and how logits are enlarged to it.

    Returns:
        ``(N, H, W)``, at least float32, which can be differentiated once by the logits.
    """
    logits = at_least_float32(logits)
    found: Tensor = _WeightedLogits.apply(logits, weights.detach().to(logits), classes, grid)
    return found


def _unknown(index: Tensor, logits: Tensor) -> Tensor:
    """Return 0 for every index of a class, and NaN for any other number."""
    known = (index >= 0) & (index < logits.shape[1])
    return torch.where(known, 0.0, torch.nan).to(logits.dtype)


class _SigmoidSums(torch.autograd.Function):
    """See :func:`sigmoid_sums`."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        teacher: Tensor | None,
        index: Tensor | None,
        grid: Grid,
        classes: tuple[int, int],
    ) -> tuple[Tensor, Tensor | None]:
        total = logits.new_zeros(len(logits), *grid.size)
        own = None if index is None else _unknown(index, logits)  # (N, 1, H, W)
        for block in grid.blocks(logits, *classes):
            values = grid.enlarge(logits[:, block])  # (N, c, H, W), logits of a block
            if index is not None and own is not None:
                inside, place = at_labels(index, block)
                own = torch.where(inside, values.gather(1, place), own)
            each = softplus(values)
            if teacher is not None:
                each.sub_(values.mul_(_targets(teacher, block, classes[0], grid)))
            total += each.sum(dim=1)
        ctx.save_for_backward(logits, teacher, index)
        ctx.settings = grid, classes
        return total, None if own is None else own.squeeze(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_total: Tensor, of_own: Tensor | None) -> tuple[Tensor | None, ...]:
        logits, teacher, index = ctx.saved_tensors
        grid, (start, stop) = ctx.settings
        gradient = torch.zeros_like(logits)  # (N, C, h, w)
        for block in grid.blocks(logits, start, stop):
            # (N, c, H, W): sigmoid(z) - q, the derivative of the sum, times its gradient.
            each = grid.enlarge(logits[:, block]).sigmoid_()
            if teacher is not None:
                each.sub_(_targets(teacher, block, start, grid))
            each.mul_(of_total.unsqueeze(1))
            if index is not None and of_own is not None:
                inside, place = at_labels(index, block)
                each.scatter_add_(1, place, of_own.unsqueeze(1) * inside)
            gradient[:, block] = grid.shrink(each, logits.shape[2:])
        return gradient, None, None, None, None


def _targets(teacher: Tensor, block: slice, start: int, grid: Grid) -> Tensor:
    """Return the teacher's sigmoids ``(N, c, H, W)`` of a block of the student's classes."""
    return grid.enlarge(teacher[:, block.start - start : block.stop - start]).sigmoid_()


class _WeightedLogits(torch.autograd.Function):
    """See :func:`weighted_logits`."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, weights: Tensor, classes: Tensor, grid: Grid) -> Tensor:
        total = _unknown(classes, logits).sum(dim=1)  # (N, H, W)
        for block in grid.blocks(logits, 0, logits.shape[1], _WIDTH):
            inside, place = at_labels(classes, block)
            # (N, k, H, W): the logits of those of the k classes that are in the block.
            values = grid.enlarge(logits[:, block]).gather(1, place)
            total += values.mul_(weights).mul_(inside).sum(dim=1)
        ctx.save_for_backward(logits, weights, classes)
        ctx.grid = grid
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_total: Tensor) -> tuple[Tensor | None, ...]:
        logits, weights, classes = ctx.saved_tensors
        grid: Grid = ctx.grid
        gradient = torch.empty_like(logits)
        scaled = weights * of_total.unsqueeze(1)  # (N, k, H, W)
        for block in grid.blocks(logits, 0, logits.shape[1], _WIDTH):
            inside, place = at_labels(classes, block)
            width = block.stop - block.start
            each = scaled.new_zeros(len(logits), width, *grid.size)
            each.scatter_add_(1, place, scaled * inside)
            gradient[:, block] = grid.shrink(each, logits.shape[2:])
        return gradient, None, None, None
