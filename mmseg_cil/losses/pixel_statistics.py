"""Statistics of the logits of every pixel, without keeping the logits of every pixel.

Cross-entropy and distillation read few numbers of a pixel's logits: log-sum-exps
over groups of classes, the logit of the label, the scalar product with the
teacher's probabilities. The functions here compute these maps from the
classifier's own, coarser output, which is enlarged a block of classes at a time.
No tensor ``(N, C, H, W)`` exists, nothing of that size is saved for the
backward pass, and a single gradient is written, at the size of the classifier's
output. The backward pass enlarges the logits again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from mmseg_cil.errors import InputError
from mmseg_cil.losses.precision import at_least_float32

#: Number of values in a block. On a CPU a block should stay in the cache; a GPU is fastest with
#: few, large kernels.
_BLOCK = {'cpu': 2**22, 'other': 2**26}
#: Number of maps that blocks leave before they become one map, so that many classes need no more
#: of them than few.
_PARTS = 4


class PixelStatistics(NamedTuple):
    """Maps of :func:`pixel_statistics`.

    Attributes:
        groups: ``(N, G, H, W)`` log-sum-exp over each group of classes.
        own: ``(N, H, W)`` logit of the pixel's label; None without labels.
        greatest: ``(N, H, W)`` greatest logit; it has no gradient.
    """

    groups: Tensor
    own: Tensor | None
    greatest: Tensor


class Grid(NamedTuple):
    """The pixels at which logits are compared with labels.

    Attributes:
        size: ``(H, W)`` that the logits are enlarged to, bilinearly.
        align_corners: As in ``torch.nn.functional.interpolate``.
    """

    size: tuple[int, int]
    align_corners: bool = False

    def enlarge(self, logits: Tensor) -> Tensor:
        """Enlarge logits ``(N, C, h, w)`` to a new tensor ``(N, C, H, W)``."""
        if tuple(logits.shape[2:]) == self.size:
            return logits.clone()
        if logits.device.type == 'cpu':
            # On a CPU, enlarging and its backward pass are several times faster with classes last.
            logits = logits.contiguous(memory_format=torch.channels_last)
        return functional.interpolate(
            logits, self.size, mode='bilinear', align_corners=self.align_corners
        )

    def shrink(self, gradient: Tensor, size: Sequence[int]) -> Tensor:
        """Apply the adjoint of :meth:`enlarge`.

        Args:
            gradient: ``(N, C, H, W)``, the gradient with respect to enlarged logits.
            size: ``(h, w)`` of the logits.

        Returns:
            ``(N, C, h, w)``, the gradient with respect to the logits.
        """
        if tuple(size) == self.size:
            return gradient
        shape = (*gradient.shape[:2], *size)
        if torch.are_deterministic_algorithms_enabled():
            # PyTorch then enlarges in another way on GPUs, whose adjoint only autograd knows.
            with torch.enable_grad():
                source = gradient.new_zeros(shape).requires_grad_()
                return torch.autograd.grad(self.enlarge(source), source, gradient)[0]
        # The same without a graph, and without the symbolic algebra that autograd.grad imports.
        found: Tensor = torch.ops.aten.upsample_bilinear2d_backward(
            gradient, self.size, shape, self.align_corners, None, None
        )
        return found

    def blocks(self, logits: Tensor, start: int, stop: int, least: int = 1) -> Iterator[slice]:
        """Yield slices of the classes from ``start`` to ``stop`` that fill a block each.

        Args:
            logits: ``(N, C, h, w)``.
            start: First class.
            stop: The class after the last.
            least: Number of classes that a block has at least, where so many are left.
        """
        kind = logits.device.type
        pixels = len(logits) * self.size[0] * self.size[1]
        step = max(1, least, _BLOCK.get(kind, _BLOCK['other']) // max(pixels, 1))
        for first in range(start, stop, step):
            yield slice(first, min(first + step, stop))


def pixel_statistics(
    logits: Tensor, labels: Tensor | None, cuts: Sequence[int], grid: Grid, ignore_index: int = 255
) -> PixelStatistics:
    """Compute statistics of the logits of every pixel, from logits of any size.

    Args:
        logits: ``(N, C, h, w)``. Half precision is computed in float32, the
            enlarging included.
        labels: ``(N, H, W)`` integer model ids in ``[0, C)``, or ``ignore_index``;
            or None. Any other label gives NaN, because a check of the labels would
            make the GPU wait.
        cuts: Class indices at which groups of classes begin and end, ascending from 0 to C.
        grid: Size of the labels, and how logits are enlarged to it.
        ignore_index: Label whose pixels get the logit of class 0 as their own.

    Returns:
        The maps, at least float32, which can be differentiated once.
    """
    groups, own, greatest = _Statistics.apply(
        at_least_float32(logits), labels, tuple(cuts), grid, ignore_index
    )
    return PixelStatistics(groups, own, greatest)


def label_scores(
    logits: Tensor, labels: Tensor, grid: Grid, ignore_index: int = 255
) -> tuple[Tensor, Tensor]:
    """Compute only ``own`` and ``greatest`` of :func:`pixel_statistics`, without gradient."""
    with torch.no_grad():
        logits = at_least_float32(logits)
        scores = _Scores(logits, labels, grid, ignore_index)
        for block in grid.blocks(logits, 0, logits.shape[1]):
            scores.add(grid.enlarge(logits[:, block]), block)
    assert scores.own is not None
    return scores.own, scores.greatest


def soft_agreement(
    student_logits: Tensor, teacher_logits: Tensor, grid: Grid, alpha: float = 1.0
) -> tuple[Tensor, Tensor]:
    r"""Compute the scalar product of the student's logits with the teacher's probabilities.

    Args:
        student_logits: ``(N, C, h, w)``, C >= O, the old classes first.
        teacher_logits: ``(N, O, h, w)``. Half precision of student or teacher is
            computed in float32.
        grid: Pixels at which both are compared.
        alpha: Multiplies the teacher's logits, before its softmax q.

    Returns:
        :math:`\sum_{0 < c < O} q_c z_c`, class 0 left out, which can be
        differentiated once with respect to the student; and :math:`q_0`. Both are
        ``(N, H, W)``, at least float32.

    Raises:
        InputError: Student and teacher differ in height or width.
    """
    if student_logits.shape[2:] != teacher_logits.shape[2:]:
        raise InputError(
            f'logits of student {tuple(student_logits.shape)} and teacher '
            f'{tuple(teacher_logits.shape)} differ in height or width: compare outputs of the same '
            'network for the same images'
        )
    agreement, first = _Agreement.apply(
        at_least_float32(student_logits), at_least_float32(teacher_logits.detach()), grid, alpha
    )
    return agreement, first


def predictions(logits: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Compute a network's prediction and its entropy for every pixel, without gradient.

    Args:
        logits: ``(N, C, h, w)``. Half precision is computed in float32.
        grid: Pixels of the predictions.

    Returns:
        The class of the greatest logit, int64, and the entropy of the softmax
        in nats, at least float32; both are ``(N, H, W)``.
    """
    with torch.no_grad():
        logits = at_least_float32(logits)
        shape = len(logits), 1, *grid.size
        # (N, 1, H, W): greatest logit so far, and its class.
        greatest, classes = logits.new_full(shape, -torch.inf), logits.new_zeros(shape).long()
        # (N, 1, H, W): sums of p and of p log p, with p = exp(logit - greatest logit so far).
        mass, product = logits.new_zeros(shape), logits.new_zeros(shape)
        for block in grid.blocks(logits, 0, logits.shape[1]):
            # (N, c, H, W): logits of the c classes of a block.
            values = grid.enlarge(logits[:, block])
            # (N, 1, H, W): greatest logit of the block, and its place in the block.
            here, place = values.max(dim=1, keepdim=True)
            classes = torch.where(here > greatest, place + block.start, classes)
            now = torch.maximum(greatest, here)
            # At the first block the greatest is still -inf, and the sums to rescale are 0.
            change = torch.where(greatest.isinf(), 0.0, greatest - now)
            rescale, greatest = change.exp(), now
            product = rescale * (product + change * mass)
            values.sub_(now)
            shares = values.exp()
            mass = rescale * mass + shares.sum(dim=1, keepdim=True)
            # If p underflows to 0, p log p must be 0 too, so an infinite logarithm is clamped.
            values.clamp_(min=torch.finfo(values.dtype).min)
            product = product + shares.mul_(values).sum(dim=1, keepdim=True)
        # With p = exp(z): -sum (p / mass) log(p / mass) is log(mass) - sum(p log p) / mass.
        entropy = mass.log() - product / mass
        return classes.squeeze(1), entropy.squeeze(1)


