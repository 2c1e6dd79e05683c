"""The config of one step as lines, each with what has set it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config
from mmengine.dist import get_world_size

from mmseg_cil.engine.config.length import global_batch_size
from mmseg_cil.engine.config.method import method_of
from mmseg_cil.engine.config.step_config import overridden_config
from mmseg_cil.engine.walk import Walk

#: What may have set a value, in the order in which it is looked for.
CONFIG, OVERRIDES, METHOD, WALK = 'config', 'step_overrides', 'method', 'walk'


def described(walk: Walk, step: int, derived: Config) -> Iterator[str]:
    """Yield ``key = value  # who`` for every setting of a step's config.

    ``config`` stands for the user's config with its bases and options, ``step_overrides`` for
    those of this step, ``method`` for a part of the method in its place, and ``walk`` for what
    the walk itself sets. A value that two of them have in common is the first one's.

    Args:
        walk: The walk.
        step: The step.
        derived: The step's config.

    Example:
        >>> sources = {'train_cfg.max_iters': 60}
        >>> source_of('train_cfg.max_iters', 60, sources, {}, {})
        'config'
        >>> source_of('train_cfg.max_iters', 30, sources, {'train_cfg.max_iters': 30}, {})
        'step_overrides'
        >>> source_of('model.distillers.1.type', 'X', {}, {}, {'distillers.#.type': ['X']})
        'method'
    """
    batch = global_batch_size(walk.cfg, get_world_size())
    overridden, _ = overridden_config(walk.cfg, walk.protocol, step, walk.train_images, batch)
    given, changed = dict(leaves(walk.cfg)), dict(leaves(overridden))
    parts: dict[str, list[Any]] = {}
    for key, value in leaves(method_of(overridden, walk.protocol.name)):
        parts.setdefault(_unnumbered(key), []).append(value)
    for key, value in sorted(leaves(derived)):
        yield f'{key} = {value!r}  # {source_of(key, value, given, changed, parts)}'


def source_of(
    key: str,
    value: Any,
    given: Mapping[str, Any],
    changed: Mapping[str, Any],
    parts: Mapping[str, list[Any]],
) -> str:
    """Return what has set one value of a step's config.

    Args:
        key: Its dotted key.
        value: The value.
        given: The values of the user's config, by dotted key.
        changed: Those of the config with the overrides of the step.
        parts: The values that the parts of the method have, by dotted keys without numbers.
    """
    for source, values in ((CONFIG, given), (OVERRIDES, changed)):
        if key in values and values[key] == value:
            return source
    names = _unnumbered(key).split('.')
    for start in range(len(names) - 1):
        if value in parts.get('.'.join(names[start:]), []):
            return METHOD
    return WALK


def leaves(node: Any, key: str = '') -> Iterator[tuple[str, Any]]:
    """Yield dotted key and value of everything in a config that has no settings of its own."""
    if isinstance(node, (Mapping, Config)):
        items: Any = [(str(name), value) for name, value in node.items()]
    elif isinstance(node, (list, tuple)) and any(isinstance(item, Mapping) for item in node):
        items = [(str(place), value) for place, value in enumerate(node)]
    else:
        items = []
    if not items:
        yield key, node
    for name, value in items:
        yield from leaves(value, f'{key}.{name}' if key else name)


def _unnumbered(key: str) -> str:
    return re.sub(r'\.\d+(?=\.|$)', '.#', key)
