"""The compressed gradients of a step's outputs, which VDFD keeps."""

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

    A block is compressed as a whole. A block is a tensor, or a row of a tensor whose
    rows stand apart. The gradient of output n with respect to row o of block b is
    :math:`\sum_q U_{o,q} S_{b,q} V_{b,q,n}`. Outputs are ``nodes * cells``, the cells
    of a node next to each other (see :mod:`mmseg_cil.methods.vdfd.outputs`).

    Attributes:
        names: Names of the tensors.
        rows: Number of rows of each tensor; F in all.
        left: U, ``(F, Q)``.
        singular: S, ``(B, Q)``.
        right: V, ``(B, Q, nodes * cells)``.
        projection: :math:`G_i^T w_i^*`, ``(nodes * cells,)`` float64, which stands
            for the weights after the step, as these are not kept.
        nodes: Model ids of the classes that each node stands for.
        cells: Number of outputs per node.
        average: Rows are filters; otherwise rows are single weights.
        apart: Names of the tensors whose rows stand apart. At rank 1 such a
            tensor's gradients are kept exactly. A classifier's rows must stand apart: the
            output of each class depends on the row of this class alone, and in the same way
            for all classes, so that all singular values are equal and none is the leading one.
        moved: Moves of the rows of old classes by the initialisation of new classes when
            the step began, as sums of rows by the name of their tensor, see
            :mod:`~mmseg_cil.methods.vdfd.reanchoring`. None: the moves are not known.
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
        """Return the rows of each of the B blocks."""
        return block_heights(self.names, self.rows, self.apart)

    def places(self, cells: int) -> Tensor:
        """Return the places of the outputs in a layout with ``cells`` cells per node.

        Args:
            cells: At least :attr:`cells`.
        """
        # Row k of (nodes, cells) holds the places of the outputs of node k.
        nodes = torch.arange(len(self.nodes)).unsqueeze(1)
        return (nodes * cells + torch.arange(self.cells)).flatten()

    @property
    def core(self) -> Tensor:
        """Return ``S V``, ``(B, Q, nodes * cells)``."""
        # (B, Q, 1) times (B, Q, nodes * cells).
        return self.singular.unsqueeze(-1) * self.right

    @property
    def num_floats(self) -> int:
        """Return how many numbers are kept: those of U, S, V, the projection and the moves."""
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
        """Return the products ``G^T w`` with weights w, ``(nodes * cells,)`` float64 on the CPU.

        Args:
            weights: Tensors by name; rows beyond those of the gradients (of classes that
                came later) are left out.
            moves: Subtracted from the sums of rows before the product, see :meth:`rows_of`.
        """
        tensors = [
            first_rows(weights[name].detach().cpu().double(), rows, self.average)
            for name, rows in zip(self.names, self.rows, strict=True)
        ]
        sums = row_sums(tensors, self.average)  # (F,)
        return project(
            self.left.double().unsqueeze(1),  # (F, 1, Q)
            self.core.double().unsqueeze(0),  # (1, B, Q, nodes * cells)
            self.heights,
            sums if moves is None else sums - self.rows_of(moves),
        )[0]

    def rows_of(self, moves: Mapping[str, Tensor]) -> Tensor:
        """Return moves of rows in the layout of the gradients, ``(F,)`` float64; 0 without a move.

        Args:
            moves: Sums of rows by the name of their tensor; rows beyond those of the gradients
                are left out.
        """
        parts = []
        for name, rows in zip(self.names, self.rows, strict=True):
            part = torch.zeros(rows, dtype=torch.float64)
            if name in moves:
                part[: len(moves[name])] = moves[name][:rows]
            parts.append(part)
        return torch.cat(parts)

    def gram(self, weights: Mapping[str, Tensor]) -> Tensor:
        """Return :math:`G^T G` over single weights, ``(nodes * cells, nodes * cells)`` float64.

        Args:
            weights: Tensors by name, for their numbers of weights per row.
        """
        dense = self.dense().double()  # (F, nodes * cells)
        # Number of weights in a row of each tensor.
        counts = torch.tensor(
            [weights[name].numel() / num_rows(weights[name], self.average) for name in self.names]
        )
        # (F, 1): the number of weights of each row, whose gradients are equal.
        each = counts.repeat_interleave(torch.tensor(self.rows)).double().unsqueeze(1)
        return dense.T @ (each * dense)

    def curvature(self, weights: Mapping[str, Tensor]) -> float:
        r"""Return the largest eigenvalue of :math:`G^T G`, over single weights.

        Twice this eigenvalue is the largest second derivative of :math:`\|G^T (w - w^*)\|^2`.
        Multiplied by lambda, that derivative gives the learning rate from which SGD diverges, see
        :func:`~mmseg_cil.methods.vdfd.stability.diverging_rate`.

        Args:
            weights: See :meth:`gram`.
        """
        return float(torch.linalg.eigvalsh(self.gram(weights))[-1])

    def dense(self) -> Tensor:
        """Return the reconstructed gradients ``(F, nodes * cells)``."""
        parts, core = [], self.core
        for block, count, height, first in runs(self.heights):
            # (count, height, Q): U of the run's blocks, each of the same height.
            left = self.left[first : first + count * height].reshape(count, height, -1)
            # (count, height, Q) times (count, Q, nodes * cells); then the rows of all blocks.
            parts.append(torch.bmm(left, core[block : block + count]).flatten(0, 1))
        return torch.cat(parts)


