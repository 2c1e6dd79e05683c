"""Data-free distillation: earlier outputs must not change to first order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from mmseg_cil.contracts import Regulariser
from mmseg_cil.errors import InputError
from mmseg_cil.methods.vdfd.compression import OutputGradients
from mmseg_cil.methods.vdfd.earlier_steps import EarlierSteps, arrange
from mmseg_cil.methods.vdfd.quadratic_form import (
    ACCUMULATIONS,
    accumulate,
    damped_quadratic_form,
    quadratic_form,
)
from mmseg_cil.methods.vdfd.reanchoring import InitialMoves
from mmseg_cil.registry import MODELS
from mmseg_cil.utils.values import check_number, check_weights


class GradientRegulariser(Regulariser):
    """A regulariser that gets gradients from ``VDFDHook``: a contract of this method."""

    #: Type of the hook that gives the gradients. A walk without this hook is refused.
    needs_hook = 'VDFDHook'
    #: Fraction of the classifier initialisation's moves that does not count as change of outputs.
    reanchor: float = 0.0

    def set_earlier_steps(
        self,
        steps: Sequence[OutputGradients],
        network: nn.Module,
        previous: Mapping[str, Tensor],
        step_size: float = 0.0,
        moves: InitialMoves | None = None,
    ) -> None:
        """Take the gradients of all earlier steps, before training.

        Args:
            steps: Gradients of the steps, earliest first; may be empty.
            network: Network whose parameters are regularised, on its device.
            previous: The weights that the last step ended with, by name (also if
                training is resumed).
            step_size: The step size of the optimizer, for a penalty that must be stable.
            moves: Moves of the classifier's initialisation; given if :attr:`reanchor` is
                above 0.
        """


@MODELS.register_module()
class DFDRegulariser(GradientRegulariser):
    r"""Penalises predicted changes of earlier steps' outputs, with equal weights.

    .. math:: \lambda \sum_i \| G_i^T (w - w_i^*) \|^2

    The regulariser is :class:`~mmseg_cil.methods.vdfd.vdfd_regulariser.VDFDRegulariser`
    with the identity as covariance, hence without graph network and log-determinant.
    ``VDFDHook`` computes the gradients and hands them over.

    The products are computed relative to the weights that the last step ended with:
    a change is small compared with the weights, and the difference of two products in
    float32 would lose it. Value and gradient of the last step's term are therefore exactly
    0 at the weights that the last step ended with. Everything is float32 under mixed
    precision.

    Source: Li et al., "Memory Efficient Data-Free Distillation for Continual
    Learning", Pattern Recognition 2023; XiaorongLi-95/DFD ``agents/dfd.py``.

    Args:
        loss_weight: Lambda. Defaults to 1.0.
        accumulation: 'sum', 'mean', 'last' or 'official_class_incremental', see
            :func:`~mmseg_cil.methods.vdfd.quadratic_form.accumulate`. Defaults to 'sum'.
        loss_name: Name in the log. Defaults to 'loss_dfd'.
        damping: The optimizer's step size :math:`\eta` that the penalty is made stable for,
            see :func:`~mmseg_cil.methods.vdfd.quadratic_form.damped_quadratic_form`; with 0 the
            penalty is as published. By default the hook sets the step size: twice the learning
            rate of SGD, 0 for other optimizers.
        reanchor: Whether moves of the rows of old classes by the classifier's initialisation,
            at the beginnings of this step and of earlier steps, do not count as changes of
            outputs (see :mod:`~mmseg_cil.methods.vdfd.reanchoring`). If they do not count, the
            last step's term begins at 0. A number between 0 and 1 excludes this fraction of the
            moves. Our choice. Defaults to False.
        curvature: Largest second derivative of the undamped loss in the weights, with the
            identity as covariance. Lambda is chosen when a step begins to give this value, and
            ``loss_weight`` is not used. The option thus does not depend on the scale of logits
            and weights or on the number of earlier steps; our choice. By default lambda is
            ``loss_weight``.

    Raises:
        InputError: ``accumulation`` is unknown, ``damping`` negative, ``reanchor`` outside
            0 to 1, or ``curvature`` not positive.
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        accumulation: str = 'sum',
        loss_name: str = 'loss_dfd',
        damping: float | None = None,
        reanchor: bool | float = False,
        curvature: float | None = None,
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
        if not isinstance(reanchor, bool):
            check_number(self, 'reanchor', reanchor, most=1.0)
        if curvature is not None:
            check_number(self, 'curvature', curvature, above=True)
        self.loss_weight = loss_weight
        self.reanchor = float(reanchor)
        self.target = curvature
        self._chosen: float | None = None
        self.damping = damping
        self.accumulation = accumulation
        self.loss_name = loss_name
        # The gradients are neither parameters nor buffers: the steps' files hold them.
        self._earlier: EarlierSteps | None = None
        self._is_set = False

    def set_earlier_steps(
        self,
        steps: Sequence[OutputGradients],
        network: nn.Module,
        previous: Mapping[str, Tensor],
        step_size: float = 0.0,
        moves: InitialMoves | None = None,
    ) -> None:
        """Take the gradients of all earlier steps.

        Args:
            steps: Gradients of the steps, earliest first; may be empty.
            network: Network whose parameters are regularised, on its device.
            previous: The weights that the last step ended with, by name (also if
                training is resumed).
            step_size: Value of ``damping`` if the config gives none.
            moves: Moves of the classifier's initialisation. None: nothing is re-anchored.

        Raises:
            InputError: The gradients are not of this network, or not of one kind.
        """
        self._is_set = True
        self._earlier = None
        if not steps:
            return
        arranged = arrange(steps, network, previous, moves, self.reanchor)
        if self.target is not None:
            steepest = arranged.curvature(self.accumulation)
            # A penalty without curvature does not depend on the weights, so any lambda will do.
            self._chosen = self.target / steepest if steepest else 0.0
        damping = self._damping(steps, previous, arranged.core.shape[-1], step_size)
        self._earlier = replace(
            arranged, damping=None if damping is None else damping.to(arranged.core.device)
        )

    def _damping(
        self,
        steps: Sequence[OutputGradients],
        weights: Mapping[str, Tensor],
        outputs: int,
        step_size: float,
    ) -> Tensor | None:
        """Return D of every step, as if all steps pulled in one direction; None without damping."""
        step_size = self.effective_damping(step_size)
        # Number of times that quadratic forms count in the accumulated sum, over all steps.
        times = accumulate(torch.ones(len(steps)), torch.zeros(len(steps)), self.accumulation)
        factor = 2 * step_size * self.weight * float(times)
        if not factor:
            return None
        cells = [step.cells for step in steps]
        damping = torch.zeros(len(steps), outputs, outputs, dtype=torch.float64)
        for index, step in enumerate(steps):
            gram = step.gram(weights)
            places = step.places(max(cells))
            damping[index, places.unsqueeze(1), places] = factor * gram
        return damping

    @property
    def weight(self) -> float:
        """Return lambda: ``loss_weight``, or the value chosen for the curvature of the config."""
        return self.loss_weight if self._chosen is None else self._chosen

    def effective_damping(self, step_size: float) -> float:
        """Return the step size that the penalty is made stable for, 0 without damping.

        Args:
            step_size: Step size to use if the config gives none.
        """
        return step_size if self.damping is None else self.damping

    def curvature(self, steps: Sequence[OutputGradients], weights: Mapping[str, Tensor]) -> float:
        """Return a bound of the second derivatives of the undamped loss in the weights.

        A single step reaches the bound; several steps may be steep in different directions.
        The identity stands for the covariance. With damping, no second derivative is above
        the inverse of :meth:`effective_damping`.

        Args:
            steps: As for :meth:`set_earlier_steps`; at least one.
            weights: Weights by name, for their shapes.
        """
        each = torch.tensor([2 * step.curvature(weights) for step in steps], dtype=torch.float64)
        none = torch.zeros_like(each)
        return self.weight * float(accumulate(each, none, self.accumulation))

    def _quadratics(self, changes: Tensor, *covariance: Any) -> Tensor:
        """Return the quadratic form of every step, damped if there is a damping."""
        assert self._earlier is not None
        if self._earlier.damping is None:
            return quadratic_form(changes, *covariance)
        return damped_quadratic_form(changes, self._earlier.damping, *covariance)

    def forward(self, network: nn.Module) -> dict[str, Tensor]:
        """Return the loss at the network's current weights.

        Args:
            network: The network that :meth:`set_earlier_steps` was given.

        Returns:
            The loss (a scalar) under its name, and other scalars to log.
            Nothing if no earlier step kept gradients.

        Raises:
            RuntimeError: :meth:`set_earlier_steps` was not called.
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
        return {self.loss_name: self.weight * loss}
