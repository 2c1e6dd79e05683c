r"""Divergences over unions of disjoint sets of classes, from a few maps per set.

Let *segments* b be disjoint sets of classes, with temperature-scaled logits t of
a teacher and z of a student, and let

.. math:: a_b = \log \sum_{c \in b} e^{t_c}, \quad s_b = \log \sum_{c \in b} e^{z_c},
          \quad d_b = \sum_{c \in b} \frac{e^{t_c}}{e^{a_b}} (t_c - z_c) .

By the chain rule of the divergence, for any set g of segments, with the softmax
of both inside g,

.. math:: KL_g = \log \sum_{b \in g} e^{s_b} - \log \sum_{b \in g} e^{a_b}
          + \sum_{b \in g} \frac{e^{a_b}}{\sum_{b' \in g} e^{a_{b'}}} d_b ,

so that the divergences over all 2^S - 1 unions of S segments need only 3 S numbers
per pixel, and each divergence only a few operations: sums over segments are matrix
products with the ``(G, S)`` table that says which group has which segment.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmseg_cil.losses.pixel_statistics import Grid
from mmseg_cil.losses.precision import at_least_float32

#: Number of groups times pixels of one pass. On a CPU a pass should stay in the cache.
_PASS = {'cpu': 2**18, 'other': 2**25}
#: Bound in nats on how much less likely than the likeliest a segment may be. Within this bound
#: exp stays above 0 in float64.
_RANGE = 700.0


def soft_difference(
    student_logits: Tensor, teacher_logits: Tensor, grid: Grid
) -> tuple[Tensor, Tensor]:
    r"""Compute the teacher's expectation of its difference to the student, over one set of classes.

    Args:
        student_logits: ``(N, C, h, w)``, of these classes alone.
        teacher_logits: ``(N, C, h, w)``. Half precision of student or teacher is
            computed in float32.
        grid: Size at which both are compared, and how logits are enlarged to it.

    Returns:
        The teacher's log-sum-exp :math:`a`, without gradient; and
        :math:`d = \sum_c q_c (t_c - z_c)` with the teacher's softmax q, which can be
        differentiated once with respect to the student. Both are ``(N, H, W)``, at
        least float32. No tensor of the size ``(N, C, H, W)`` is kept.
    """
    logsumexp, difference = _SoftDifference.apply(
        at_least_float32(student_logits), at_least_float32(teacher_logits.detach()), grid
    )
    return logsumexp, difference


def mean_group_divergence(
    student: Tensor, teacher: Tensor, difference: Tensor, members: Tensor
) -> Tensor:
    """Compute the mean over groups of the divergence of the student from the teacher, per pixel.

    The result is exact if, for teacher and student each, all segments are at most 700
    nats less likely than the pixel's likeliest segment, and finite beyond. Sums over
    segments are in float64, because all segments of a group may be that unlikely.

    Args:
        student: ``(N, S, H, W)`` log-sum-exp of the student over each segment.
        teacher: ``(N, S, H, W)`` log-sum-exp of the teacher, which gets no gradient.
        difference: ``(N, S, H, W)`` teacher's expectation of its difference to the
            student within each segment (:func:`soft_difference`).
        members: ``(G, S)`` bool: the segments of each group, at least one per group.

    Returns:
        ``(N, H, W)``, in nats, in the number format of ``student``. The mean can be
        differentiated once.
    """
    mean: Tensor = _MeanGroupDivergence.apply(student, teacher.detach(), difference, members)
    return mean


class _SoftDifference(torch.autograd.Function):
    """See :func:`soft_difference`."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
        # (N, C, h, w): t - z, enlarged block by block.
        gap = teacher - student
        shape = len(teacher), 1, *grid.size
        # (N, 1, H, W): sums of exp(t) and of exp(t) (t - z), relative to the greatest t so far.
        greatest = teacher.new_full(shape, torch.finfo(teacher.dtype).min)
        mass, product = teacher.new_zeros(shape), teacher.new_zeros(shape)
        for block in grid.blocks(teacher, 0, teacher.shape[1]):
            # (N, c, H, W): the teacher's logits of the c classes of a block.
            values = grid.enlarge(teacher[:, block])
            now = torch.maximum(greatest, values.amax(dim=1, keepdim=True))
            rescale, greatest = (greatest - now).exp_(), now
            # From here values is exp(t), then exp(t) (t - z), relative to the new greatest t.
            values.sub_(now).exp_()
            mass = mass.mul_(rescale).add_(values.sum(dim=1, keepdim=True))
            values.mul_(grid.enlarge(gap[:, block]))
            product = product.mul_(rescale).add_(values.sum(dim=1, keepdim=True))
        logsumexp = mass.log().add_(greatest)
        ctx.save_for_backward(teacher, logsumexp)
        ctx.grid = grid
        logsumexp = logsumexp.squeeze(1)
        ctx.mark_non_differentiable(logsumexp)
        return logsumexp, product.div_(mass).squeeze(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, _: Tensor, of_difference: Tensor) -> tuple[Tensor | None, ...]:
        teacher, logsumexp = ctx.saved_tensors
        gradient = torch.empty_like(teacher)
        for block in ctx.grid.blocks(teacher, 0, teacher.shape[1]):
            # (N, c, H, W): q_c times the incoming gradient; dd/dz_c is -q_c (see the return).
            each = ctx.grid.enlarge(teacher[:, block]).sub_(logsumexp).exp_()
            each.mul_(of_difference.unsqueeze(1))
            # The adjoint of enlarging is the same for teacher and student.
            gradient[:, block] = ctx.grid.shrink(each, teacher.shape[2:])
        return gradient.neg_(), None, None


