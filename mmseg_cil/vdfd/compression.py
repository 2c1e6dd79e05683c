"""What VDFD keeps of a step: the gradients of its outputs, compressed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmseg_cil.errors import InputError
from mmseg_cil.vdfd.filters import runs, segment_products


@dataclass(frozen=True)
class OutputGradients:
    r"""The compressed gradients :math:`G_i` of one step's outputs.

    The gradient of output n with respect to the rows of tensor l is
    :math:`\sum_q U_{l,o,q} S_{l,q} V_{l,q,n}`. Outputs are ``nodes * cells``,
    the cells of a node next to each other (see
    :mod:`mmseg_cil.vdfd.outputs`).

    Attributes:
        names: Of the L tensors.
        rows: Rows of each; F in all.
        left: U, ``(F, Q)``.
        singular: S, ``(L, Q)``.
        right: V, ``(L, Q, nodes * cells)``.
        projection: :math:`G_i^T w_i^*`, ``(nodes * cells,)`` float64: what stands
            for the weights after the step, which are not kept.
        nodes: Model ids of the classes that each node stands for.
        cells: Outputs a node.
        average: Rows are filters; else single weights.
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

    @property
    def core(self) -> Tensor:
        """``S V``, ``(L, Q, nodes * cells)``."""
        return self.singular.unsqueeze(-1) * self.right

    @property
    def num_floats(self) -> int:
        """Numbers kept: those of U, S, V and the projection."""
        uncompressed = self.right.stride(0) == 0
        factors = self.left.numel() if uncompressed else sum(
            one.numel() for one in (self.left, self.singular, self.right))
        return factors + self.projection.numel()

    def dense(self) -> Tensor:
        """The reconstructed gradients ``(F, nodes * cells)``."""
        parts = []
        for tensor, count, height, first in runs(self.rows):
            left = self.left[first:first + count * height].reshape(count, height, -1)
            parts.append(torch.bmm(left, self.core[tensor:tensor + count]).flatten(0, 1))
        return torch.cat(parts)


def project(left: Tensor, core: Tensor, rows: Sequence[int], sums: Tensor) -> Tensor:
    """The products ``G^T w`` from the row sums of w, for T steps at once.

    One batched product a run of equally high tensors, over all of its tensors
    and all steps, and one over tensors and ranks. Its cost is that of reading
    ``left``; the gradients are never expanded.

    Source: Equal to ``comp_GW`` of the official code, which expands them to the
    shape of the weights times the classes.

    Args:
        left: ``(F, T, Q)``.
        core: ``(T, L, Q, N)``.
        rows: Rows of each of the L tensors.
        sums: ``(F,)`` row sums of w (see :func:`~mmseg_cil.vdfd.filters.row_sums`).

    Returns:
        ``(T, N)``.
    """
    steps, tensors, rank, outputs = core.shape
    products = segment_products(left.flatten(1), sums, rows).reshape(tensors, steps, rank)
    return torch.bmm(
        products.transpose(0, 1).reshape(steps, 1, tensors * rank),
        core.reshape(steps, tensors * rank, outputs)).squeeze(1)


def compress(gradients: Tensor, rows: Sequence[int],
             rank: int | None = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Keeps the leading singular triples of every tensor's ``(rows, outputs)`` matrix.

    The official code takes a randomised decomposition (``torch.svd_lowrank``);
    here it is exact and in float64, so that it is the best of its rank and the
    same on every machine. Tensors of equal height are decomposed together.

    Source: XiaorongLi-95/VDFD ``task_incremental/agents/vdfd.py``, ``svd``; q = 1 in
    every official script.

    Args:
        gradients: ``(F, N)``.
        rows: Rows of each of the L tensors; F in all.
        rank: q; a tensor with fewer rows or outputs keeps all its triples. None
            keeps the gradients as they are: U is the gradients, S and V are ones
            and the identity (V as a view of one identity).

    Returns:
        U ``(F, Q)``, S ``(L, Q)``, V ``(L, Q, N)`` in float32, Q = ``rank`` (at
        most N), or N without compression.

    Raises:
        InputError: ``rank`` is less than 1, or a gradient is not finite.
    """
    if rank is not None and rank < 1:
        raise InputError(f'VDFD: rank must be at least 1, or None for no compression, got {rank}')
    if not torch.isfinite(gradients).all():
        raise InputError('VDFD: the gradients of the outputs are not finite: the weights after '
                         'this step are unusable; lower the learning rate or the loss weight')
    outputs = gradients.shape[1]
    if rank is None:
        identity = torch.eye(outputs).expand(len(rows), outputs, outputs)
        return gradients.float().cpu(), torch.ones(len(rows), outputs), identity
    rank = min(rank, outputs)
    left = torch.zeros(gradients.shape[0], rank)
    singular = torch.zeros(len(rows), rank)
    right = torch.zeros(len(rows), rank, outputs)
    exact = gradients.detach().cpu().double()
    for tensor, count, height, first in runs(rows):
        part, some = slice(first, first + count * height), slice(tensor, tensor + count)
        kept = min(rank, height)
        u, s, v = torch.linalg.svd(exact[part].reshape(count, height, outputs),
                                   full_matrices=False)
        left[part, :kept] = u[:, :, :kept].flatten(0, 1).float()
        singular[some, :kept] = s[:, :kept].float()
        right[some, :kept] = v[:, :kept].float()
    return left, singular, right
