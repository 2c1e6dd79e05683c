"""Per-filter sums and means: all that VDFD's regulariser sees of the weights.

A *row* is what one number of a compressed gradient stands for. With filter
averaging it is a filter: ``weight[o]`` of a convolution or linear layer, and
each element of a one-dimensional tensor (bias, scale and shift of a norm).
Without, every single weight is a row.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor


def num_rows(tensor: Tensor, average: bool = True) -> int:
    """Rows of one tensor: its filters, or with ``average=False`` its elements."""
    return tensor.shape[0] if average and tensor.dim() > 0 else tensor.numel()


def first_rows(tensor: Tensor, rows: int, average: bool = True) -> Tensor:
    """The first rows of a tensor that may have grown: those of new classes come last.

    Args:
        tensor: Grown along its first axis, or not at all.
        rows: How many it had.
        average: See :func:`num_rows`.

    Returns:
        A view with so many rows; without filter averaging of one dimension.
    """
    return tensor[:rows] if average and tensor.dim() > 0 else tensor.reshape(-1)[:rows]


def order_by_rows(
    tensors: Mapping[str, Tensor], average: bool = True, apart: Collection[str] = ()
) -> list[str]:
    """Names ordered by the number of rows, so that tensors of equal height are neighbours.

    Everything that works on all tensors at once then works on a few blocks (see
    :func:`runs`). Tensors of equal height keep their order.

    Args:
        tensors: By name.
        average: See :func:`num_rows`.
        apart: Names of tensors whose rows stand apart, each a block of height 1.
    """
    return sorted(
        tensors, key=lambda name: 1 if name in apart else num_rows(tensors[name], average)
    )


def block_heights(
    names: Iterable[str], rows: Iterable[int], apart: Collection[str] = ()
) -> list[int]:
    """Rows of every block: a tensor is one, or, where its rows stand apart, each row.

    Args:
        names: Names of the tensors.
        rows: The rows of each.
        apart: Names of those whose rows stand apart.
    """
    heights = []
    for name, count in zip(names, rows, strict=True):
        heights += [1] * count if name in apart else [count]
    return heights


def row_sums(tensors: Iterable[Tensor], average: bool = True) -> Tensor:
    r"""The sums of the weights of every row, :math:`s_o = \sum_{i,h,w} W_{o,i,h,w}`.

    The only part of the regulariser that reads the weights themselves. Its
    gradient is one number a filter, which autograd spreads over the weights as
    a view, without memory of its own. One-dimensional tensors are taken as they
    are, so that of a ResNet's tensors only the third that are convolutions is
    summed: one reduction per convolution, as no public function of PyTorch sums
    tensors of several shapes at once with a gradient. Everything after it is batched.

    Args:
        tensors: L tensors with F rows in all.
        average: Rows are filters (see the module); else single weights.

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
    """The means of the gradients of every row: "filter averaging".

    Source: VDFD's official code, XiaorongLi-95/VDFD ``task_incremental/agents/
    vdfd.py``, ``calculate_importance``. Means of gradients times sums of weights
    are the product of the gradient, projected onto "equal within each filter",
    with the weights: the projection is its own transpose.

    Args:
        gradients: L tensors with F rows in all.
        average: See :func:`row_sums`; without, gradients are only concatenated.

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
    """Runs of neighbouring blocks of equal height.

    Args:
        heights: Rows of each block.

    Yields:
        ``(first block, blocks, rows of each, first row)`` of every run.
    """
    block = row = 0
    for height, group in itertools.groupby(heights):
        count = len(list(group))
        yield block, count, height, row
        block += count
        row += count * height


def block_products(left: Tensor, vector: Tensor, heights: Sequence[int]) -> Tensor:
    r"""Products of every block's part of a vector with K columns, in one product a run.

    :math:`r_{b,k} = \sum_{o \in b} \mathrm{left}_{o,k} \, \mathrm{vector}_o`

    Args:
        left: ``(F, K)``.
        vector: ``(F,)``.
        heights: Rows of each of the B blocks; their sum is F.

    Returns:
        ``(B, K)``.
    """
    parts = []
    for _, count, height, first in runs(heights):
        part = slice(first, first + count * height)
        block = left[part].reshape(count, height, -1)
        parts.append(torch.bmm(vector[part].reshape(count, 1, height), block).squeeze(1))
    return torch.cat(parts)