def label_index(labels: Tensor, ignore_index: int) -> Tensor:
    """Return labels as class indices ``(N, 1, H, W)``, with 0 for ignored labels."""
    return labels.masked_fill(labels == ignore_index, 0).unsqueeze(1).long()


def at_labels(index: Tensor, block: slice) -> tuple[Tensor, Tensor]:
    """Return which labels ``(N, 1, H, W)`` belong to a block of classes, and their places in it."""
    place = index - block.start
    width = block.stop - block.start
    return (place >= 0) & (place < width), place.clamp_(0, width - 1)


def _finite(maps: Tensor) -> Tensor:
    """Replace infinite numbers by 0, because an infinite shift before ``exp`` would give NaN."""
    return maps.masked_fill(maps.isinf(), 0.0)


def _joined(parts: list[Tensor]) -> Tensor:
    """Return the log-sum-exp of the log-sum-exps ``(N, 1, H, W)`` of blocks."""
    if len(parts) == 1:
        return parts[0]
    return torch.cat(parts, dim=1).logsumexp(dim=1, keepdim=True)


class _Scores:
    """Collects the logit of the label and the greatest logit over blocks of classes."""

    def __init__(
        self, logits: Tensor, labels: Tensor | None, grid: Grid, ignore_index: int
    ) -> None:
        maps = (len(logits), *grid.size)  # (N, H, W)
        self.greatest = logits.new_full(maps, -torch.inf)
        self.own = None if labels is None else logits.new_full(maps, torch.nan)
        self._index = None if labels is None else label_index(labels, ignore_index)

    def add(self, values: Tensor, block: slice) -> Tensor:
        """Add the logits ``(N, c, H, W)`` of a block; return their greatest ``(N, 1, H, W)``."""
        if self._index is not None and self.own is not None:
            inside, place = at_labels(self._index, block)
            own = self.own.unsqueeze(1)
            self.own = torch.where(inside, values.gather(1, place), own).squeeze(1)
        greatest = values.amax(dim=1, keepdim=True)
        self.greatest = torch.maximum(self.greatest, greatest.squeeze(1))
        return greatest


