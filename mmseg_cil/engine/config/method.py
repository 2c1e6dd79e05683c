"""The method of a config: the parts that it may have, and their settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.config import Config

from mmseg_cil.contracts.method import MethodConfig
from mmseg_cil.engine.config.protocol_pieces import settled
from mmseg_cil.engine.data import drops_partial
from mmseg_cil.errors import InputError
from mmseg_cil.memory.memory import MemorySettings

#: Keys of ``method`` that are no part of a method.
OTHER_KEYS = ('by_protocol', 'protocol_overrides')


def find_method(cfg: Config, protocol_name: str) -> MethodConfig:
    """Return the method of a config, with its settings for this protocol.

    Raises:
        InputError: See :func:`method_of`.
    """
    return MethodConfig.from_config(method_of(cfg, protocol_name))


def method_of(cfg: Config, protocol_name: str) -> dict[str, Any]:
    """Return the method of a config in plain form, as fingerprints and the journal have it.

    The method's settings for this protocol are merged in.

    Raises:
        InputError: There is no method, or it has unknown or ill-typed parts.
    """
    method = cfg.get('method')
    if not isinstance(method, Mapping) or 'name' not in method:
        raise InputError(
            "the config has no method: add a base such as '_base_/methods/mib.py', "
            "or method=dict(name='finetune')"
        )
    MethodConfig.from_config(method, OTHER_KEYS)
    return settled(method, protocol_name)


def memory_settings(cfg: Config, protocol_name: str) -> MemorySettings | None:
    """Return the settings of the method's exemplar memory; None where it keeps none.

    Raises:
        InputError: A value is wrong, or :func:`method_of` raises it.
    """
    settings = MemorySettings.from_config(find_method(cfg, protocol_name).memory)
    if settings is not None and settings.ratio is not None and drops_partial(cfg):
        raise InputError(
            'train_dataloader.sampler.drop_partial ends every pass over the images with a whole '
            'batch, but method.memory.ratio draws images without passes: leave one out'
        )
    return settings
