"""Data-free distillation: earlier outputs must not change to first order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmseg_cil.contracts import Regulariser
from mmseg_cil.errors import InputError
from mmseg_cil.methods.vdfd.compression import OutputGradients, project, stack
from mmseg_cil.methods.vdfd.filters import block_heights, num_rows, order_by_rows, row_sums
from mmseg_cil.methods.vdfd.quadratic_form import (
    ACCUMULATIONS,
    accumulate,
    damped_quadratic_form,
    quadratic_form,
)
from mmseg_cil.registry import MODELS
from mmseg_cil.utils.values import check_weights


@dataclass(frozen=True)
class _EarlierSteps:
    """The gradients of T earlier steps, ready for the device and the network.

    Attributes:
        tensors: The network's parameters that have gradients.
        heights: Rows of each of the B blocks; F in all.
        left: ``(F, T, Q)``.
        core: ``(T, B, Q, C * K)``.
        anchor: ``(F,)`` row sums of the weights that this step began with.
        offset: ``(T, C * K)``, what those weights had changed of the outputs.
        nodes: Of each step.
        cells: K.
        average: Rows are filters.
        damping: See :func:`~mmseg_cil.methods.vdfd.quadratic_form.damped_quadratic_form`;
            None: none.
    """

    tensors: list[Tensor]
    heights: list[int]
    left: Tensor
    core: Tensor
    anchor: Tensor
    offset: Tensor
    nodes: tuple[tuple[tuple[int, ...], ...], ...]
    cells: int
    average: bool
    damping: Tensor | None = None

    def changes(self) -> Tensor:
        """First-order changes ``(T, C, K)`` of all earlier outputs by the weights as they are."""
        moved = row_sums(self.tensors, self.average) - self.anchor
        changes = project(self.left, self.core, self.heights, moved) + self.offset
        return changes.unflatten(1, (-1, self.cells))


class GradientRegulariser(Regulariser):
    """A regulariser that ``VDFDHook`` gives what earlier steps kept: a contract of this method."""

    #: A walk is refused whose hooks do not include it.
    needs_hook = 'VDFDHook'

    def set_earlier_steps(
        self,
        steps: Sequence[OutputGradients],
        network: nn.Module,
        previous: Mapping[str, Tensor],
        step_size: float = 0.0,
    ) -> None:
        """Take the gradients of all earlier steps, before training.

        Args:
            steps: Earliest first; may be none.
            network: Whose parameters are regularised, on its device.
            previous: The weights that this step began with, by name (also where
                training is resumed).
            step_size: The step size of the optimizer, for a penalty that must be stable.
        """


@MODELS.register_module()
class DFDRegulariser(GradientRegulariser):
    r"""Penalises predicted changes of earlier steps' outputs, all alike.

    .. math:: \lambda \sum_i \| G_i^T (w - w_i^*) \|^2

    It is :class:`~mmseg_cil.methods.vdfd.vdfd_regulariser.VDFDRegulariser` with
    the identity as covariance, hence without graph network and log-determinant.
    ``VDFDHook`` makes the gradients and hands them over.

    The products are computed relative to the weights that the step began with:
    a change is small beside the weights, and the difference of two products in
    float32 would lose it. So value and gradient are exactly 0 at the weights
    that an earlier step ended with. Everything is float32 under mixed precision.

    Source: Li et al., "Memory Efficient Data-Free Distillation for Continual
    Learning", Pattern Recognition 2023; XiaorongLi-95/DFD ``agents/dfd.py``.

    Args:
        loss_weight: Lambda. Defaults to 1.0.
        accumulation: 'sum', or 'official_class_incremental', see
            :func:`~mmseg_cil.methods.vdfd.quadratic_form.accumulate`.
        loss_name: Name in the log. Defaults to 'loss_dfd'.
        damping: The optimizer's step size :math:`\eta` that the penalty is made stable for,
            see :func:`~mmseg_cil.methods.vdfd.quadratic_form.damped_quadratic_form`; 0 leaves it as
            published. By default the hook tells it: twice the learning rate of SGD, 0 for
            other optimizers.

    Raises:
        InputError: ``accumulation`` is unknown, or ``damping`` negative.
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        accumulation: str = 'sum',
        loss_name: str = 'loss_dfd',
        damping: float | None = None,
    ) -> None:
        super().__init__()
        if accumulation not in ACCUMULATIONS:
            raise InputError(
                f'{type(self).__name__}: accumulation must be one of {ACCUMULATIONS}, '
                f'got {accumulation!r}'
            )
        check_weights(self, loss_weight=loss_weight)
        if damping is not None:
            check_weights(self, damping=damping)
        self.loss_weight = loss_weight
        self.damping = damping
        self.accumulation = accumulation
        self.loss_name = loss_name
        # Neither parameter nor buffer: all of it can be had again from the steps' files.
        self._earlier: _EarlierSteps | None = None
        self._is_set = False

    def set_earlier_steps(
        self,
        steps: Sequence[OutputGradients],
        network: nn.Module,
        previous: Mapping[str, Tensor],
        step_size: float = 0.0,
    ) -> None:
        """Takes the gradients of all earlier steps.

        Args:
            steps: Earliest first; may be none.
            network: Whose parameters are regularised, on its device.
            previous: The weights that this step began with, by name (also where
                training is resumed).
            step_size: What ``damping`` is where the config does not tell it.

        Raises:
            InputError: The gradients are not of this network, or not of one kind.
        """
        self._is_set = True
        self._earlier = None
        if not steps:
            return
        average, cells, apart = steps[0].average, steps[0].cells, steps[0].apart
        if any((one.average, one.cells, one.apart) != (average, cells, apart) for one in steps):
            raise InputError(
                'the steps of this walk kept gradients of different outputs: run all '
                'of them with the same VDFDHook'
            )
        tensors = _find_tensors(steps, network)
        rows = [num_rows(one, average) for one in tensors.values()]
        left, core = stack(steps, list(tensors), rows, apart)
        device = next(iter(tensors.values())).device
        anchor = row_sums(
            [_like(previous[name].to(device), one) for name, one in tensors.items()], average
        )
        offset = torch.zeros(len(steps), core.shape[-1])
        for index, one in enumerate(steps):
            drift = one.project(previous) - one.projection
            offset[index, : len(drift)] = drift.float()
        self._earlier = _EarlierSteps(
            list(tensors.values()),
            block_heights(tensors, rows, apart),
            left.to(device),
            core.to(device),
            anchor,
            offset.to(device),
            tuple(one.nodes for one in steps),
            cells,
            average,
            self._damping(steps, previous, core.shape[-1], step_size, device),
        )

    def _damping(
        self,
        steps: Sequence[OutputGradients],
        weights: Mapping[str, Tensor],
        outputs: int,
        step_size: float,
        device: torch.device,
    ) -> Tensor | None:
        """D of every step, as if all pulled in one direction; None without damping."""
        step_size = self.effective_damping(step_size)
        # So often the steps' quadratic forms count in the sum, one with another.
        times = accumulate(torch.ones(len(steps)), torch.zeros(len(steps)), self.accumulation)
        factor = 2 * step_size * self.loss_weight * float(times)
        if not factor:
            return None
        damping = torch.zeros(len(steps), outputs, outputs, dtype=torch.float64)
        for index, one in enumerate(steps):
            gram = one.gram(weights)
            damping[index, : len(gram), : len(gram)] = factor * gram
        return damping.to(device)

    def effective_damping(self, step_size: float) -> float:
        """The step size that the penalty is made stable for, 0 without damping.

        Args:
            step_size: What it is where the config does not tell it.
        """
        return step_size if self.damping is None else self.damping

    def curvature(self, steps: Sequence[OutputGradients], weights: Mapping[str, Tensor]) -> float:
        """The largest second derivative of the undamped loss in the weights, at most.

        It is reached by a single step; several may be steep in different directions. The
        identity stands for the covariance. Damped, no second derivative is above the inverse
        of :meth:`effective_damping`.

        Args:
            steps: As :meth:`set_earlier_steps` takes them; at least one.
            weights: By name, for their shapes.
        """
        each = torch.tensor([2 * one.curvature(weights) for one in steps], dtype=torch.float64)
        none = torch.zeros_like(each)
        return self.loss_weight * float(accumulate(each, none, self.accumulation))

    def _quadratics(self, changes: Tensor, *covariance: Any) -> Tensor:
        """The quadratic form of every step, damped where it has to be."""
        assert self._earlier is not None
        if self._earlier.damping is None:
            return quadratic_form(changes, *covariance)
        return damped_quadratic_form(changes, self._earlier.damping, *covariance)

    def forward(self, network: nn.Module) -> dict[str, Tensor]:
        """The loss at the network's present weights.

        Args:
            network: The one that :meth:`set_earlier_steps` was given.

        Returns:
            The loss (a scalar) under its name, and what else is to be logged.
            Nothing where no earlier step kept gradients.

        Raises:
            RuntimeError: There was no :meth:`set_earlier_steps`.
        """
        if not self._is_set:
            raise RuntimeError(
                f'{type(self).__name__} was not given the gradients of earlier '
                'steps: the method needs a VDFDHook among its custom_hooks'
            )
        if self._earlier is None:
            return self._without_earlier_steps()
        with torch.autocast(self._earlier.anchor.device.type, enabled=False):
            return self._losses(self._earlier.changes())

    def _without_earlier_steps(self) -> dict[str, Tensor]:
        return {}

    def _losses(self, changes: Tensor) -> dict[str, Tensor]:
        quadratics = self._quadratics(changes)
        loss = accumulate(quadratics, torch.zeros_like(quadratics), self.accumulation)
        return {self.loss_name: self.loss_weight * loss}


def _find_tensors(steps: Sequence[OutputGradients], network: nn.Module) -> dict[str, Tensor]:
    """The network's parameters that any step has gradients of, ordered by height."""
    own = dict(network.named_parameters())
    found: dict[str, Any] = {}
    average = steps[0].average
    for one in steps:
        for name, rows in zip(one.names, one.rows, strict=True):
            if name not in own or num_rows(own[name], average) < rows:
                raise InputError(
                    f'an earlier step kept gradients of {name} with {rows} rows, which this '
                    'network does not have: the network must not change between steps'
                )
            found[name] = own[name]
    return {name: found[name] for name in order_by_rows(found, average, steps[0].apart)}


def _like(value: Tensor, target: Tensor) -> Tensor:
    """A tensor of earlier weights with rows of zeros for the classes that are new."""
    if value.shape == target.shape:
        return value
    grown = torch.zeros_like(target)
    grown[: len(value)] = value
    return grown.detach()