class _Statistics(torch.autograd.Function):
    """See :func:`pixel_statistics`."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        labels: Tensor | None,
        cuts: tuple[int, ...],
        grid: Grid,
        ignore_index: int,
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        scores = _Scores(logits, labels, grid, ignore_index)
        groups = []
        for start, stop in pairwise(cuts):
            parts: list[Tensor] = []
            for block in grid.blocks(logits, start, stop):
                # (N, c, H, W) logits of a block; (N, 1, H, W) shift, the greatest of them.
                values = grid.enlarge(logits[:, block])
                shift = _finite(scores.add(values, block))
                # (N, 1, H, W): the block's log-sum-exp.
                parts.append(values.sub_(shift).exp_().sum(dim=1, keepdim=True).log_().add_(shift))
                if len(parts) == _PARTS:
                    parts = [_joined(parts)]
            groups.append(_joined(parts))
        # (N, G, H, W): one log-sum-exp per group of classes.
        maps = torch.cat(groups, dim=1)
        ctx.save_for_backward(logits, labels, maps)
        ctx.settings = cuts, grid, ignore_index
        ctx.mark_non_differentiable(scores.greatest)
        return maps, scores.own, scores.greatest

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, of_groups: Tensor, of_own: Tensor | None, _: Tensor
    ) -> tuple[Tensor | None, ...]:
        logits, labels, maps = ctx.saved_tensors
        cuts, grid, ignore_index = ctx.settings
        index = None if labels is None else label_index(labels, ignore_index)
        gradient = torch.empty_like(logits)  # (N, C, h, w)
        for group, (start, stop) in enumerate(pairwise(cuts)):
            # (N, 1, H, W): the group's log-sum-exp, and the gradient that arrives at it.
            shift, scale = _finite(maps[:, group : group + 1]), of_groups[:, group : group + 1]
            for block in grid.blocks(logits, start, stop):
                # (N, c, H, W): exp(z - log-sum-exp), the group's softmax, times its gradient.
                each = grid.enlarge(logits[:, block]).sub_(shift).exp_().mul_(scale)
                if index is not None and of_own is not None:
                    inside, place = at_labels(index, block)
                    each.scatter_add_(1, place, of_own.unsqueeze(1) * inside)
                gradient[:, block] = grid.shrink(each, logits.shape[2:])
        return gradient, None, None, None, None


class _Agreement(torch.autograd.Function):
    """See :func:`soft_agreement`."""

    @staticmethod
    def forward(
        ctx: Any, student: Tensor, teacher: Tensor, grid: Grid, alpha: float
    ) -> tuple[Tensor, Tensor]:
        # (N, 1, H, W): the teacher's logit t of class 0.
        first = grid.enlarge(teacher[:, :1]).mul_(alpha)
        # (N, 1, H, W): sums of exp(t) and of exp(t) z, relative to the greatest t so far.
        greatest, mass = first.clone(), torch.ones_like(first)
        product = torch.zeros_like(first)
        for block in grid.blocks(teacher, 1, teacher.shape[1]):
            # (N, c, H, W): t of a block, then exp(t), then exp(t) z, relative to the greatest t.
            values = grid.enlarge(teacher[:, block]).mul_(alpha)
            now = torch.maximum(greatest, values.amax(dim=1, keepdim=True))
            rescale, greatest = (greatest - now).exp_(), now
            values.sub_(now).exp_()
            mass = mass.mul_(rescale).add_(values.sum(dim=1, keepdim=True))
            values.mul_(grid.enlarge(student[:, block]))
            product = product.mul_(rescale).add_(values.sum(dim=1, keepdim=True))
        normaliser = mass.log().add_(greatest)  # (N, 1, H, W): log-sum-exp of t
        ctx.save_for_backward(teacher, normaliser)
        ctx.settings = student.shape, grid, alpha
        first = first.sub_(normaliser).exp_().squeeze(1)  # q_0, (N, H, W)
        ctx.mark_non_differentiable(first)
        return product.div_(mass).squeeze(1), first

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_agreement: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        teacher, normaliser = ctx.saved_tensors
        shape, grid, alpha = ctx.settings
        # The student's (N, C, h, w); classes that the teacher does not know, and class 0, keep 0.
        gradient = teacher.new_zeros(shape)
        for block in grid.blocks(teacher, 1, teacher.shape[1]):
            # (N, c, H, W): q_c, the derivative of the agreement by z_c.
            each = grid.enlarge(teacher[:, block]).mul_(alpha).sub_(normaliser).exp_()
            each.mul_(of_agreement.unsqueeze(1))
            # The adjoint of enlarging is the same for teacher and student.
            gradient[:, block] = grid.shrink(each, shape[2:])
        return gradient, None, None, None
