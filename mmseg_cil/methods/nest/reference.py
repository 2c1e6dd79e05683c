"""NeST in plain form, for reading and for tests; training does not use it.

Tests compare these forms with stored numbers of the official code, and the fast forms with these.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def importance(
    embedding: Tensor, probabilities: Tensor, labels: Tensor, weight: Tensor, class_id: int
) -> Tensor:
    """Return the importance of old rows and channels for one new class, ``(O, D)``.

    A channel of an old class helps a pixel where it raises the old class's score. The mean over
    the new class's pixels is weighted by the probability of the old class.

    Source: zhengyuan-xie/ECCV24_NeST ``train.py``, ``select``.

    Args:
        embedding: ``(n, D)``, the input of the classifier at n pixels.
        probabilities: ``(n, O)``, of the old classes.
        labels: ``(n,)``.
        weight: ``(O, D)``, rows of the old classes.
        class_id: The new class, which n or fewer pixels show, at least one.

    Example:
        >>> embedding = torch.tensor([[1.0, -1.0], [1.0, 1.0]])
        >>> probabilities = torch.tensor([[0.2, 0.8], [0.6, 0.4]])
        >>> weight = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
        >>> found = importance(embedding, probabilities, torch.tensor([2, 2]), weight, class_id=2)
        >>> [[round(value, 1) for value in row] for row in found.tolist()]
        [[0.4, 0.3], [0.0, 0.4]]
    """
    total, count = torch.zeros_like(weight), 0
    for feature, shares, label in zip(embedding, probabilities, labels, strict=True):
        if int(label) != class_id:
            continue
        count += 1
        for old, row in enumerate(weight):
            total[old] += shares[old] * ((feature * row).relu() > 0)
    return total / count


def new_row(mixing: Tensor, importance: Tensor, weight: Tensor) -> Tensor:
    """Return the row of a new class, ``(D,)``.

    Args:
        mixing: ``(O,)``, shares of the old classes.
        importance: ``(O, D)``.
        weight: ``(O, D)``, rows of the old classes.

    Example:
        >>> weight = torch.tensor([[2.0, 0.0], [0.0, 4.0]])
        >>> new_row(torch.tensor([0.5, 0.5]), torch.ones(2, 2), weight).tolist()
        [1.0, 2.0]
    """
    row = torch.zeros_like(weight[0])
    for old, parts in enumerate(importance * weight):
        row += mixing[old] * parts
    return row


def scaled(values: Sequence[Tensor], to: Sequence[Tensor]) -> list[Tensor]:
    """Return vectors times one factor, so that their mean length is that of others.

    Source: ``segmentation_module.py``, ``align_weight``.

    Example:
        >>> (row,) = scaled([torch.tensor([3.0, 4.0])], to=[torch.tensor([0.0, 10.0])])
        >>> row.tolist()
        [6.0, 8.0]
    """
    lengths, others = ([float(vector.norm()) for vector in group] for group in (values, to))
    factor = (sum(others) / len(others)) / (sum(lengths) / len(lengths))
    return [vector * factor for vector in values]
