"""The sub-step that trains a second teacher on the new step's data alone."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

from mmseg_cil.contracts import network_of
from mmseg_cil.contracts.method import MethodConfig
from mmseg_cil.engine.config.length import first_trained
from mmseg_cil.engine.config.model_losses import StepClasses, for_step
from mmseg_cil.engine.config.schedules import schedule_groups, stretch_schedules, without_short
from mmseg_cil.engine.config.step_hooks import OF_ALL
from mmseg_cil.engine.config.step_overrides import overrides_of_step
from mmseg_cil.engine.export.checkpoint import CHECKPOINT_NAME, export_checkpoint
from mmseg_cil.engine.runner.distributed import decided_by_main
from mmseg_cil.engine.runner.ema import keep_averaged_weights
from mmseg_cil.engine.step_configs import sub_step_config
from mmseg_cil.engine.sub_steps.base import SubStep, SubStepInputs
from mmseg_cil.engine.walk import Walk
from mmseg_cil.errors import InputError
from mmseg_cil.models.plain import map_heads, type_name
from mmseg_cil.registry import SUB_STEPS
from mmseg_cil.utils.values import check_choice

INITS = ('last_step', 'pretrained')


@SUB_STEPS.register_module()
class NewDataSubStep(SubStep):
    """Trains a second network on a step's images, with the background and the new classes.

    The step's distillers read the trained network as a named teacher, called 'new_data'
    or by the sub-step's ``name``. The teacher's outputs are the background, if there is
    one, and the new classes in their order. Loss, optimizer and pipeline come from the
    config; no part of the method takes part in this training.

    Args:
        name: Name of folder and teacher. Defaults to 'new_data'.
        init: Weights that training begins with: 'last_step', the last step's backbone
            (and neck), or 'pretrained', the weights that step 0 begins with. Heads are
            new in both cases.
        max_iters: Number of iterations. By default as many as the step has.
        lr: Learning rate. By default that of the first step, because the heads are new.

    Raises:
        InputError: ``init`` or ``max_iters`` cannot be used.
    """

    name = 'new_data'
    when = 'before'

    def __init__(
        self,
        name: str | None = None,
        init: str = 'last_step',
        max_iters: int | None = None,
        lr: float | None = None,
    ) -> None:
        super().__init__(name)
        check_choice(f'sub-step {self.name}', 'init', init, INITS)
        if max_iters is not None and (
            isinstance(max_iters, bool) or not isinstance(max_iters, int) or max_iters < 1
        ):
            raise InputError(
                f'sub-step {self.name}: max_iters is {max_iters!r}; it must be a '
                'whole number above 0, or None'
            )
        self.init, self.max_iters, self.lr = init, max_iters, lr

    def iterations(self, walk: Walk, step: int) -> int:
        """Return ``max_iters``, by default the number of iterations of the step."""
        return self.max_iters or walk.iterations[step]

    def check(self, walk: Walk) -> None:
        """Refuse a walk by domain, whose steps bring no class of their own."""
        if walk.protocol.kind == 'domain':
            raise InputError(
                f'sub-step {self.name}: {walk.protocol.name} brings domains, not classes, so there '
                'is nothing that a teacher of new classes alone could know; use a method without '
                'it, such as dfgr'
            )

    def derive_config(self, walk: Walk, step: int, inputs: SubStepInputs) -> Config:
        """See :meth:`SubStep.derive_config`."""
        cfg = sub_step_config(walk, step, inputs)
        # The heads may have losses of the method; _model replaces them by the user's config's.
        cfg.model = self._model(cfg.model.to_dict(), walk, step, inputs)
        length = cfg.train_cfg.max_iters
        cfg.train_cfg.max_iters = self.iterations(walk, step)
        for group in schedule_groups(cfg.get('param_scheduler')):
            stretch_schedules(group, length, cfg.train_cfg.max_iters)
        cfg.param_scheduler = without_short(cfg.get('param_scheduler'))
        lr = self.lr if self.lr is not None else _first_lr(walk)
        if lr is not None and 'optimizer' in cfg.optim_wrapper:
            cfg.optim_wrapper.optimizer.lr = lr
        own = copy.deepcopy(list(walk.cfg.get('custom_hooks') or []))
        cfg.custom_hooks = [
            *own,
            *(
                custom_hook
                for custom_hook in cfg.custom_hooks
                if custom_hook.type in OF_ALL and custom_hook not in own
            ),
        ]
        return cfg

    def _model(
        self, model: dict[str, Any], walk: Walk, step: int, inputs: SubStepInputs
    ) -> dict[str, Any]:
        has_background = walk.protocol.taxonomy.has_background
        old = len(walk.protocol.steps[step].old)
        classes = _num_classes(walk, step)
        plain = map_heads(walk.cfg.model.to_dict(), lambda head: head)
        for name in ('decode_head', 'auxiliary_head'):
            if name in plain:
                model[name] = _with_losses(model[name], plain[name])
        known = _classes_of(walk, step)
        result = map_heads(
            model,
            lambda head: for_step({**head, 'num_classes': classes}, known, type_name(head['type'])),
        )
        result.update(
            type='NewDataCascadeEncoderDecoder'
            if isinstance(model['decode_head'], (list, tuple))
            else 'NewDataEncoderDecoder',
            num_old=old,
            step=dict(
                index=0,
                class_steps=[0] * classes,
                has_background=has_background,
                old_labels_hidden=False,
            ),
            previous=None,
            teacher=None,
            teachers={},
        )
        # No part of the method takes part in this training.
        for key in (*MethodConfig.network_keys(), 'replay'):
            result.pop(key, None)
        own = MethodConfig().for_network()
        result.update({key: value for key, value in own.items() if value is not None})
        previous = inputs.step.previous
        if self.init == 'last_step' and previous is not None:
            result.pop('pretrained', None)
            for name in ('backbone', 'neck'):
                if result.get(name):
                    result[name].pop('pretrained', None)
                    result[name]['init_cfg'] = dict(
                        type='Pretrained', checkpoint=previous['checkpoint'], prefix=f'{name}.'
                    )
        return result

    def finish(self, runner: Runner, folder: Path) -> list[str]:
        """Write the teacher's weights."""
        keep_averaged_weights(runner)
        model: Any = network_of(runner)
        model.make_plain()
        decided_by_main(lambda: str(export_checkpoint(model, folder, {'sub_step': self.name})))
        return [CHECKPOINT_NAME]

    def hand_on(self, cfg: Config, walk: Walk, step: int, folder: Path) -> None:
        """Add a teacher with this sub-step's name to the config of the step."""
        cfg.model['teachers'] = {
            **(cfg.model.get('teachers') or {}),
            self.name: dict(
                checkpoint=str(folder / CHECKPOINT_NAME), num_classes=_num_classes(walk, step)
            ),
        }


