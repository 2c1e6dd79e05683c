"""The config of one step as lines, each with the source of its value."""

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

#: The sources of a value, in the order in which they are searched for it.
CONFIG, OVERRIDES, METHOD, WALK = 'config', 'step_overrides', 'method', 'walk'


def described(walk: Walk, step: int, derived: Config) -> Iterator[str]:
    """Yield ``key = value  # source`` for every setting of a step's config.

    The source ``config`` is the user's config with its bases and options, ``step_overrides`` are
    the overrides of this step, ``method`` is a part of the method in its place, and ``walk`` is
    the walk itself. A value that two sources share is given to the first of them.

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
    """Return the source of one value of a step's config.

    Args:
        key: The dotted key of the value.
        value: The value.
        given: The values of the user's config, by dotted key.
        changed: The values of the config with the overrides of the step, by dotted key.
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
    """Yield the dotted key and the value of every leaf of a config, which has no inner settings."""
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
