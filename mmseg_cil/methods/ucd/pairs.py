"""The contrast over all pairs of cells, without a matrix of all pairs."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

#: How the positives' scores are shifted, see :func:`contrast_sum`.
SHIFTS = ('consistent', 'official')
#: Label of a cell that is in no pair.
LEFT_OUT = -1
#: Number of pairs in a chunk. On a CPU a chunk should stay in the cache; a GPU is fastest with few,
#: large kernels (2**24 pairs are 64 MiB in float32).
_PAIRS = {'cpu': 2**20, 'other': 2**24}


class Cells(NamedTuple):
    """Cells on one side of the pairs.

    Attributes:
        vectors: ``(A, D)``, of length 1.
        labels: ``(A,)`` int64 model ids, or :data:`LEFT_OUT`.
        sure: ``(A,)`` bool: a pair of two sure cells has weight 1.
        probabilities: ``(A, O)``, the teacher's, whose product is the weight of all other pairs.
    """

    vectors: Tensor
    labels: Tensor
    sure: Tensor
    probabilities: Tensor


class Pairing(NamedTuple):
    """Settings of :func:`contrast_sum`.

    Attributes:
        temperature: Divides the products of two vectors.
        shift: One of :data:`SHIFTS`.
        first: Place, among the other cells, of the first anchor: no cell is paired with itself.
        most_pairs: Number of pairs that are held at a time; by default, what suits the device.
    """

    temperature: float = 0.07
    shift: str = 'consistent'
    first: int = 0
    most_pairs: int | None = None


def contrast_sum(anchors: Cells, others: Cells, pairing: Pairing) -> tuple[Tensor, Tensor]:
    r"""Compute the sum over anchors of :func:`~mmseg_cil.methods.ucd.reference.contrast`.

    With :math:`s_{ij} = a_i \cdot c_j / \tau` and :math:`n_i = \log \sum_k e^{s_{ik}}` over the
    cells k of other labels, the loss of an anchor is a weighted mean over the cells j of its label,

    .. math:: \frac{1}{|P_i|} \sum_{j \in P_i} w_{ij} \log(1 + e^{n_i - s_{ij} + m_i})

    with :math:`m_i = 0`, or, in the official form, :math:`m_i = \max_j s_{ij}`, because the
    official code subtracts the maximum from the positives' scores after it has summed the
    exponentials of the negatives' scores.

    Only anchors have gradients, the other cells are constants. Values and gradients of a chunk of
    anchors are computed at the same time and exactly. No more pairs than those of a chunk are
    ever held, and what is saved for the backward pass has the size of the anchors.

    Args:
        anchors: A cells with gradients.
        others: M cells without gradients; the A cells from ``pairing.first`` on are the anchors.
        pairing: Settings.

    Returns:
        The sum over anchors that have a positive, and their number: scalars of the vectors' type.
        Without such an anchor both are 0, and the sum keeps the graph.
    """
    return _Contrast.apply(anchors.vectors, anchors, others, pairing)


class _Contrast(torch.autograd.Function):
    """See :func:`contrast_sum`."""

    @staticmethod
    def forward(
        ctx: Any, vectors: Tensor, anchors: Cells, others: Cells, pairing: Pairing
    ) -> tuple[Tensor, Tensor]:
        total, number = vectors.new_zeros(2).unbind()
        gradient = torch.zeros_like(vectors) if ctx.needs_input_grad[0] else None
        kind = vectors.device.type
        most = pairing.most_pairs or _PAIRS.get(kind, _PAIRS['other'])
        step = max(1, most // max(len(others.labels), 1))
        with torch.autocast(kind, enabled=False):
            for start in range(0, len(vectors), step):
                rows = slice(start, start + step)
                chunk = Cells(*(part[rows] for part in anchors))
                loss, paired, each = _of_chunk(chunk, others, pairing, start, gradient is not None)
                total, number = total + loss, number + paired
                if gradient is not None and each is not None:
                    gradient[rows] = each
        ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(number)
        return total, number

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_total: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * of_total, None, None, None


def _of_chunk(
    anchors: Cells, others: Cells, pairing: Pairing, start: int, needs_gradient: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return loss and number of a chunk's anchors, and the loss's gradient for them.

    Args:
        anchors: B anchors.
        others: M cells.
        pairing: Settings.
        start: Place of the chunk among the anchors.
        needs_gradient: Whether to compute the gradient.
    """
    # All below are (B, M), or (B, 1) with one number per anchor.
    scores = (anchors.vectors @ others.vectors.T).div_(pairing.temperature)
    there = others.labels != LEFT_OUT
    same = anchors.labels.unsqueeze(1) == others.labels
    negative = ((anchors.labels != LEFT_OUT).unsqueeze(1) & there).logical_and_(~same)
    positive = same.logical_and_(there)
    itself = torch.arange(len(positive), device=scores.device) + start + pairing.first
    positive.scatter_(1, itself.unsqueeze(1), False)
    count = positive.sum(dim=1, keepdim=True)
    against = scores.masked_fill(~negative, -torch.inf).logsumexp(dim=1, keepdim=True)
    reach = against - scores
    if pairing.shift == 'official':
        reach += scores.masked_fill(~there, -torch.inf).amax(dim=1, keepdim=True)
    weight = anchors.probabilities @ others.probabilities.T
    weight.masked_fill_(anchors.sure.unsqueeze(1) & others.sure, 1.0)
    weight.mul_(positive).div_(count.clamp(min=1))
    loss = (weight * functional.softplus(reach)).sum()
    if not needs_gradient:
        return loss, (count > 0).sum(), None
    # The share of each pair: how far its score is from being large enough.
    share = weight.mul_(reach.sigmoid_())
    # Without negatives there is no share, and nothing to subtract.
    scores.sub_(against.masked_fill(against.isinf(), 0.0))
    scores.masked_fill_(negative.logical_not_(), -torch.inf).exp_()
    scores.mul_(share.sum(dim=1, keepdim=True)).sub_(share)
    each = (scores @ others.vectors).div_(pairing.temperature)
    return loss, (count > 0).sum(), each
