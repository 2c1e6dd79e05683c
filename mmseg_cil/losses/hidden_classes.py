"""Masks of the classes that label 0 of each image may stand for; exemplars show old classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def hidden_mask(
    hidden: Sequence[Sequence[int] | None], num_hidden: int, num_classes: int
) -> Tensor | None:
    """Return the classes that the label 0 of each image of a batch may stand for.

    Args:
        hidden: For each image the model ids besides 0 that its label 0 may stand for, or
            None for an image of the step, to which the step's rule applies.
        num_hidden: The step's rule: label 0 may stand for the first ``num_hidden`` classes
            (see ``StepContext``).
        num_classes: C.

    Returns:
        bool ``(N, C)``, True for class 0 itself; None if the step's rule holds for all
        images.

    Example:
        >>> hidden_mask([None, (2,)], num_hidden=2, num_classes=4).int().tolist()
        [[1, 1, 0, 0], [1, 0, 1, 0]]
    """
    if all(classes is None for classes in hidden):
        return None
    mask = torch.zeros(len(hidden), num_classes, dtype=torch.bool)
    mask[:, 0] = True
    for row, classes in zip(mask, hidden, strict=True):
        row[list(range(num_hidden) if classes is None else classes)] = True
    return mask


def label_is_hidden(labels: Tensor, hidden: Tensor) -> Tensor:
    """Return the pixels whose label is one of the hidden classes or class 0.

    Args:
        labels: ``(N, H, W)`` model ids in ``[0, C)`` or 255.
        hidden: bool ``(N, C)``, see :func:`hidden_mask`.

    Returns:
        bool ``(N, H, W)``; False at ignored pixels.
    """
    index = labels.masked_fill(labels == 255, 0).long().flatten(1)  # (N, H * W)
    # (N, H * W): whether the pixel's own label is hidden in its image.
    return hidden.gather(1, index).view_as(labels) & (labels != 255)
