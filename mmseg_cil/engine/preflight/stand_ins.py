"""Stand-ins for the files of earlier steps, as far as the rehearsal of a later step needs them.

Networks are those of the earlier steps with weights that are there before training;
lists of exemplars name the first images. The last step's change of the network
(``network_change.pth``) has no stand-in: a step is rehearsed as if there were none, as the
first step after the base step is trained. Two of the earlier steps stand for all of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from torch import Tensor

from mmseg_cil.contracts import StepHook
from mmseg_cil.contracts.check import overrides
from mmseg_cil.contracts.method import MethodConfig
from mmseg_cil.engine.config.method import find_method, memory_settings
from mmseg_cil.engine.config.step_config import StepInputs, derive_step_config
from mmseg_cil.engine.data import open_view
from mmseg_cil.engine.export.checkpoint import CHECKPOINT_NAME, export_checkpoint
from mmseg_cil.engine.paths import run_seed, step_folder
from mmseg_cil.engine.preflight.cut_images import cut_images
from mmseg_cil.engine.preflight.settled_norms import settled_norms
from mmseg_cil.engine.walk import Walk
from mmseg_cil.errors import InputError
from mmseg_cil.memory.memory import FILE_NAME, ExemplarMemory
from mmseg_cil.models.plain import plain_model_config
from mmseg_cil.models.teacher import load_plain_state
from mmseg_cil.models.teachers import step_teacher_name
from mmseg_cil.registry import HOOKS, MODELS

#: Weights by name, of a plain network.
State = Mapping[str, Tensor]


def learnt_steps(walk: Walk, step: int) -> list[int]:
    """Return the earlier steps that stand for all trained steps: the first and the last."""
    earlier = [before for before in range(step) if walk.trains(before)]
    return sorted({*earlier[:1], *earlier[-1:]})


def stand_in_inputs(walk: Walk, step: int) -> StepInputs:
    """Return the inputs that a step begins with, in the folders of stand-ins.

    Args:
        walk: The walk, in a temporary folder.
        step: The step.
    """
    if step == 0:
        return StepInputs(None, None, walk.train_images)
    learnt = learnt_steps(walk, step)
    all_of_them = find_method(walk.cfg, walk.protocol.name).reads_all_teachers
    settings = memory_settings(walk.cfg, walk.protocol.name)
    exemplars = (
        step_folder(walk.work_dir, learnt[-1]) / FILE_NAME
        if learnt and settings is not None
        else None
    )
    return StepInputs(
        snapshot_of(walk, step - 1),
        snapshot_of(walk, learnt[-1]) if learnt else None,
        walk.train_images,
        exemplars=None if exemplars is None else str(exemplars),
        teachers={step_teacher_name(before): snapshot_of(walk, before) for before in learnt}
        if all_of_them
        else {},
    )


def snapshot_of(walk: Walk, step: int) -> dict[str, Any]:
    """Return a step's checkpoint and number of classes, in the form that a student is given."""
    return dict(
        checkpoint=str(step_folder(walk.work_dir, step) / CHECKPOINT_NAME),
        num_classes=len(walk.protocol.steps[step].seen),
    )


def leave_exemplars(walk: Walk, step: int, caches: str) -> None:
    """Write the list of exemplars that a step replays, where it replays any.

    Args:
        walk: The walk, in a temporary folder.
        step: The step that replays.
        caches: The work directory whose class index is used.
    """
    settings = memory_settings(walk.cfg, walk.protocol.name)
    learnt = learnt_steps(walk, step)
    if settings is None or not learnt:
        return
    view = open_view(walk.cfg, 'train', caches, walk.protocol.pools_splits)
    names = tuple(dict.fromkeys(view.images_of_step(learnt[-1])))[: min(2, settings.budget)]
    ExemplarMemory(
        walk.protocol.training_fingerprint(),
        settings.choice(run_seed(walk.cfg)),
        learnt[-1],
        {'all': names},
        dict.fromkeys(names, learnt[-1]),
    ).save(step_folder(walk.work_dir, learnt[-1]) / FILE_NAME)


def leave_networks(
    walk: Walk, step: int, state: State, batch: Any, cut: bool, world_size: int
) -> None:
    """Write the networks, and the files of hooks, that the steps before a step would have left.

    Args:
        walk: The walk, in a temporary folder.
        step: The step that reads the files.
        state: Weights; the weights of classifiers, whose classes differ, are made anew.
        batch: Batch of training images, for hooks.
        cut: Whether large images are cut.
        world_size: Number of processes.
    """
    learnt = learnt_steps(walk, step)
    all_of_them = find_method(walk.cfg, walk.protocol.name).reads_all_teachers
    for earlier in sorted({*learnt, step - 1}):
        inputs = StepInputs(None, None, walk.train_images)
        cfg = derive_step_config(
            walk.cfg, walk.protocol, earlier, inputs, walk.work_dir, world_size
        )
        hooks = [hook for hook in cfg.custom_hooks if _leaves_files(hook)]
        if earlier in learnt[:-1] and earlier != step - 1 and not hooks and not all_of_them:
            continue  # nothing reads it
        cfg.model.update(MethodConfig.without('change'))
        forget_steps(cfg, learnt)
        model: Any = MODELS.build(cfg.model)
        own = model.state_dict()
        model.load_state_dict(
            {
                **own,
                **{
                    key: value
                    for key, value in state.items()
                    if key in own and own[key].shape == value.shape
                },
            }
        )
        folder = step_folder(walk.work_dir, earlier)
        export_checkpoint(model, folder, {})
        if earlier in learnt and hooks:
            if cut:
                model.data_preprocessor.register_forward_hook(cut_images)
            model.to(get_device())
            for config in hooks:
                own = {key: value for key, value in config.items() if key != 'priority'}
                HOOKS.build(own).stand_in(model, [batch], folder)


def _leaves_files(hook: Mapping[str, Any]) -> bool:
    kind = hook.get('type')
    kind = HOOKS.get(kind) if isinstance(kind, str) else kind
    is_ours = isinstance(kind, type) and issubclass(kind, StepHook)
    return is_ours and overrides(kind, StepHook.stand_in)


def forget_steps(cfg: Config, kept: Sequence[int]) -> None:
    """Let a step's network know only some of the earlier steps that trained."""
    context = cfg.model['step']
    context['trained'] = [before for before in context['trained'] if before in kept]


def weights_at_hand(walk: Walk, cfg: Config, step: int, batch: Any, cut: bool) -> State:
    """Return weights for stand-ins where the base step is not rehearsed.

    These are the weights of the last earlier step with a checkpoint, or else new weights.

    Args:
        walk: The walk, in its own folder.
        cfg: Config of a step.
        step: The step that is to be trained.
        batch: Batch of training images.
        cut: Whether large images are cut.
    """
    for earlier in reversed(range(step)):
        path = step_folder(walk.work_dir, earlier) / CHECKPOINT_NAME
        # A checkpoint that cannot be read is refused later, when a step needs it.
        with contextlib.suppress(InputError):
            return load_plain_state(path, len(walk.protocol.steps[earlier].seen))
    model: Any = MODELS.build(plain_model_config(cfg.model.to_dict(), 2))
    model.init_weights()
    if cut:
        model.data_preprocessor.register_forward_hook(cut_images)
    # A network that cannot run like this is used as it is.
    with contextlib.suppress(Exception), settled_norms(model), torch.no_grad():
        model.to(get_device()).train()
        model._run_forward(model.data_preprocessor(batch, True), mode='tensor')
    return {key: value.cpu() for key, value in model.state_dict().items()}