def _num_classes(walk: Walk, step: int) -> int:
    return len(walk.protocol.steps[step].new) + bool(walk.protocol.taxonomy.has_background)


def _classes_of(walk: Walk, step: int) -> StepClasses:
    """Return the background, if there is one, and the classes that are new at a step."""
    every = StepClasses.of(walk.protocol, step)
    background = walk.protocol.taxonomy.has_background
    old = len(walk.protocol.steps[step].old)
    return replace(every, places=(*every.places[: int(background)], *every.places[old:]))


def _with_losses(heads: Any, plain: Any) -> Any:
    """Return the step's heads with the losses that the user's config gives them."""
    if isinstance(heads, (list, tuple)):
        return [_with_losses(*pair) for pair in zip(heads, plain, strict=True)]
    keys = ('loss_decode', 'loss_se_decode')
    result = {key: value for key, value in heads.items() if key not in keys}
    first = result.get('kernel_generate_head')
    if first:
        result['kernel_generate_head'] = _with_losses(first, plain['kernel_generate_head'])
    return {**result, **{key: plain[key] for key in keys if key in plain}}


def _first_lr(walk: Walk) -> float | None:
    """Return the learning rate of the first step that trains; None if no single one is set."""
    first = first_trained(walk.cfg, walk.protocol, walk.train_images)
    overrides = overrides_of_step(walk.cfg.get('step_overrides'), first, first)
    optimizer = walk.cfg.optim_wrapper.get('optimizer') or {}
    lr: float | None = overrides.get('lr', optimizer.get('lr'))
    return lr
