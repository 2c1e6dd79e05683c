"""The sub-steps of a method at a step, their folders, and their changes to the step's config."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmseg_cil.contracts.check import require_contract
from mmseg_cil.engine.config.method import find_method
from mmseg_cil.engine.paths import step_folder
from mmseg_cil.engine.preflight.building import part
from mmseg_cil.engine.sub_steps.base import WHEN, SubStep
from mmseg_cil.engine.walk import Walk
from mmseg_cil.errors import InputError
from mmseg_cil.registry import SUB_STEPS


def sub_steps_of(walk: Walk, step: int, when: str | None = None) -> list[SubStep]:
    """Return the sub-steps that a method has at a step, in the method's order.

    Args:
        walk: The walk.
        step: The step.
        when: 'before' or 'after' only; both by default.

    Raises:
        InputError: A sub-step cannot be built, or two have one name.
    """
    built: list[SubStep] = []
    for config in find_method(walk.cfg, walk.protocol.name).sub_steps:
        with part('method.sub_steps'):
            sub_step = SUB_STEPS.build(dict(config))
            require_contract(sub_step, SubStep, 'method.sub_steps')
            built.append(sub_step)
    names = [sub_step.name for sub_step in built]
    if len(set(names)) < len(names):
        raise InputError(
            f'method.sub_steps: two have one name among {names}: give each its own name=...'
        )
    for sub_step in built:
        if sub_step.when not in WHEN:
            raise InputError(
                f'sub-step {sub_step.name}: when is {sub_step.when!r}, not one of {WHEN}'
            )
    return [
        sub_step
        for sub_step in built
        if (when is None or sub_step.when == when) and sub_step.applies(walk, step)
    ]


def sub_step_folder(walk: Walk, step: int, name: str) -> Path:
    """Return the folder of a sub-step, ``WORK_DIR/step_XX/NAME``."""
    return step_folder(walk.work_dir, step) / name


def hand_on(cfg: Config, walk: Walk, step: int) -> None:
    """Let the sub-steps before a step put their files into a config.

    Args:
        cfg: Config of the step, or of a sub-step after it; changed in place.
        walk: The walk.
        step: The step.
    """
    for sub_step in sub_steps_of(walk, step, 'before'):
        sub_step.hand_on(cfg, walk, step, sub_step_folder(walk, step, sub_step.name))


def replaced_teachers(walk: Walk, steps: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Return the snapshots that sub-steps keep of earlier steps in place of checkpoints."""
    result: dict[int, dict[str, Any]] = {}
    for sub_step in sub_steps_of(walk, steps[-1], 'after') if steps else ():
        result.update(sub_step.replace_teachers(walk, steps))
    return result
