"""Checks of a config before anything is trained, by building each of its parts once."""

from __future__ import annotations

import copy
import inspect
import logging
from collections.abc import Mapping

from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger, print_log
from mmengine.optim import build_optim_wrapper
from mmengine.runner import IterBasedTrainLoop, Runner
from mmengine.runner.priority import get_priority
from torch import nn

from mmseg_cil.contracts import Distiller, MethodPart, StepHook
from mmseg_cil.contracts.check import check_part
from mmseg_cil.engine.config.length import first_trained, overrides_by_index
from mmseg_cil.engine.config.schedules import schedule_groups
from mmseg_cil.engine.config.step_config import StepInputs
from mmseg_cil.engine.config.step_evaluation import evaluators_of
from mmseg_cil.engine.config.step_hooks import notes_on_hooks
from mmseg_cil.engine.preflight.batch_of_one import check_batch_of_one
from mmseg_cil.engine.preflight.building import part, require_type
from mmseg_cil.engine.preflight.model import check_growth, check_model
from mmseg_cil.engine.preflight.student import check_student
from mmseg_cil.engine.preflight.values import check_values
from mmseg_cil.engine.preflight.visualizer import check_visualizer, trial_visualizer
from mmseg_cil.engine.step_configs import training_config
from mmseg_cil.engine.sub_steps.base import SubStepInputs
from mmseg_cil.engine.sub_steps.listing import sub_step_folder, sub_steps_of
from mmseg_cil.engine.walk import Walk
from mmseg_cil.errors import InputError
from mmseg_cil.models.compile_options import try_compiler
from mmseg_cil.registry import (
    HOOKS,
    LOG_PROCESSORS,
    MODELS,
    OPTIMIZERS,
    PARAM_SCHEDULERS,
)
from mmseg_cil.utils.quiet import quieten_console


def check_parts(walk: Walk) -> None:
    """Build network, optimizer, schedules, hooks and loaders as the steps will, and drop them.

    Errors in these parts thus show at once, and not after the hours of step 0.
    The network, the largest part, is built for the last step, with distillers, and
    for every step whose overrides change the network. No weights are read.

    Args:
        walk: Walk of which everything else has been checked.

    Raises:
        InputError: A part cannot be built.
    """
    # The constructor of an optimizer with paramwise_cfg logs a line for each parameter.
    quieten_console(MMLogger.get_current_instance())
    last = walk.num_steps - 1
    overrides = overrides_by_index(walk.cfg, walk.num_steps)
    first = first_trained(walk.cfg, walk.protocol, walk.train_images)
    network = _network(_config(walk, last), last)
    for step in range(walk.num_steps):
        cfg = _config(walk, step)
        if step in overrides or step in (first, last):
            own = step != last and any(
                key.split('.')[0] in ('model', 'method') for key in overrides.get(step, ())
            )
            _check_step(walk, step, cfg, _network(cfg, step) if own else network)
        if walk.trains(step):
            _check_schedules(cfg, step)
    try_compiler(_config(walk, last).get('compile'))
    _check_sub_steps(walk)
    for note in [*notes_on_hooks(walk.cfg), *evaluators_of(walk.cfg).notes]:
        print_log(note, 'current', logging.WARNING)


def _check_sub_steps(walk: Walk) -> None:
    """Check the sub-steps of the first and of the last step that have any."""
    by_step = {step: sub_steps_of(walk, step) for step in range(walk.num_steps)}
    used = [step for step, listed in by_step.items() if listed]
    for step in sorted({*used[:1], *used[-1:]}):
        for sub_step in by_step[step]:
            sub_step.check(walk)
            name = f'the sub-step {sub_step.name} of step {step}'
            own = dict(checkpoint='', num_classes=len(walk.protocol.steps[step].seen))
            inputs = SubStepInputs(
                expected_inputs(walk, step),
                own if sub_step.when == 'after' else None,
                sub_step_folder(walk, step, sub_step.name),
            )
            with part(name):
                cfg = sub_step.derive_config(walk, step, inputs)
                network: nn.Module = MODELS.build(cfg.model)
                build_optim_wrapper(network, copy.deepcopy(cfg.optim_wrapper))
            _check_hooks(cfg, name)
            _check_schedules(cfg, step)


def _config(walk: Walk, step: int) -> Config:
    """Return the config of a step that starts from the one before, as yet without weights."""
    with part(f'the config of step {step}'):
        return training_config(walk, step, expected_inputs(walk, step))


def expected_inputs(walk: Walk, step: int) -> StepInputs:
    """Return the inputs that a step will have once all earlier steps are trained, without files.

    Args:
        walk: The walk.
        step: The step.
    """
    seen = len(walk.protocol.steps[max(0, step - 1)].seen)
    snapshot = dict(checkpoint='', num_classes=seen) if step else None
    return StepInputs(snapshot, snapshot, walk.train_images)


