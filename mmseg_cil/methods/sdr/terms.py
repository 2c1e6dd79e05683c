"""The four losses of SDR's features, from sums over classes."""

from __future__ import annotations

import torch
from torch import Tensor

from mmseg_cil.methods.sdr.class_sums import ClassCells, greatest_of_all, total_of_all

#: Cells whose normalised features sum to less are left out of the sparsity.
LEAST_SUM = 1e-3
#: The official code adds this to divisors.
_EPS = 1e-15
#: In the official form, cells whose normalised features sum to less have no gradient.
_LEAST_GRADED = 1e-9


def class_means(sums: Tensor, counts: Tensor) -> Tensor:
    """Return means ``(C, D)`` of sums ``(C, D)`` over ``(C,)`` cells; 0 without a cell."""
    return sums / counts.clamp(min=1).unsqueeze(1)


def mean_over(values: Tensor, chosen: Tensor) -> Tensor:
    """Return the mean of chosen values; 0, with the graph, if there are none."""
    return values.where(chosen, 0.0).sum() / chosen.sum().clamp(min=1)


def matching(means: Tensor, prototypes: Tensor, chosen: Tensor) -> Tensor:
    """Compute the mean squared distance of old classes' features from their prototypes.

    Args:
        means: ``(C, D)`` mean features of the batch, by the teacher's classes.
        prototypes: ``(C, D)``.
        chosen: ``(C,)`` bool, the classes that count.

    Returns:
        The mean over these classes and over channels.
    """
    return mean_over((means - prototypes).square().mean(dim=1), chosen)


def attraction(
    cells: ClassCells, counts: Tensor, prototypes: Tensor, chosen: Tensor, official: bool = False
) -> Tensor:
    """Compute the mean squared distance of cells from the prototypes of their classes.

    Args:
        cells: The cells of this process, by their labels.
        counts: ``(C,)``, the number of cells of each class, over all processes.
        prototypes: ``(C, D)``.
        chosen: ``(C,)`` bool, the n classes that count.
        official: Whether the classes weigh, in the order of their ids, ``n ** -n`` to ``n ** -1``,
            because the official code divides the running sum after every class.

    Returns:
        The mean over classes of the means over cells and channels.
    """
    squares = total_of_all(cells.squares(prototypes))
    each = squares / (counts.clamp(min=1) * prototypes.shape[1])
    if not official:
        return mean_over(each, chosen)
    number = chosen.sum().clamp(min=1).to(each.dtype)
    place = chosen.cumsum(dim=0)
    return (each.where(chosen, 0.0) * number ** (place - number - 1)).sum()


def separation(means: Tensor, chosen: Tensor) -> Tensor:
    """Compute the mean inverse distance of the mean features of two classes.

    Args:
        means: ``(C, D)`` mean features of the batch, by its labels.
        chosen: ``(C,)`` bool, the classes that count.

    Returns:
        The mean over pairs of classes at different points; 0 if there are none.
    """
    # Not by a matrix product, whose rounding spoils small distances.
    distances = torch.cdist(means, means, compute_mode='donot_use_mm_for_euclid_dist')
    pairs = chosen.unsqueeze(1) & chosen & (distances > 0)
    return mean_over(1 / distances.where(pairs, 1.0), pairs)


def sparsity(features: Tensor, labels: Tensor, num_classes: int, official: bool = False) -> Tensor:
    r"""Compute how little the features of a cell concentrate on a few channels.

    Features are divided by the greatest feature of any channel and cell of their class. With
    the quotients :math:`g_d` of a cell, its loss is
    :math:`\sum_d e^{g_d} / \sum_d g_d`. Cells of no class, such as void, are normalised together.

    Args:
        features: ``(N, D, h, w)``.
        labels: ``(N, h, w)`` ids; all ids outside ``[0, C)`` are one further class.
        num_classes: C.
        official: Whether the loss is 0 where all cells are labelled 0, and all cells count. By
            default, cells of a class without a positive feature are left out, and cells whose
            quotients sum to less than :data:`LEAST_SUM`, such as cells without any feature. In the
            official form, the gradient of such a cell, which overflows, is left out.

    Returns:
        The mean over cells.
    """
    flat = features.movedim(1, -1).flatten(0, 2)
    own = labels.flatten()
    own = own.where((own >= 0) & (own < num_classes), num_classes)
    ids = torch.arange(num_classes + 1, device=own.device)
    member = own == ids.unsqueeze(1)
    in_cells = flat.amax(dim=1)
    greatest = greatest_of_all(in_cells.where(member, -torch.inf).amax(dim=1))
    # A class that is nowhere has no greatest feature, and no cell either.
    least = -torch.inf if official else 0.0
    positive = greatest > least
    divisors = greatest.where(positive, 1.0) + (_EPS if official else 0.0)
    quotients = flat / divisors[own].unsqueeze(1)
    total = quotients.sum(dim=1)
    if official:
        # The gradient of a cell without features would be infinite.
        graded = total.abs() >= _LEAST_GRADED
        quotients = quotients.where(graded.unsqueeze(1), quotients.detach())
        total = total.where(graded, total.detach())
        each = quotients.exp().sum(dim=1) / (total + _EPS)
        used = torch.ones_like(own, dtype=torch.bool)
    else:
        used = (total >= LEAST_SUM) & positive[own]
        # Quotients of a class that counts are at most 1, and those of others at most 0.
        each = quotients.exp().sum(dim=1) / total.where(used, 1.0)
    number = total_of_all(used.sum().to(each.dtype)).clamp(min=1)
    loss = total_of_all(each.where(used, 0.0).sum()) / number
    if not official:
        return loss
    others = total_of_all((own != 0).sum().to(each.dtype))
    sums = total_of_all(quotients.detach().sum())
    return loss.where((others > 0) & (sums > 0), 0.0 * loss)
