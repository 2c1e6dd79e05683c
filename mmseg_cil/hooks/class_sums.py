"""Sums of vectors over the pixels of each class."""

from __future__ import annotations

import torch
from torch import Tensor

from mmseg_cil.losses.cells import at_cells


def sums_of_classes(vectors: Tensor, labels: Tensor, classes: range) -> Tensor:
    """Return sums of vectors and, in the last column, numbers of pixels: ``(K, D + 1)``, float64.

    Labels are resized to the size of the vectors by nearest neighbour.

    Args:
        vectors: ``(N, D, h, w)``.
        labels: ``(N, 1, H, W)`` model ids.
        classes: K model ids.
    """
    labels = at_cells(labels.squeeze(1), vectors.shape[2:])
    each = vectors.movedim(1, -1).flatten(0, 2).to(torch.float64)
    ids = torch.arange(classes.start, classes.stop, device=labels.device)
    # A product with the one-hot labels: unlike index_add_, reproducible on GPUs.
    member = (labels.flatten() == ids[:, None]).to(torch.float64)
    return torch.cat([member @ each, member.sum(dim=1, keepdim=True)], dim=1)