def stack(
    steps: Sequence[OutputGradients],
    names: Sequence[str],
    rows: Sequence[int],
    apart: Collection[str] = (),
) -> tuple[Tensor, Tensor]:
    """Stack the gradients of several steps in one layout, for :func:`project`.

    Entries that a step lacks (tensors and rows of grown tensors without gradients at this
    step, and ranks, nodes and cells beyond those of this step) are filled with zeros, which
    contribute nothing.

    Args:
        steps: Gradients of T steps; the rows of the same tensors stand apart in all of them.
        names: Names of the tensors of the layout, which are all tensors of any step.
        rows: Number of rows of each tensor; F in all, in B blocks.
        apart: Names of the tensors whose rows stand apart.

    Returns:
        ``left`` ``(F, T, Q)`` and ``core`` ``(T, B, Q, C * K)``; C is the largest
        number of nodes, K the largest number of cells per node.
    """
    rank = max(kept.left.shape[1] for kept in steps)
    cells = max(kept.cells for kept in steps)
    outputs = max(len(kept.nodes) for kept in steps) * cells
    # Number of blocks of each tensor: one per row if the rows stand apart, else one.
    blocks = [count if name in apart else 1 for name, count in zip(names, rows, strict=True)]
    left = torch.zeros(sum(rows), len(steps), rank)  # (F, T, Q)
    core = torch.zeros(len(steps), sum(blocks), rank, outputs)  # (T, B, Q, C * K)
    first_row = dict(zip(names, itertools.accumulate(rows, initial=0), strict=False))
    first_block = dict(zip(names, itertools.accumulate(blocks, initial=0), strict=False))
    for step, kept in enumerate(steps):
        own = [
            count if name in apart else 1 for name, count in zip(kept.names, kept.rows, strict=True)
        ]
        parts = zip(kept.names, kept.left.split(list(kept.rows)), kept.core.split(own), strict=True)
        # A tensor's U is (rows, Q), the core S V of its blocks (blocks, Q, nodes * cells).
        for name, factors, products in parts:
            row, block = first_row[name], first_block[name]
            left[row : row + len(factors), step, : factors.shape[1]] = factors
            # part is a view, so that assignments to it change the core.
            part = core[step, block : block + len(products), : products.shape[1]]
            part[..., kept.places(cells)] = products
    return left, core


def project(left: Tensor, core: Tensor, heights: Sequence[int], sums: Tensor) -> Tensor:
    """Compute the products ``G^T w`` from the row sums of w, for T steps at once.

    There is one batched product for each run of equally high blocks, over all blocks of
    the run and all steps, and one product over blocks and ranks. The cost is that of
    reading ``left``; the gradients are never expanded.

    Source: The result equals that of ``comp_GW`` of the official code, which expands the
    gradients to the shape of the weights times the classes.

    Args:
        left: ``(F, T, Q)``.
        core: ``(T, B, Q, N)``.
        heights: Number of rows of each of the B blocks.
        sums: ``(F,)`` row sums of w (see :func:`~mmseg_cil.methods.vdfd.filters.row_sums`).

    Returns:
        ``(T, N)``.
    """
    steps, blocks, rank, outputs = core.shape
    # (B, T, Q): U^T w of every block and step.
    products = block_products(left.flatten(1), sums, heights).reshape(blocks, steps, rank)
    # (T, 1, B * Q) times (T, B * Q, N) is (T, 1, N).
    return torch.bmm(
        products.transpose(0, 1).reshape(steps, 1, blocks * rank),
        core.reshape(steps, blocks * rank, outputs),
    ).squeeze(1)


