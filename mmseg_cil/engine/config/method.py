"""The method of a config: which parts it may have, and what it says of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.config import Config

from mmseg_cil.engine.config.protocol_pieces import settled
from mmseg_cil.engine.data import drops_partial
from mmseg_cil.errors import InputError
from mmseg_cil.memory.memory import MemorySettings
from mmseg_cil.utils.near import near

#: What a method may consist of.
METHOD_KEYS = (
    'name',
    'loss_decode',
    'distillers',
    'regularisers',
    'self_supervision',
    'classifier_init',
    'network_change',
    'custom_hooks',
    'memory',
    'teachers',
    'teacher_draw',
    'sub_steps',
    'by_protocol',
    'protocol_overrides',
)


def method_of(cfg: Config, protocol_name: str) -> dict[str, Any]:
    """Return the method of a config as it is on a protocol.

    Raises:
        InputError: There is no method, or it has unknown or ill-typed parts.
    """
    method = cfg.get('method')
    if not isinstance(method, Mapping) or 'name' not in method:
        raise InputError(
            "the config has no method: add a base such as '_base_/methods/mib.py', "
            "or method=dict(name='finetune')"
        )
    unknown = sorted(set(method) - set(METHOD_KEYS))
    if unknown:
        meant = near(str(unknown[0]), METHOD_KEYS)
        hint = f'did you mean {meant!r}? A' if meant else 'a'
        raise InputError(
            f'method {method["name"]!r} has the unknown keys {unknown}: {hint} method '
            f'consists of {list(METHOD_KEYS)}'
        )
    for key in ('distillers', 'regularisers', 'custom_hooks', 'sub_steps'):
        if not isinstance(method.get(key) or [], (list, tuple)):
            raise InputError(
                f'method {method["name"]!r}: {key} must be a list of configs, not {method[key]!r}'
            )
    if method.get('teachers') not in (None, 'all'):
        raise InputError(
            f"method {method['name']!r}: teachers must be 'all' (the snapshots of all "
            f'earlier steps) or None, not {method["teachers"]!r}'
        )
    return settled(method, protocol_name)


def reads_all_teachers(method: Mapping[str, Any]) -> bool:
    """Whether a method (of :func:`method_of`) learns from the snapshots of all earlier steps."""
    return method.get('teachers') == 'all'


def memory_settings(cfg: Config, protocol_name: str) -> MemorySettings | None:
    """What the method says of its exemplar memory; None where it keeps none.

    Raises:
        InputError: A value is wrong, or as :func:`method_of`.
    """
    settings = MemorySettings.from_config(method_of(cfg, protocol_name).get('memory'))
    if settings is not None and settings.ratio is not None and drops_partial(cfg):
        raise InputError(
            'train_dataloader.sampler.drop_partial ends every pass over the images with a whole '
            'batch, but method.memory.ratio draws images without passes: leave one out'
        )
    return settings
