"""Step sizes of a network's optimizer, compared with the curvature of a penalty."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.optim import OptimWrapperDict
from mmengine.runner import Runner

from mmseg_cil.methods.vdfd.dfd_regulariser import DFDRegulariser
from mmseg_cil.methods.vdfd.stability import diverging_rate
from mmseg_cil.optim.own_optimizers import JointOptimizer

#: A penalty that is more times steeper than its damping allows gets a warning. The number is our
#: choice; 10 times is usual.
FAR_TOO_STEEP = 1e4


def stable_step_size(wrapper: Any) -> float:
    """Return the step size for which a steep penalty must be made stable, 0 if it need not.

    Gradient descent overshoots if the learning rate times the curvature is above 1.36
    (Nesterov's momentum 0.9) or 2 (no momentum). With twice the learning rate as step size,
    the learning rate times the penalty's curvature is at most 1/2, and 1/2 is left for the
    curvature of the other losses (our choice). The step size is 0 for optimizers such as
    Adam, whose steps do not grow with the gradient.

    Args:
        wrapper: Optimizer wrapper of the Runner, or several by name.
    """
    return 2 * max((first_rate(group) for group in sgd_groups(wrapper)), default=0.0)


def sgd_groups(wrapper: Any) -> list[dict[str, Any]]:
    """Return the groups of the network's parameters that SGD trains; none of other optimizers.

    Args:
        wrapper: Optimizer wrapper of the Runner, or several by name.
    """
    wrappers = list(wrapper.values()) if isinstance(wrapper, OptimWrapperDict) else [wrapper]
    optimizers = [wrapped.optimizer for wrapped in wrappers]
    # The network's optimizer comes first, those of regularisers follow.
    optimizers = [
        optimizer.parts[0] if isinstance(optimizer, JointOptimizer) else optimizer
        for optimizer in optimizers
    ]
    return [
        group
        for optimizer in optimizers
        if isinstance(optimizer, torch.optim.SGD)
        for group in optimizer.param_groups
    ]


def first_rate(group: Mapping[str, Any]) -> float:
    """Return the learning rate of a group; with a schedule, its first rate after the warm-up."""
    return float(group.get('initial_lr', group['lr']))


def tell_curvature(
    runner: Runner, regulariser: DFDRegulariser, curvature: float, damping: float
) -> None:
    """Log the curvature of a penalty, and warn if SGD diverges on it with its learning rate.

    Args:
        runner: Runner with the optimizer.
        regulariser: The regulariser of the penalty.
        curvature: Curvature of the undamped penalty.
        damping: The step size that the penalty is damped for, 0 without damping.
    """
    name, groups = type(regulariser).__name__, sgd_groups(runner.optim_wrapper)
    text = (
        f'{name}: the penalty has a curvature of up to {curvature:.3g} undamped, its '
        'loss_weight included and the identity for its covariance'
    )
    if groups:
        rate = min(_limit(group, curvature) for group in groups)
        text += f'; SGD would diverge from a learning rate of {rate:.3g} on'
    if regulariser.target is not None:
        text += f'; for a curvature of {regulariser.target:g} lambda is {regulariser.weight:.6g}'
    runner.logger.info(text + (f'; it is damped for steps of {damping:g}' if damping else ''))
    option = 'loss_weight' if regulariser.target is None else 'curvature'
    actual = min(curvature, 1 / damping) if damping else curvature
    if curvature * damping > FAR_TOO_STEEP:
        runner.logger.warning(
            f'{name}: the penalty is {curvature * damping:.2g} times steeper than a step can '
            'follow, far above the other losses, so that hardly anything new is learnt: lower its '
            f'{option}'
        )
    steep = [group for group in groups if first_rate(group) >= _limit(group, actual)]
    if steep:
        worst = max(steep, key=first_rate)
        runner.logger.warning(
            f'{name}: SGD with a learning rate of {first_rate(worst):g} is likely to diverge on '
            f'this penalty (from {_limit(worst, actual):.3g} on, the identity for its '
            f'covariance), which damping={damping:g} does not prevent: leave damping at its '
            f'default, use Adam, or lower the learning rate or {option}'
        )


def _limit(group: Mapping[str, Any], curvature: float) -> float:
    """Return the learning rate from which a group of SGD diverges."""
    return diverging_rate(curvature, group['momentum'], group['nesterov'])
