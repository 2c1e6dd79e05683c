"""UCD's contrast with all pairs at once, for reading and for tests; training does not use it.

Tests compare these forms with stored numbers of the official code, and the form used in training,
which is in ``pairs``, with these forms.
"""

from __future__ import annotations

import torch
from torch import Tensor


def attended(features: Tensor) -> Tensor:
    r"""Return a map times its attention, the sum of squares over channels, of length 1 an image.

    The attention is a positive factor of each cell's vector and has no gradient. The contrast
    divides each vector by its length, so the attention changes neither its value nor its
    gradient, and training leaves it out.

    Source: ygjwd12345/UCD ``segmentation_module.py``, ``att_map``.

    Args:
        features: ``(N, D, h, w)``.

    Returns:
        ``(N, D, h, w)``.
    """
    attention = features.detach().square().sum(dim=1)
    lengths = attention.flatten(1).norm(dim=1).view(-1, 1, 1)
    return (attention / lengths).unsqueeze(1) * features


def pair_weights(
    probabilities: Tensor, other_probabilities: Tensor, sure: Tensor, others_sure: Tensor
) -> Tensor:
    """Return the weights ``(A, M)`` of pairs: that both cells show one class, to the teacher.

    Source: Yang et al., "Uncertainty-aware Contrastive Distillation for Incremental Semantic
    Segmentation", TPAMI 2022; ygjwd12345/UCD ``utils/loss.py``, ``pre_contrastive_pixel``.

    Args:
        probabilities: ``(A, O)``, the teacher's at the anchors.
        other_probabilities: ``(M, O)``, the teacher's at the other cells.
        sure: ``(A,)`` bool, anchors whose label needs no teacher.
        others_sure: ``(M,)`` bool.

    Example:
        >>> half, certain = torch.tensor([[0.5, 0.5]]), torch.tensor([[1.0, 0.0]])
        >>> no, yes = torch.tensor([False]), torch.tensor([True])
        >>> pair_weights(half, certain, yes, no).item(), pair_weights(half, half, yes, yes).item()
        (0.5, 1.0)
    """
    weights = probabilities @ other_probabilities.T
    return weights.masked_fill(sure.unsqueeze(1) & others_sure, 1.0)


def contrast(
    anchors: Tensor,
    others: Tensor,
    labels: Tensor,
    other_labels: Tensor,
    weights: Tensor,
    temperature: float = 0.07,
    shift: str = 'consistent',
) -> Tensor:
    r"""Compute the contrastive loss of each anchor that has a positive.

    With :math:`s_{ij} = a_i \cdot c_j / \tau`, the positives :math:`P_i` (the cells of the
    anchor's label, the anchor itself excepted) and the sum :math:`N_i` of
    :math:`e^{s_{ik}}` over the cells k of other labels, the loss of an anchor is

    .. math:: -\frac{1}{|P_i|} \sum_{j \in P_i}
              w_{ij} \left[ s_{ij} - \log(e^{s_{ij}} + N_i) \right]

    The official form subtracts the greatest score of the anchor from every :math:`s_{ij}`, but
    after :math:`N_i` has been summed, which weighs the negatives by the exponential of that score.

    Source: as :func:`pair_weights`; ``PixelConLossV2`` in the same file.

    Args:
        anchors: ``(A, D)``, of length 1.
        others: ``(M, D)``, of length 1, the anchors first; constants.
        labels: ``(A,)`` model ids.
        other_labels: ``(M,)`` model ids.
        weights: ``(A, M)`` of :func:`pair_weights`.
        temperature: Tau.
        shift: 'consistent' or 'official'.

    Returns:
        ``(B,)``, the losses of the B anchors that have a positive.

    Example:
        >>> cells, labels = torch.eye(3), torch.tensor([1, 1, 1])
        >>> contrast(cells, cells, labels, labels, torch.ones(3, 3)).count_nonzero().item()
        0
    """
    scores = anchors @ others.T / temperature
    same = labels.unsqueeze(1) == other_labels
    negatives = (scores.exp() * ~same).sum(dim=1, keepdim=True)
    if shift == 'official':
        scores = scores - scores.detach().amax(dim=1, keepdim=True)
    positive = same & ~torch.eye(*scores.shape, dtype=torch.bool)
    each = weights * (scores - (scores.exp() + negatives).log())
    count = positive.sum(dim=1)
    loss = -(each * positive).sum(dim=1)[count > 0] / count[count > 0]
    return loss


def official_labels(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Return labels of cells as the official code makes them: ids are interpolated like numbers.

    Between 0 and 6 lie cells with the ids 1 to 5, which nobody saw there. Void and ids above 20
    become 0.

    Source: as :func:`pair_weights`.

    Args:
        labels: ``(N, H, W)`` ids, or 255.
        size: ``(h, w)`` of the map of cells.

    Returns:
        ``(N, h, w)`` int64.
    """
    small = torch.nn.functional.interpolate(
        labels.unsqueeze(1).float(), size, mode='bilinear', align_corners=False
    )
    ids = small.squeeze(1).long()
    return ids.masked_fill(ids > 20, 0)
