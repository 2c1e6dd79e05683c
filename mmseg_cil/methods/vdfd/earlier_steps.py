"""The gradients that earlier steps kept, in one layout for the network in training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmseg_cil.errors import InputError
from mmseg_cil.methods.vdfd.compression import OutputGradients, joint_gram, project, stack
from mmseg_cil.methods.vdfd.filters import block_heights, num_rows, order_by_rows, row_sums
from mmseg_cil.methods.vdfd.quadratic_form import accumulate
from mmseg_cil.methods.vdfd.reanchoring import InitialMoves


@dataclass(frozen=True)
class EarlierSteps:
    """The gradients of T earlier steps, ready for the device and the network.

    Attributes:
        tensors: The network's parameters that have gradients.
        heights: Number of rows of each of the B blocks; F in all.
        left: ``(F, T, Q)``.
        core: ``(T, B, Q, C * K)``.
        anchor: ``(F,)`` row sums of the weights from which changes are measured: the weights
            that the last step ended with or, re-anchored, the weights that this step begins
            with.
        offset: ``(T, C * K)`` first-order changes of the outputs by the weights of the last
            step.
        nodes: Nodes of each step.
        cells: Number of cells per node of each step; K is the largest number.
        average: Rows are filters.
        damping: See :func:`~mmseg_cil.methods.vdfd.quadratic_form.damped_quadratic_form`;
            None: no damping.
    """

    tensors: list[Tensor]
    heights: list[int]
    left: Tensor
    core: Tensor
    anchor: Tensor
    offset: Tensor
    nodes: tuple[tuple[tuple[int, ...], ...], ...]
    cells: tuple[int, ...]
    average: bool
    damping: Tensor | None = None

    def changes(self) -> Tensor:
        """Return the first-order changes ``(T, C, K)`` of earlier outputs at current weights."""
        moved = row_sums(self.tensors, self.average) - self.anchor
        changes = project(self.left, self.core, self.heights, moved) + self.offset
        return changes.unflatten(1, (-1, max(self.cells)))

    def curvature(self, accumulation: str = 'sum') -> float:
        """Return the largest second derivative of the undamped quadratic forms in the weights.

        The value is exact for the identity as covariance, also if several steps are steep in
        different directions.

        Args:
            accumulation: See :func:`~mmseg_cil.methods.vdfd.quadratic_form.accumulate`.
        """
        each = [tensor.numel() / num_rows(tensor, self.average) for tensor in self.tensors]
        rows = torch.tensor([num_rows(tensor, self.average) for tensor in self.tensors])
        counts = torch.tensor(each, dtype=torch.float64).repeat_interleave(rows)
        left, core = self.left.cpu(), self.core.cpu()
        # How often the quadratic form of each step counts; those that count do so alike.
        units = torch.eye(len(core), dtype=torch.float64)
        nothing = torch.zeros(len(core), dtype=torch.float64)
        times = torch.stack([accumulate(unit, nothing, accumulation) for unit in units])
        counted = times > 0
        gram = joint_gram(left[:, counted], core[counted], self.heights, counts)
        return 2 * float(times.max()) * float(torch.linalg.eigvalsh(gram)[-1])


def arrange(
    steps: Sequence[OutputGradients],
    network: nn.Module,
    previous: Mapping[str, Tensor],
    moves: InitialMoves | None = None,
    fraction: float = 1.0,
) -> EarlierSteps:
    """Arrange the gradients of earlier steps for a network, without damping.

    Args:
        steps: Gradients of the steps, earliest first; at least one.
        network: Network whose parameters are regularised, on its device.
        previous: The weights of the last step, by name.
        moves: Moves of the classifier's initialisation, which do not count as changes of outputs.
            None: the moves count as changes.
        fraction: Fraction of the moves that does not count as change.

    Raises:
        InputError: The gradients are not of this network, or not of one kind.
    """
    average, apart = steps[0].average, steps[0].apart
    cells = tuple(step.cells for step in steps)
    by_class = all(step.cells == 1 + max(map(max, step.nodes)) for step in steps)
    alike = len(set(cells)) == 1 or by_class
    if not alike or any((step.average, step.apart) != (average, apart) for step in steps):
        raise InputError(
            'the steps of this walk kept gradients of different outputs: run all '
            'of them with the same VDFDHook'
        )
    tensors = _find_tensors(steps, network)
    rows = [num_rows(tensor, average) for tensor in tensors.values()]
    left, core = stack(steps, list(tensors), rows, apart)
    device = next(iter(tensors.values())).device

    def sums_of(weights: Mapping[str, Tensor]) -> Tensor:
        return row_sums(
            [_like(weights[name].to(device), tensor) for name, tensor in tensors.items()], average
        )

    anchor = sums_of(previous)
    if moves is not None:
        # With fraction 1 the anchor is exactly the row sums that the step begins with.
        begun = sums_of(moves.begun)
        anchor = begun if fraction == 1 else anchor + fraction * (begun - anchor)
    offset = torch.zeros(len(steps), core.shape[-1])
    for index, step in enumerate(steps):
        since = moves.since[index] if moves is not None else {}
        taken = {name: fraction * value for name, value in since.items()}
        drift = step.project(previous, taken) - step.projection
        offset[index, step.places(max(cells))] = drift.to(offset.dtype)
    return EarlierSteps(
        list(tensors.values()),
        block_heights(tensors, rows, apart),
        # In the number format of the weights: float32, unless somebody trains in another.
        left.to(anchor),
        core.to(anchor),
        anchor,
        offset.to(anchor),
        tuple(step.nodes for step in steps),
        cells,
        average,
    )


def _find_tensors(steps: Sequence[OutputGradients], network: nn.Module) -> dict[str, Tensor]:
    """Return the network's parameters that any step has gradients of, ordered by height."""
    own = dict(network.named_parameters())
    found: dict[str, Any] = {}
    average = steps[0].average
    for step in steps:
        for name, rows in zip(step.names, step.rows, strict=True):
            if name not in own or num_rows(own[name], average) < rows:
                raise InputError(
                    f'an earlier step kept gradients of {name} with {rows} rows, which this '
                    'network does not have: the network must not change between steps'
                )
            found[name] = own[name]
    return {name: found[name] for name in order_by_rows(found, average, steps[0].apart)}


def _like(value: Tensor, target: Tensor) -> Tensor:
    """Return a tensor of earlier weights with rows of zeros for the classes that are new."""
    if value.shape == target.shape:
        return value
    grown = torch.zeros_like(target)
    grown[: len(value)] = value
    return grown.detach()