def _passes(maps: Tensor, groups: int) -> Iterator[tuple[int, slice]]:
    """Yield image and pixels of every pass over maps ``(N, S, P)``."""
    kind = maps.device.type
    step = max(1, _PASS.get(kind, _PASS['other']) // groups)
    for image in range(len(maps)):
        for first in range(0, maps.shape[2], step):
            yield image, slice(first, first + step)


def _relative(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``exp`` of maps ``(S, P)`` minus each pixel's greatest, and the greatest ``(P,)``.

    Both are in float64.
    """
    maps = maps.double()
    greatest = maps.amax(dim=0)
    return (maps - greatest).clamp_(min=-_RANGE).exp_(), greatest


class _MeanGroupDivergence(torch.autograd.Function):
    """See :func:`mean_group_divergence`. The derivatives are computed on the way forward."""

    @staticmethod
    def forward(
        ctx: Any, student: Tensor, teacher: Tensor, difference: Tensor, members: Tensor
    ) -> Tensor:
        # table is (G, S); the maps become (N, S, P) with P = H * W.
        table, size = members.double(), student.shape[2:]
        student, teacher, difference = (
            tensor.flatten(2) for tensor in (student, teacher, difference)
        )
        mean = student.new_empty(len(student), student.shape[2])
        of_student, of_difference = torch.empty_like(student), torch.empty_like(student)
        for image, pixels in _passes(student, len(table)):
            # (S, p) relative exp(a_b) and exp(s_b) at the p pixels of the pass; (p,) maxima.
            old, highest_old = _relative(teacher[image, :, pixels])
            new, highest_new = _relative(student[image, :, pixels])
            # (G, p): 1 over the sum of a group's segments.
            inverse_old, inverse_new = (table @ old).reciprocal_(), (table @ new).reciprocal_()
            # (S, p) derivatives: means over groups of a segment's share of its group.
            of_student[image, :, pixels] = new.mul_(table.T @ inverse_new).div_(len(table))
            # (G, p): sum over a group's segments of exp(a_b) d_b.
            expected = table @ (old * difference[image, :, pixels])
            of_difference[image, :, pixels] = (table.T @ inverse_old).mul_(old).div_(len(table))
            # (G, p): KL_g, up to the difference of the two maxima, which is added to the mean.
            each = expected.mul_(inverse_old).add_(inverse_old.div_(inverse_new).log_())
            mean[image, pixels] = each.mean(dim=0).add_(highest_new).sub_(highest_old)
        ctx.save_for_backward(of_student, of_difference)
        return mean.unflatten(1, size)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_mean: Tensor) -> tuple[Tensor | None, ...]:
        of_mean = of_mean.unsqueeze(1)
        of_student, of_difference = (
            saved.view(*saved.shape[:2], *of_mean.shape[2:]) * of_mean
            for saved in ctx.saved_tensors
        )
        return of_student, None, of_difference, None
