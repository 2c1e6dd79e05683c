"""Which classes the label 0 may stand for, image by image: replayed images show old classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def hidden_mask(
    hidden: Sequence[Sequence[int] | None], num_hidden: int, num_classes: int
) -> Tensor | None:
    """For each image of a batch, the classes that its label 0 may stand for.

    Args:
        hidden: For each image its model ids besides 0, or None for an image of
            the step, to which the step's rule applies.
        num_hidden: The step's rule: that many first classes (see ``StepContext``).
        num_classes: C.

    Returns:
        bool ``(N, C)``, True for the class 0 itself; None where the step's
        rule holds for all images.
    """
    if all(classes is None for classes in hidden):
        return None
    mask = torch.zeros(len(hidden), num_classes, dtype=torch.bool)
    mask[:, 0] = True
    for row, classes in zip(mask, hidden, strict=True):
        row[list(range(num_hidden) if classes is None else classes)] = True
    return mask


def label_is_hidden(labels: Tensor, hidden: Tensor) -> Tensor:
    """Pixels whose label is one of those that stand for several classes.

    Args:
        labels: ``(N, H, W)`` model ids in ``[0, C)`` or 255.
        hidden: bool ``(N, C)``, see :func:`hidden_mask`.

    Returns:
        bool ``(N, H, W)``; False at ignored pixels.
    """
    index = labels.masked_fill(labels == 255, 0).long().flatten(1)
    return hidden.gather(1, index).view_as(labels) & (labels != 255)
