"""Descriptions of step 0, which is trained once for all cells that have the same description."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch
from mmengine.config import Config

from mmseg_cil.contracts import HeadLoss, StepHook
from mmseg_cil.contracts.method import BEGINNING, FREEZING, TEACHING, WEIGHTS, MethodConfig
from mmseg_cil.engine.config.length import global_batch_size
from mmseg_cil.engine.config.model_losses import losses_of, named_heads
from mmseg_cil.engine.record.fingerprint import fingerprint, training_fingerprints
from mmseg_cil.engine.step_configs import lone_config
from mmseg_cil.engine.sub_steps.listing import sub_steps_of
from mmseg_cil.engine.walk import Walk
from mmseg_cil.registry import HOOKS, MODELS
from mmseg_cil.utils.step_context import StepContext

#: The settings of a loader that decide which batches are trained on.
_OF_LOADER = ('batch_size', 'sampler', 'batch_sampler', 'collate_fn', 'dataset')
#: Parts of a method that do nothing before there is an earlier step.
_LATER_ROLES = tuple(part['role'] for part in (TEACHING, WEIGHTS, BEGINNING, FREEZING))
#: Parts of a method without a role that do nothing in the training of step 0, or that are described
#: here by themselves.
_OTHERS = ('name', 'loss_decode', 'custom_hooks', 'memory', 'teachers', 'sub_steps')
_TOLERANCE = 1e-5


def step_zero_of(walk: Walk) -> dict[str, Any]:
    """Describe everything that the weights after step 0 depend on, except for the seed.

    The description has the parts that ``--start-from`` compares (protocol, network, training
    images), and the parts that it leaves to the user: losses, schedule, hooks, and a method's
    changes of the network. Losses are compared by their values on drawn logits: at step 0, the
    unbiased cross-entropy and the losses with pseudo-labels are the plain cross-entropy, whereas
    sigmoid losses stay what they are. (This is a design choice: configs of losses do not tell
    that.)

    Args:
        walk: The walk of a cell.

    Returns:
        Fingerprints, and a list of loss values, by the described part; for :func:`differing`.
    """
    cfg = lone_config(walk, 0)
    method, _ = MethodConfig.split(cfg.model)
    prints = training_fingerprints(walk.as_given, walk.protocol, walk.prints.train, 1)
    loader = cfg.train_dataloader or {}
    optim_wrapper = dict(cfg.optim_wrapper or {})
    constructor = optim_wrapper.pop('network_constructor', optim_wrapper.get('constructor'))
    optim_wrapper['constructor'] = constructor or 'DefaultOptimWrapperConstructor'
    return {
        'protocol': walk.protocol.beginning_fingerprint(0),
        'training images': fingerprint(walk.prints.train[:1]),
        'network': prints['model'],
        'network in training': fingerprint(_changes(method)),
        'losses': _losses(cfg),
        'schedule': fingerprint(
            [
                optim_wrapper,
                cfg.param_scheduler,
                cfg.train_cfg,
                walk.iterations[0],
                global_batch_size(walk.cfg, 1),
            ]
        ),
        'training data': fingerprint({key: _of_data(loader.get(key)) for key in _OF_LOADER}),
        'hooks': fingerprint(_hooks(cfg, walk)),
        'sub-steps': fingerprint([vars(sub_step) for sub_step in sub_steps_of(walk, 0, 'before')]),
    }


def differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """Return the parts in which two descriptions of :func:`step_zero_of` differ."""
    return [key for key in first if not _equal(first[key], second.get(key))]


def _equal(first: Any, second: Any) -> bool:
    if isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        return all(map(_equal, first, second))
    if isinstance(first, float) and isinstance(second, float):
        return math.isclose(first, second, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
    return bool(first == second)


def _changes(method: MethodConfig) -> dict[str, Any]:
    """Return the parts of a method that could change the network or the data at step 0."""
    return {
        part.name: getattr(method, part.name)
        for part in fields(MethodConfig)
        if part.metadata.get('role') not in _LATER_ROLES
        and part.name not in _OTHERS
        and getattr(method, part.name) != part.default
    }


def _hooks(cfg: Config, walk: Walk) -> list[Any]:
    """Return the hooks of step 0 that its weights may depend on.

    These are the user's own hooks, and all others except for hooks that keep files of the step and
    hooks of every walk.
    """
    result = []
    given = list(walk.cfg.get('custom_hooks') or [])
    for hook in cfg.custom_hooks:
        kind = HOOKS.get(hook['type']) if isinstance(hook.get('type'), str) else hook.get('type')
        keeps = isinstance(kind, type) and issubclass(kind, StepHook)
        ours = str(getattr(kind, '__module__', '')).startswith('mmseg_cil.hooks.')
        if hook in given or not (keeps or ours):
            result.append(hook)
    return result


def _of_data(value: Any) -> Any:
    """Return a loader's setting without the folders that data are cached in."""
    if isinstance(value, Mapping):
        return {key: _of_data(entry) for key, entry in value.items() if key not in ('cache_dirs',)}
    return [_of_data(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def _losses(cfg: Config) -> list[Any]:
    """Return the values of all heads' losses on drawn logits, or configs of losses that fail."""
    return [
        [where, *(_value(loss, head, cfg) for loss in losses_of(dict(head)))]
        for where, head in named_heads(cfg.model)
    ]


def _value(config: Mapping[str, Any], head: Mapping[str, Any], cfg: Config) -> Any:
    classes = int(head.get('out_channels') or head.get('num_classes') or 1)
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(2, classes, 12, 12, generator=generator)
    labels = torch.randint(0, classes, (2, 12, 12), generator=generator)
    labels[:, :2] = 255
    try:
        loss: Any = MODELS.build(dict(config))
        if isinstance(loss, HeadLoss):
            loss.set_step(StepContext.from_config(cfg.model.step))
        with torch.no_grad():
            return float(loss(logits, labels, ignore_index=255))
    except Exception:
        return fingerprint(dict(config))
