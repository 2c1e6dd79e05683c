"""Labels and logits at the pixels that stand for the cells of a coarser map."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from mmseg_cil.losses.pixel_statistics import Grid
from mmseg_cil.losses.precision import at_least_float32


def at_cells(labels: Tensor, size: Sequence[int]) -> Tensor:
    """Return the labels ``(N, h, w)`` of the nearest pixels of labels ``(N, H, W)``."""
    # Ids are exact in float32, which interpolation needs.
    small = functional.interpolate(labels.unsqueeze(1).float(), tuple(size), mode='nearest')
    return small.squeeze(1).long()


def logits_at_cells(logits: Tensor, grid: Grid, size: Sequence[int]) -> Tensor:
    """Return enlarged logits at the pixels whose labels :func:`at_cells` returns.

    The result is ``at_cells`` of ``grid.enlarge(logits)`` but for rounding. The logits of all
    pixels are not computed: bilinear interpolation is a product with a matrix along each side, of
    which the columns of the chosen pixels are used.

    Args:
        logits: ``(N, C, h', w')``. Half precision is computed in float32.
        grid: The pixels, and how logits are enlarged to them.
        size: ``(h, w)`` of the coarser map.

    Returns:
        ``(N, C, h, w)``, at least float32.
    """
    logits = at_least_float32(logits)
    rows, columns = (
        _weights(logits, side, grid.size[side], size[side], grid.align_corners) for side in (0, 1)
    )
    return torch.matmul(rows.mT, torch.matmul(logits, columns))


def _weights(logits: Tensor, side: int, pixels: int, cells: int, align_corners: bool) -> Tensor:
    """Return what each value along a side weighs at the pixel of each cell, ``(h', h)``."""
    values = logits.shape[2 + side]
    unit = torch.eye(values, dtype=logits.dtype, device=logits.device).unsqueeze(0)
    enlarged = functional.interpolate(unit, pixels, mode='linear', align_corners=align_corners)
    places = torch.arange(pixels, device=logits.device).view(1, 1, -1)
    return enlarged[0, :, at_cells(places, (1, cells)).flatten()]
