"""Runners that do nothing but the test of a step."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from mmengine.runner import Runner
from torch import Tensor

from mmseg_cil.engine.runner import step_runner
from mmseg_cil.engine.step_configs import evaluation_config
from mmseg_cil.engine.walk import Walk


def scoring_runner(walk: Walk, step: int, launcher: str) -> AbstractContextManager[Runner]:
    """Return a Runner of a step's network that can do nothing but evaluate.

    Args:
        walk: The walk.
        step: The step.
        launcher: MMEngine's launcher.
    """
    return step_runner.step_runner(evaluation_config(walk, step), launcher)


def score_weights(
    walk: Walk, step: int, state: Mapping[str, Tensor], path: Path, launcher: str
) -> dict[str, Any]:
    """Evaluate other weights than a step's own on its test images, and record nothing.

    Args:
        walk: The walk.
        step: The step, whose classes the weights know.
        state: State of the plain network.
        path: Path of the file with the weights, for an error.
        launcher: MMEngine's launcher.

    Returns:
        The step's entry in the form of ``metrics.json``.

    Raises:
        InputError: The weights are those of another network.
    """
    with scoring_runner(walk, step, launcher) as runner:
        step_runner.load_state(runner, state, str(path))
        return step_runner.evaluate(runner, has_run=False)
