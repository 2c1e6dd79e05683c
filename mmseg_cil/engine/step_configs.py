"""The configs of a walk's steps, made in one place: for training, for evaluation, for sub-steps."""

from __future__ import annotations

from collections.abc import Collection

from mmengine.config import Config
from mmengine.dist import get_world_size

from mmseg_cil.engine.config.step_config import StepInputs, derive_step_config
from mmseg_cil.engine.sub_steps.base import SubStepInputs
from mmseg_cil.engine.sub_steps.listing import hand_on, sub_steps_of
from mmseg_cil.engine.walk import Walk

#: The settings that a Runner without validation does without.
_VALIDATION = ('val_dataloader', 'val_cfg', 'val_evaluator')
#: The settings that a Runner that only evaluates does without.
_TRAINING = ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler')


def training_config(
    walk: Walk, step: int, inputs: StepInputs, planned: Collection[int] | None = None
) -> Config:
    """Derive the config that a step is trained with, including changes by its sub-steps.

    Args:
        walk: The walk.
        step: The step.
        inputs: Inputs that the step begins with.
        planned: Steps that are to be walked now, for the estimate of time. All by default.
    """
    cfg = _derived(walk, step, inputs, planned)
    hand_on(cfg, walk, step)
    later = [i for i in range(step + 1, walk.num_steps) if planned is None or i in planned]
    ahead = [(step, each) for each in sub_steps_of(walk, step, 'after')]
    ahead += [(index, each) for index in later for each in sub_steps_of(walk, index)]
    progress = next(hook for hook in cfg.custom_hooks if hook.type == 'WalkProgressHook')
    progress.update(sub_steps=sum(each.iterations(walk, index) for index, each in ahead))
    return cfg


def sub_step_config(walk: Walk, step: int, inputs: SubStepInputs) -> Config:
    """Derive the config of the step itself, to be changed into that of a sub-step.

    For a sub-step after the step, it includes the changes by sub-steps before the step.

    Args:
        walk: The walk.
        step: The step.
        inputs: Inputs that the sub-step begins with.
    """
    cfg = _derived(walk, step, inputs.step)
    if inputs.snapshot is not None:
        hand_on(cfg, walk, step)
    return cfg


def lone_config(walk: Walk, step: int) -> Config:
    """Derive the config of a step that needs no other step: without teacher and validation.

    Args:
        walk: The walk.
        step: The step.
    """
    cfg = _derived(walk, step, StepInputs(None, None, walk.train_images))
    _leave_out(cfg, _VALIDATION)
    return cfg


def evaluation_config(walk: Walk, step: int) -> Config:
    """Derive the config of a step whose network is only evaluated.

    Args:
        walk: The walk.
        step: The step.
    """
    cfg = lone_config(walk, step)
    _leave_out(cfg, (*_TRAINING, 'load_from'))
    return cfg


def _derived(
    walk: Walk, step: int, inputs: StepInputs, planned: Collection[int] | None = None
) -> Config:
    return derive_step_config(
        walk.cfg, walk.protocol, step, inputs, walk.work_dir, get_world_size(), planned
    )


def _leave_out(cfg: Config, keys: Collection[str]) -> None:
    for key in keys:
        cfg[key] = None
