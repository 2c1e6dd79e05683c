"""REMINDER as the paper and its code state it, for reading and for tests.

Tests compare these forms with stored numbers of the official code, and the forms used in training,
which are in ``similarity`` and ``prototypes``, with these forms.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from mmseg_cil.losses.precision import at_least_float32

#: Added to every target, so that no target is zero.
FLOOR = 1e-7


def mean_embeddings(embedding: Tensor, labels: Tensor, classes: range) -> tuple[Tensor, Tensor]:
    """Return the mean embedding of each class in a batch, over the pixels with its label.

    The embedding is enlarged to the size of the labels, bilinearly and with aligned corners.

    Source: HieuPhan33/REMINDER ``train.py``, ``compute_prototype``.

    Args:
        embedding: ``(N, D, h, w)``, the input of the classifier.
        labels: ``(N, H, W)`` model ids, or 255.
        classes: K model ids.

    Returns:
        Means ``(K, D)``, zero for a class without a pixel, and numbers of pixels ``(K,)``, int64.
    """
    enlarged = functional.interpolate(
        embedding, labels.shape[1:], mode='bilinear', align_corners=True
    ).movedim(1, -1)
    pixels = [enlarged[labels == class_id] for class_id in classes]
    means = [
        each.mean(dim=0) if len(each) else enlarged.new_zeros(each.shape[1]) for each in pixels
    ]
    return torch.stack(means), torch.tensor([len(each) for each in pixels])


def prototypes(
    embeddings: Sequence[Tensor], labels: Sequence[Tensor], classes: range
) -> tuple[Tensor, Tensor]:
    """Return the mean of each class's :func:`mean_embeddings` over the batches that show it.

    A batch counts once, however many pixels of the class it has.

    Source: as :func:`mean_embeddings`, ``update_prototypes``.

    Args:
        embeddings: ``(N, D, h, w)`` of each batch.
        labels: ``(N, H, W)`` of each batch.
        classes: K model ids.

    Returns:
        Prototypes ``(K, D)``, zero for a class without a pixel, and numbers of batches ``(K,)``.

    Example:
        >>> # A batch whose pixel of class 0 has the embedding 1, and a batch with two times 4.
        >>> batches = [torch.tensor([1.0, 9.0]), torch.tensor([4.0, 4.0])]
        >>> labels = [torch.tensor([0, 255]), torch.tensor([0, 0])]
        >>> found, count = prototypes(
        ...     [batch.view(1, 1, 1, 2) for batch in batches],
        ...     [label.view(1, 1, 2) for label in labels],
        ...     range(1),
        ... )
        >>> found.item(), count.item()
        (2.5, 2)
    """
    found = [mean_embeddings(*batch, classes) for batch in zip(embeddings, labels, strict=True)]
    shown = torch.stack([pixels > 0 for _, pixels in found])
    total = torch.stack([means for means, _ in found]).sum(dim=0)
    count = shown.sum(dim=0)
    return total / count.clamp(min=1)[:, None], count


def similarity(means: Tensor, old_prototypes: Tensor, delta: float = 0.0) -> Tensor:
    r"""Return how similar new classes are to old classes.

    .. math:: r_{yo} = \frac{\exp \cos(m_y, p_o)}{\sum_{o'} \exp \cos(m_y, p_{o'})},
              \quad \text{and } 0 \text{ where this is less than } \delta / O

    Source: Phan et al., "Class Similarity Weighted Knowledge Distillation for Continual Semantic
    Segmentation", CVPR 2022; HieuPhan33/REMINDER ``utils/loss.py``, ``ClassSimilarityWeightedKD``.

    Args:
        means: ``(K, D)`` mean embeddings of the new classes. The cosine with a vector of zeros is
            0, as in the official code.
        old_prototypes: ``(O, D)`` of the old classes, the background among them.
        delta: With 1, old classes of less than average similarity are left out; with 0, none.

    Returns:
        ``(K, O)``; with ``delta`` 0 each row sums to 1.

    Example:
        >>> # The new class looks like the second of two old ones.
        >>> similarity(torch.tensor([[0.0, 2.0]]), torch.eye(2), delta=1.0).round(decimals=2)
        tensor([[0.0000, 0.7300]])
    """
    cosines = functional.normalize(means, dim=1) @ functional.normalize(old_prototypes, dim=1).T
    shares = cosines.softmax(dim=1)
    return shares.masked_fill(shares < delta / len(old_prototypes), 0.0)


def similarity_weighted_distillation(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    shares: Tensor,
    temperature: float = 3.0,
) -> Tensor:
    r"""Compute the class-similarity weighted distillation, a scalar.

    At a pixel of a new class y the student learns from the teacher's softmax q those old classes
    that y is similar to:

    .. math:: - T^2 \sum_{o < O} (q_o \, r_{yo} + 10^{-7}) \log p_o

    with the softmax q of the teacher's logits, and p of the student's logits of the old classes
    alone, both divided by T. The loss is the mean over the pixels of new classes. The targets do
    not sum to 1: the loss is of the order of 1/O of a cross-entropy.

    Source: as :func:`similarity`. Without a pixel of a new class the official loss is not a number;
    here it is 0.

    Args:
        student_logits: ``(N, C, H, W)``.
        teacher_logits: ``(N, O, H, W)``, O < C. Half precision of student or teacher is computed
            in float32.
        labels: ``(N, H, W)`` model ids; ids from O on are new classes, and 255 is void.
        shares: ``(K, O)``, :func:`similarity` of each new class.
        temperature: T.
    """
    num_old = teacher_logits.shape[1]
    target = (at_least_float32(teacher_logits) / temperature).softmax(dim=1)
    logs = (at_least_float32(student_logits)[:, :num_old] / temperature).log_softmax(dim=1)
    new = (labels >= num_old) & (labels != 255)
    # (N, O, H, W): the shares of each pixel's class; those of other pixels are not used.
    weights = shares[(labels - num_old).clamp(0, len(shares) - 1)].movedim(-1, 1)
    loss = -((target * weights + FLOOR) * logs).sum(dim=1) * new
    return temperature**2 * loss.sum() / new.sum().clamp(min=1)
