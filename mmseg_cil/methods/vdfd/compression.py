"""What VDFD keeps of a step: the gradients of its outputs, compressed."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmseg_cil.errors import InputError
from mmseg_cil.methods.vdfd.filters import (
    block_heights,
    block_products,
    first_rows,
    num_rows,
    row_sums,
    runs,
)


@dataclass(frozen=True)
class OutputGradients:
    r"""The compressed gradients :math:`G_i` of one step's outputs.

    What is compressed together is a block: a tensor, or a row of a tensor whose
    rows stand apart. The gradient of output n with respect to row o of block b is
    :math:`\sum_q U_{o,q} S_{b,q} V_{b,q,n}`. Outputs are ``nodes * cells``, the cells
    of a node next to each other (see :mod:`mmseg_cil.methods.vdfd.outputs`).

    Attributes:
        names: Names of the tensors.
        rows: Rows of each; F in all.
        left: U, ``(F, Q)``.
        singular: S, ``(B, Q)``.
        right: V, ``(B, Q, nodes * cells)``.
        projection: :math:`G_i^T w_i^*`, ``(nodes * cells,)`` float64: what stands
            for the weights after the step, which are not kept.
        nodes: Model ids of the classes that each node stands for.
        cells: Outputs a node.
        average: Rows are filters; else single weights.
        apart: Names of the tensors whose rows stand apart. At rank 1 such a
            tensor's gradients are kept exactly. A classifier must be one: the
            output of a class depends on its own row alone and on all rows alike,
            so that all singular values are equal and none is the leading one.
        moved: By how much the initialisation of new classes had moved the rows of old ones when
            the step began, as sums of rows by the name of their tensor, see
            :mod:`~mmseg_cil.methods.vdfd.reanchoring`. None: it is not known.
    """

    names: tuple[str, ...]
    rows: tuple[int, ...]
    left: Tensor
    singular: Tensor
    right: Tensor
    projection: Tensor
    nodes: tuple[tuple[int, ...], ...]
    cells: int = 1
    average: bool = True
    apart: tuple[str, ...] = ()
    moved: dict[str, Tensor] | None = None

    @property
    def heights(self) -> list[int]:
        """Rows of each of the B blocks."""
        return block_heights(self.names, self.rows, self.apart)

    def places(self, cells: int) -> Tensor:
        """Where the outputs stand in a layout with so many cells a node.

        Args:
            cells: At least the own ones.
        """
        nodes = torch.arange(len(self.nodes)).unsqueeze(1)
        return (nodes * cells + torch.arange(self.cells)).flatten()

    @property
    def core(self) -> Tensor:
        """``S V``, ``(B, Q, nodes * cells)``."""
        return self.singular.unsqueeze(-1) * self.right

    @property
    def num_floats(self) -> int:
        """Numbers kept: those of U, S, V, the projection and the moves of rows."""
        uncompressed = self.right.stride(0) == 0
        factors = (
            self.left.numel()
            if uncompressed
            else sum(factor.numel() for factor in (self.left, self.singular, self.right))
        )
        moves = sum(move.numel() for move in (self.moved or {}).values())
        return factors + self.projection.numel() + moves

    def project(
        self, weights: Mapping[str, Tensor], moves: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """The products ``G^T w`` with some weights, ``(nodes * cells,)`` in float64, on the CPU.

        Args:
            weights: Tensors by name; what more rows they have than those of the
                gradients (of classes that came later) is left out.
            moves: What is taken off the sums of rows before, see :meth:`rows_of`.
        """
        tensors = [
            first_rows(weights[name].detach().cpu().double(), rows, self.average)
            for name, rows in zip(self.names, self.rows, strict=True)
        ]
        sums = row_sums(tensors, self.average)
        return project(
            self.left.double().unsqueeze(1),
            self.core.double().unsqueeze(0),
            self.heights,
            sums if moves is None else sums - self.rows_of(moves),
        )[0]

    def rows_of(self, moves: Mapping[str, Tensor]) -> Tensor:
        """Moves of rows in the layout of the gradients, ``(F,)`` float64; 0 where there are none.

        Args:
            moves: Sums of rows by the name of their tensor; what more rows they have is left out.
        """
        parts = []
        for name, rows in zip(self.names, self.rows, strict=True):
            part = torch.zeros(rows, dtype=torch.float64)
            if name in moves:
                part[: len(moves[name])] = moves[name][:rows]
            parts.append(part)
        return torch.cat(parts)

    def gram(self, weights: Mapping[str, Tensor]) -> Tensor:
        """:math:`G^T G` over single weights, ``(nodes * cells, nodes * cells)`` float64.

        Args:
            weights: Tensors by name, for their numbers of weights a row.
        """
        dense = self.dense().double()
        counts = torch.tensor(
            [weights[name].numel() / num_rows(weights[name], self.average) for name in self.names]
        )
        each = counts.repeat_interleave(torch.tensor(self.rows)).double().unsqueeze(1)
        return dense.T @ (each * dense)

    def curvature(self, weights: Mapping[str, Tensor]) -> float:
        r"""The largest eigenvalue of :math:`G^T G`, over single weights.

        Twice that is the largest second derivative of :math:`\|G^T (w - w^*)\|^2`; see
        :func:`~mmseg_cil.methods.vdfd.stability.diverging_rate` for what follows of it, times
        lambda.

        Args:
            weights: See :meth:`gram`.
        """
        return float(torch.linalg.eigvalsh(self.gram(weights))[-1])

    def dense(self) -> Tensor:
        """The reconstructed gradients ``(F, nodes * cells)``."""
        parts, core = [], self.core
        for block, count, height, first in runs(self.heights):
            left = self.left[first : first + count * height].reshape(count, height, -1)
            parts.append(torch.bmm(left, core[block : block + count]).flatten(0, 1))
        return torch.cat(parts)


def stack(
    steps: Sequence[OutputGradients],
    names: Sequence[str],
    rows: Sequence[int],
    apart: Collection[str] = (),
) -> tuple[Tensor, Tensor]:
    """The gradients of several steps in one layout, for :func:`project`.

    Tensors (and rows of grown tensors) that a step has no gradients of, ranks, nodes
    and cells that others have more of, are filled with zeros, which contribute none.

    Args:
        steps: T of them; the rows of the same tensors stand apart in all.
        names: The tensors of the layout; all that any step has.
        rows: Rows of each; F in all, in B blocks.
        apart: Names of the tensors whose rows stand apart.

    Returns:
        ``left`` ``(F, T, Q)`` and ``core`` ``(T, B, Q, C * K)``; C is the largest
        number of nodes, K the largest of the cells of each.
    """
    rank = max(kept.left.shape[1] for kept in steps)
    cells = max(kept.cells for kept in steps)
    outputs = max(len(kept.nodes) for kept in steps) * cells
    blocks = [count if name in apart else 1 for name, count in zip(names, rows, strict=True)]
    left = torch.zeros(sum(rows), len(steps), rank)
    core = torch.zeros(len(steps), sum(blocks), rank, outputs)
    first_row = dict(zip(names, itertools.accumulate(rows, initial=0), strict=False))
    first_block = dict(zip(names, itertools.accumulate(blocks, initial=0), strict=False))
    for step, kept in enumerate(steps):
        own = [
            count if name in apart else 1 for name, count in zip(kept.names, kept.rows, strict=True)
        ]
        parts = zip(kept.names, kept.left.split(list(kept.rows)), kept.core.split(own), strict=True)
        for name, factors, products in parts:
            row, block = first_row[name], first_block[name]
            left[row : row + len(factors), step, : factors.shape[1]] = factors
            # A view, so that what is set stays in the core.
            part = core[step, block : block + len(products), : products.shape[1]]
            part[..., kept.places(cells)] = products
    return left, core


def project(left: Tensor, core: Tensor, heights: Sequence[int], sums: Tensor) -> Tensor:
    """The products ``G^T w`` from the row sums of w, for T steps at once.

    One batched product a run of equally high blocks, over all of its blocks and
    all steps, and one over blocks and ranks. Its cost is that of reading
    ``left``; the gradients are never expanded.

    Source: Equal to ``comp_GW`` of the official code, which expands them to the
    shape of the weights times the classes.

    Args:
        left: ``(F, T, Q)``.
        core: ``(T, B, Q, N)``.
        heights: Rows of each of the B blocks.
        sums: ``(F,)`` row sums of w (see :func:`~mmseg_cil.methods.vdfd.filters.row_sums`).

    Returns:
        ``(T, N)``.
    """
    steps, blocks, rank, outputs = core.shape
    products = block_products(left.flatten(1), sums, heights).reshape(blocks, steps, rank)
    return torch.bmm(
        products.transpose(0, 1).reshape(steps, 1, blocks * rank),
        core.reshape(steps, blocks * rank, outputs),
    ).squeeze(1)


def joint_gram(left: Tensor, core: Tensor, heights: Sequence[int], counts: Tensor) -> Tensor:
    r"""The products :math:`G_s^T G_t` of T steps over single weights.

    Args:
        left: See :func:`project`, as ``core`` and ``heights``; on the CPU.
        core: See there.
        heights: See there.
        counts: ``(F,)`` weights of each row.

    Returns:
        ``(T * N, T * N)`` float64, the outputs of a step next to each other.
    """
    steps, _, rank, outputs = core.shape
    gram = torch.zeros(steps, outputs, steps, outputs, dtype=torch.float64)
    for block, count, height, first in runs(heights):
        part = slice(first, first + count * height)
        rows = left[part].double().reshape(count, height, steps * rank)
        inner = rows.transpose(1, 2) @ (counts[part].reshape(count, height, 1) * rows)
        cores = core[:, block : block + count].double().transpose(0, 1)
        half = torch.einsum('bxuq,buqm->bxum', inner.unflatten(2, (steps, rank)), cores)
        gram += torch.einsum('btqn,btqum->tnum', cores, half.unflatten(1, (steps, rank)))
    return gram.reshape(steps * outputs, steps * outputs)


def check_finite(gradients: Tensor) -> None:
    """Refuses gradients with infinities or NaNs.

    Raises:
        InputError: There are such.
    """
    if not torch.isfinite(gradients).all():
        raise InputError(
            'VDFD: the gradients of the outputs are not finite: the weights after '
            'this step are unusable; lower the learning rate or the loss weight'
        )


def compress(
    gradients: Tensor, heights: Sequence[int], rank: int | None = 1
) -> tuple[Tensor, Tensor, Tensor]:
    """Keeps the leading singular triples of every block's ``(rows, outputs)`` matrix.

    The official code takes a randomised decomposition (``torch.svd_lowrank``);
    here it is exact and in float64, so that it is the best of its rank and the
    same on every machine. Blocks of equal height are decomposed together.

    Source: XiaorongLi-95/VDFD ``task_incremental/agents/vdfd.py``, ``svd``; q = 1 in
    every official script.

    Args:
        gradients: ``(F, N)``.
        heights: Rows of each of the B blocks; F in all.
        rank: q; a block with fewer rows or outputs keeps all its triples. None
            keeps the gradients as they are: U is the gradients, S and V are ones
            and the identity (V as a view of one identity).

    Returns:
        U ``(F, Q)``, S ``(B, Q)``, V ``(B, Q, N)`` in float32, Q = ``rank`` (at
        most N), or N without compression.

    Raises:
        InputError: ``rank`` is less than 1, or a gradient is not finite.
    """
    if rank is not None and rank < 1:
        raise InputError(f'VDFD: rank must be at least 1, or None for no compression, got {rank}')
    check_finite(gradients)
    outputs, blocks = gradients.shape[1], len(heights)
    if rank is None:
        identity = torch.eye(outputs).expand(blocks, outputs, outputs)
        return gradients.float().cpu(), torch.ones(blocks, outputs), identity
    rank = min(rank, outputs)
    left = torch.zeros(gradients.shape[0], rank)
    singular = torch.zeros(blocks, rank)
    right = torch.zeros(blocks, rank, outputs)
    exact = gradients.detach().cpu().double()
    for block, count, height, first in runs(heights):
        part, some = slice(first, first + count * height), slice(block, block + count)
        kept = min(rank, height)
        u, s, v = torch.linalg.svd(exact[part].reshape(count, height, outputs), full_matrices=False)
        left[part, :kept] = u[:, :, :kept].flatten(0, 1).float()
        singular[some, :kept] = s[:, :kept].float()
        right[some, :kept] = v[:, :kept].float()
    return left, singular, right
