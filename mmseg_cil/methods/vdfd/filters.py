"""Per-filter sums and means of tensors; VDFD's regulariser reads the weights only through them.

A *row* is the group of weights that one number of a compressed gradient stands for. With
filter averaging a row is a filter: ``weight[o]`` of a convolution or linear layer, or
an element of a one-dimensional tensor (bias, scale and shift of a norm).
Without filter averaging, every single weight is a row.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor


def num_rows(tensor: Tensor, average: bool = True) -> int:
    """Return the number of rows of a tensor: filters, or elements with ``average=False``."""
    return tensor.shape[0] if average and tensor.dim() > 0 else tensor.numel()


def first_rows(tensor: Tensor, rows: int, average: bool = True) -> Tensor:
    """Return the first rows of a tensor that may have grown; rows of new classes come last.

    Args:
        tensor: Tensor that has grown along its first axis, or not at all.
        rows: Number of rows before the tensor grew.
        average: See :func:`num_rows`.

    Returns:
        A view with ``rows`` rows; one-dimensional without filter averaging.
    """
    return tensor[:rows] if average and tensor.dim() > 0 else tensor.reshape(-1)[:rows]


def order_by_rows(
    tensors: Mapping[str, Tensor], average: bool = True, apart: Collection[str] = ()
) -> list[str]:
    """Return names ordered by the number of rows; tensors of equal height become neighbours.

    Computations over all tensors then work on a few runs of blocks (see
    :func:`runs`). Tensors of equal height keep their order.

    Args:
        tensors: Tensors by name.
        average: See :func:`num_rows`.
        apart: Names of tensors whose rows stand apart, each a block of height 1.
    """
    return sorted(
        tensors, key=lambda name: 1 if name in apart else num_rows(tensors[name], average)
    )


def block_heights(
    names: Iterable[str], rows: Iterable[int], apart: Collection[str] = ()
) -> list[int]:
    """Return the number of rows of every block.

    A tensor is one block; if the rows of a tensor stand apart, each row is a block.

    Args:
        names: Names of the tensors.
        rows: Number of rows of each tensor.
        apart: Names of the tensors whose rows stand apart.
    """
    heights = []
    for name, count in zip(names, rows, strict=True):
        heights += [1] * count if name in apart else [count]
    return heights


def row_sums(tensors: Iterable[Tensor], average: bool = True) -> Tensor:
    r"""Return the sums of the weights of every row, :math:`s_o = \sum_{i,h,w} W_{o,i,h,w}`.

    This is the only part of the regulariser that reads the weights themselves. The
    gradient of a sum is one number per filter, which autograd spreads over the weights as
    a view, without memory of its own. One-dimensional tensors are taken as they
    are, so only the convolutions are summed, a third of a ResNet's tensors. There is
    one reduction per convolution, because no public function of PyTorch sums
    tensors of several shapes at once with a gradient. All later computations are batched.

    Args:
        tensors: L tensors with F rows in all.
        average: Rows are filters (see the module); otherwise rows are single weights.

    Returns:
        ``(F,)`` in the order of the tensors.
    """
    return torch.cat(
        [
            tensor.flatten(1).sum(dim=1) if average and tensor.dim() > 1 else tensor.reshape(-1)
            for tensor in tensors
        ]
    )


def row_means(gradients: Iterable[Tensor], average: bool = True) -> Tensor:
    """Return the means of the gradients of every row ("filter averaging").

    Source: VDFD's official code, XiaorongLi-95/VDFD ``task_incremental/agents/
    vdfd.py``, ``calculate_importance``. The product of means of gradients with sums of
    weights equals the product of the weights with the gradient projected onto "equal
    within each filter", because the projection is its own transpose.

    Args:
        gradients: L tensors with F rows in all.
        average: See :func:`row_sums`; if False, gradients are only concatenated.

    Returns:
        ``(F,)`` in the order of the gradients.
    """
    return torch.cat(
        [
            gradient.flatten(1).mean(dim=1)
            if average and gradient.dim() > 1
            else gradient.reshape(-1)
            for gradient in gradients
        ]
    )


def runs(heights: Sequence[int]) -> Iterator[tuple[int, int, int, int]]:
    """Yield runs of neighbouring blocks of equal height.

    Args:
        heights: Number of rows of each block.

    Yields:
        ``(first block, number of blocks, rows of each block, first row)`` of every run.
    """
    block = row = 0
    for height, group in itertools.groupby(heights):
        count = len(list(group))
        yield block, count, height, row
        block += count
        row += count * height


def block_products(left: Tensor, vector: Tensor, heights: Sequence[int]) -> Tensor:
    r"""Compute the products of every block's part of a vector with K columns, one per run.

    :math:`r_{b,k} = \sum_{o \in b} \mathrm{left}_{o,k} \, \mathrm{vector}_o`

    Args:
        left: ``(F, K)``.
        vector: ``(F,)``.
        heights: Number of rows of each of the B blocks; their sum is F.

    Returns:
        ``(B, K)``.
    """
    parts = []
    for _, count, height, first in runs(heights):
        part = slice(first, first + count * height)
        # (count, height, K): the run's blocks; the vector's part is (count, 1, height).
        block = left[part].reshape(count, height, -1)
        parts.append(torch.bmm(vector[part].reshape(count, 1, height), block).squeeze(1))
    return torch.cat(parts)