def _network(cfg: Config, step: int) -> nn.Module:
    check_model(cfg.model)
    with part(f'the network of step {step} cannot be built'):
        network: nn.Module = MODELS.build(cfg.model)
    if step and cfg.model.step.class_steps[-1] > 0:
        check_growth(cfg.model)
    return network


def _check_step(walk: Walk, step: int, cfg: Config, network: nn.Module) -> None:
    check_values(cfg)
    _check_log(cfg)
    _check_hooks(cfg, f'step {step}', network)
    _check_needs(cfg, network)
    if walk.trains(step):
        _check_optimizer(cfg, step, network)
        check_batch_of_one(cfg, network, step)
        check_student(cfg, network)
        with part(f'train_cfg of step {step}'):
            own = {key: value for key, value in cfg.train_cfg.items() if key != 'type'}
            inspect.signature(IterBasedTrainLoop).bind(None, None, **own)
        _check_loader(cfg, 'train_dataloader', walk.train_images[step])
    _check_loader(cfg, 'test_dataloader', walk.test_images[step])
    with part('test_evaluator'):
        Evaluator(copy.deepcopy(cfg.test_evaluator))


def _check_hooks(cfg: Config, where: str, network: nn.Module | None = None) -> None:
    """Build the hooks, and let them check the network of a step."""
    hooks = {
        f'default_hooks.{name}': hook for name, hook in (cfg.get('default_hooks') or {}).items()
    }
    hooks.update({f'custom_hooks.{i}': hook for i, hook in enumerate(cfg.custom_hooks)})
    with trial_visualizer(cfg):
        for name, hook in hooks.items():
            if hook is not None:
                with part(f'{name} of {where}'):
                    own = copy.deepcopy(hook)
                    priority = own.pop('priority', None)
                    built = HOOKS.build(own)
                    get_priority(built.priority if priority is None else priority)
                    check_part(built, StepHook)
                    if network is not None and isinstance(built, StepHook):
                        built.check_network(network)


def _check_needs(cfg: Config, network: nn.Module) -> None:
    """Check that the method has the hooks and the teachers that parts of the network need."""
    hooks = [HOOKS.get(hook['type']) for hook in cfg.custom_hooks if 'type' in hook]
    for module in network.modules():
        needed = module.needs_hook if isinstance(module, MethodPart) else None
        if needed and not any(issubclass(hook, HOOKS.get(needed)) for hook in hooks if hook):
            raise InputError(
                f'{type(module).__name__} works with a {needed} only: add '
                f"dict(type='{needed}') to method.custom_hooks"
            )
        if not isinstance(module, Distiller):
            continue
        if module.needs.all_teachers and cfg.method.get('teachers') != 'all':
            raise InputError(
                f'{type(module).__name__} learns from the snapshots of all earlier '
                "steps: set method.teachers='all'"
            )
        # The first step has no teacher, and does not distil.
        if cfg.model.get('teacher'):
            there = sorted(cfg.model.get('teachers') or ())
            missing = sorted(set(module.needs.names) - set(there))
            if missing:
                raise InputError(
                    f'{type(module).__name__} learns from the teachers {missing}, and '
                    f'there are {there}: method.sub_steps must train one of each name'
                )


def _check_optimizer(cfg: Config, step: int, network: nn.Module) -> None:
    # MMEngine answers an unknown optimizer with "None is not a callable object".
    optimizer = cfg.optim_wrapper.get('optimizer')
    if isinstance(optimizer, Mapping):
        require_type(OPTIMIZERS, optimizer.get('type'), f'optim_wrapper.optimizer of step {step}')
    with part(f'optim_wrapper of step {step}'):
        build_optim_wrapper(network, copy.deepcopy(cfg.optim_wrapper))


def _check_schedules(cfg: Config, step: int) -> None:
    wrapper = build_optim_wrapper(
        nn.Linear(1, 1),
        Config(dict(wrapper=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9)))).wrapper,
    )
    for group in schedule_groups(cfg.get('param_scheduler')):
        for schedule in group:
            with part(
                f'param_scheduler {schedule.get("type")} of step {step}, '
                f'{cfg.train_cfg.max_iters} iterations'
            ):
                PARAM_SCHEDULERS.build(schedule, default_args=dict(optimizer=wrapper))


def _check_loader(cfg: Config, name: str, images: int) -> None:
    loader = {**cfg[name], 'dataset': range(max(1, images))}
    with part(name):
        Runner.build_dataloader(loader, seed=0)


def _check_log(cfg: Config) -> None:
    check_visualizer(cfg)
    with part('log_processor'):
        LOG_PROCESSORS.build({'type': 'LogProcessor', **(cfg.get('log_processor') or {})})
