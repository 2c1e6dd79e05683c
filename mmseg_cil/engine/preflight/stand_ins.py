"""What earlier steps would have left, as far as the rehearsal of a later step needs it.

Networks are those of the earlier steps with weights that are there before training;
lists of exemplars name the first images. The last step's change of the network
(``network_change.pth``) has no stand-in: a step is rehearsed as if there were none, as the
first step after the base step is trained. Of many earlier steps two stand for all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.device import get_device
from torch import Tensor

from mmseg_cil.datasets.exemplar_memory import FILE_NAME, ExemplarMemory
from mmseg_cil.engine.plain_export import CHECKPOINT_NAME, export_checkpoint
from mmseg_cil.engine.preflight.cut_images import cut_images
from mmseg_cil.engine.step_config import (
    StepInputs,
    derive_step_config,
    memory_settings,
    method_of,
    reads_all_teachers,
    run_seed,
    step_folder,
)
from mmseg_cil.engine.walk import Walk, open_view
from mmseg_cil.models.plain import plain_model_config
from mmseg_cil.models.teacher import load_plain_state
from mmseg_cil.models.teachers import step_teacher_name
from mmseg_cil.registry import HOOKS, MODELS

#: Weights by name, of a plain network.
State = Mapping[str, Tensor]


def learnt_steps(walk: Walk, step: int) -> list[int]:
    """Return the earlier steps that stand for all that trained: the first and the last."""
    earlier = [one for one in range(step) if walk.trains(one)]
    return sorted({*earlier[:1], *earlier[-1:]})


def stand_in_inputs(walk: Walk, step: int) -> StepInputs:
    """Return what a step begins with, in the folders of stand-ins.

    Args:
        walk: The walk, in a temporary folder.
        step: The step.
    """
    if step == 0:
        return StepInputs(None, None, walk.train_images)
    learnt = learnt_steps(walk, step)
    all_of_them = reads_all_teachers(method_of(walk.cfg, walk.protocol.name))
    settings = memory_settings(walk.cfg, walk.protocol.name)
    exemplars = step_folder(walk.work_dir, learnt[-1]) / FILE_NAME \
        if learnt and settings is not None else None
    return StepInputs(
        _snapshot(walk, step - 1),
        _snapshot(walk, learnt[-1]) if learnt else None,
        walk.train_images,
        exemplars=None if exemplars is None else str(exemplars),
        teachers={step_teacher_name(one): _snapshot(walk, one) for one in learnt}
        if all_of_them else {})


def _snapshot(walk: Walk, step: int) -> dict[str, Any]:
    return dict(checkpoint=str(step_folder(walk.work_dir, step) / CHECKPOINT_NAME),
                num_classes=len(walk.protocol.steps[step].seen))


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
    names = tuple(dict.fromkeys(view.images_of_step(learnt[-1])))[:min(2, settings.budget)]
    ExemplarMemory(
        walk.protocol.training_fingerprint(), settings.choice(run_seed(walk.cfg)), learnt[-1],
        {'all': names}, dict.fromkeys(names, learnt[-1])
    ).save(step_folder(walk.work_dir, learnt[-1]) / FILE_NAME)


def leave_networks(walk: Walk, step: int, state: State, batch: Any, cut: bool,
                   world_size: int) -> None:
    """Write what the steps before a step would have left.

    Args:
        walk: The walk, in a temporary folder.
        step: The step that reads it.
        state: Weights; those of classifiers, which are of other classes, are made anew.
        batch: Of training images, for hooks.
        cut: Whether large images are cut.
        world_size: Processes.
    """
    learnt = learnt_steps(walk, step)
    for earlier in sorted({*learnt, step - 1}):
        inputs = StepInputs(None, None, walk.train_images)
        cfg = derive_step_config(walk.cfg, walk.protocol, earlier, inputs, walk.work_dir,
                                 world_size)
        cfg.model.update(network_change=None, self_supervision=None)
        forget_steps(cfg, learnt)
        model: Any = MODELS.build(cfg.model)
        own = model.state_dict()
        model.load_state_dict({**own, **{key: value for key, value in state.items()
                                         if key in own and own[key].shape == value.shape}})
        folder = step_folder(walk.work_dir, earlier)
        export_checkpoint(model, folder, {})
        if earlier in learnt:
            _leave_files_of_hooks(cfg, model, [batch], cut)


def _leave_files_of_hooks(cfg: Config, model: Any, batches: Sequence[Any], cut: bool) -> None:
    if cut:
        model.data_preprocessor.register_forward_hook(cut_images)
    model.to(get_device())
    for config in cfg.custom_hooks:
        kind = config.get('type')
        kind = HOOKS.get(kind) if isinstance(kind, str) else kind
        if hasattr(kind, 'stand_in'):
            hook = HOOKS.build({key: value for key, value in config.items() if key != 'priority'})
            hook.stand_in(model, batches, Path(cfg.work_dir))


def forget_steps(cfg: Config, kept: Sequence[int]) -> None:
    """Let a step's network know, of the earlier steps that trained, only some."""
    context = cfg.model['step']
    context['trained'] = [one for one in context['trained'] if one in kept]


def weights_at_hand(walk: Walk, cfg: Config, first: int) -> State:
    """Return weights for stand-ins where the base step is not rehearsed.

    Those of the last step before that is there, else new ones.

    Args:
        walk: The walk, in its own folder.
        cfg: Of a step.
        first: The step that is to be trained.
    """
    for step in reversed(range(first)):
        path = step_folder(walk.work_dir, step) / CHECKPOINT_NAME
        if path.is_file():
            return load_plain_state(path, len(walk.protocol.steps[step].seen))
    model: Any = MODELS.build(plain_model_config(cfg.model.to_dict(), 2))
    model.init_weights()
    state: State = model.state_dict()
    return state