def joint_gram(left: Tensor, core: Tensor, heights: Sequence[int], counts: Tensor) -> Tensor:
    r"""Compute the products :math:`G_s^T G_t` of T steps over single weights.

    Args:
        left: ``(F, T, Q)`` as in :func:`project`, on the CPU.
        core: ``(T, B, Q, N)`` as in :func:`project`, on the CPU.
        heights: Number of rows of each of the B blocks.
        counts: ``(F,)`` number of weights of each row.

    Returns:
        ``(T * N, T * N)`` float64, the outputs of a step next to each other.
    """
    steps, _, rank, outputs = core.shape
    gram = torch.zeros(steps, outputs, steps, outputs, dtype=torch.float64)
    for block, count, height, first in runs(heights):
        part = slice(first, first + count * height)
        # (count, height, T * Q): U of the run's blocks for all steps.
        rows = left[part].double().reshape(count, height, steps * rank)
        # (count, T * Q, T * Q): U_s^T U_t, each row counted as often as it has weights.
        inner = rows.transpose(1, 2) @ (counts[part].reshape(count, height, 1) * rows)
        cores = core[:, block : block + count].double().transpose(0, 1)  # (count, T, Q, N)
        # (count, T * Q, T, N): U_s^T U_t S_t V_t of every block.
        half = torch.einsum('bxuq,buqm->bxum', inner.unflatten(2, (steps, rank)), cores)
        # (T, N, T, N): V_s^T S_s times that, summed over the blocks.
        gram += torch.einsum('btqn,btqum->tnum', cores, half.unflatten(1, (steps, rank)))
    return gram.reshape(steps * outputs, steps * outputs)


def check_finite(gradients: Tensor) -> None:
    """Refuse gradients with infinities or NaNs.

    Raises:
        InputError: A gradient is infinite or NaN.
    """
    if not torch.isfinite(gradients).all():
        raise InputError(
            'VDFD: the gradients of the outputs are not finite: the weights after '
            'this step are unusable; lower the learning rate or the loss weight'
        )


def compress(
    gradients: Tensor, heights: Sequence[int], rank: int | None = 1
) -> tuple[Tensor, Tensor, Tensor]:
    """Keep the leading singular triples of every block's ``(rows, outputs)`` matrix.

    The official code takes a randomised decomposition (``torch.svd_lowrank``). The
    decomposition here is exact and in float64, so that the result is the best of its rank
    and the same on every machine. Blocks of equal height are decomposed together.

    Source: XiaorongLi-95/VDFD ``task_incremental/agents/vdfd.py``, ``svd``; q = 1 in
    every official script.

    Args:
        gradients: ``(F, N)``.
        heights: Number of rows of each of the B blocks; F in all.
        rank: q; a block with fewer rows or outputs keeps all its triples. None
            keeps the gradients as they are: U is the gradients, S is ones, and V is the
            identity (as a view of a single identity).

    Returns:
        U ``(F, Q)``, S ``(B, Q)``, V ``(B, Q, N)`` in float32, where Q is ``rank`` (at
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
    left = torch.zeros(gradients.shape[0], rank)  # U, (F, Q)
    singular = torch.zeros(blocks, rank)  # S, (B, Q)
    right = torch.zeros(blocks, rank, outputs)  # V, (B, Q, N)
    exact = gradients.detach().cpu().double()  # (F, N)
    for block, count, height, first in runs(heights):
        # Rows and blocks of the run.
        part, some = slice(first, first + count * height), slice(block, block + count)
        # Triples beyond a block's height stay 0.
        kept = min(rank, height)
        # u: (count, height, r), s: (count, r), v: (count, r, N), r = min(height, N).
        u, s, v = torch.linalg.svd(exact[part].reshape(count, height, outputs), full_matrices=False)
        left[part, :kept] = u[:, :, :kept].flatten(0, 1).float()
        singular[some, :kept] = s[:, :kept].float()
        right[some, :kept] = v[:, :kept].float()
    return left, singular, right
