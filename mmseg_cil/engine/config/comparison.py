"""The settings in which two configs differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

#: Keys of a config on which neither weights nor scores depend.
_INDIFFERENT = (
    'default_hooks', 'env_cfg', 'experiment_name', 'launcher', 'log_level', 'log_processor',
    'rehearsal', 'resume', 'vis_backends', 'visualizer', 'work_dir', 'allow_unknown_keys', 'grid',
)  # fmt: skip
_INDIFFERENT_OF_LOADERS = ('num_workers', 'persistent_workers', 'pin_memory', 'prefetch_factor')


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the dotted keys that differ in two configs and matter to weights or scores.

    Variables of a config file, whose names begin with an underscore, matter by their uses alone.

    Example:
        >>> differences({'a': {'b': 1, 'c': (2, 3)}}, {'a': {'b': 4, 'c': [2, 3]}, 'work_dir': ''})
        ['a.b']
    """
    first, second = dict(_leaves(before)), dict(_leaves(now))
    return sorted(
        key for key in {*first, *second} if first.get(key, _leaves) != second.get(key, _leaves)
    )


def _leaves(node: Any, where: tuple[str, ...] = ()) -> list[tuple[str, Any]]:
    if where and (
        where[0] in _INDIFFERENT
        or where[0].startswith('_')
        or (where[0].endswith('_dataloader') and where[-1] in _INDIFFERENT_OF_LOADERS)
    ):
        return []
    if isinstance(node, Mapping) and node:
        items: Sequence[tuple[Any, Any]] = list(node.items())
    elif isinstance(node, (list, tuple)) and node:
        items = list(enumerate(node))
    else:
        return [('.'.join(where), list(node) if isinstance(node, tuple) else node)]
    return [leaf for key, value in items for leaf in _leaves(value, (*where, str(key)))]
