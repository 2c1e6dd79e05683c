"""Merging settings by dotted keys into a config."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmengine.config import Config

#: Key of a dict that replaces what it would be merged into, as in MMEngine.
DELETE = '_delete_'


def merge_options(cfg: Config, options: Mapping[str, Any]) -> None:
    """Merge settings by dotted keys into a config, in place.

    This is MMEngine's ``Config.merge_from_dict`` with these differences:

    * An item of a list is replaced by a value that is no dict, and by a dict with
      ``_delete_=True``. MMEngine fails for the former and keeps the old keys for the latter.
    * If one setting lies within another, the inner one holds, in whichever order
      they are given. MMEngine drops the inner one in silence if it comes first.
    * The given values stay as they are. MMEngine removes ``_delete_`` from them, so that merging
      them again would delete nothing.

    Args:
        cfg: The config.
        options: Values by dotted keys, in which numbers are indices of lists.

    Raises:
        Exception: A setting does not fit the config; MMEngine's errors have several types.

    Example:
        >>> from mmengine.config import Config
        >>> cfg = Config(dict(hooks=[dict(type='A', a=1)], milestones=[10, 20]))
        >>> merge_options(cfg, {'hooks.0': dict(_delete_=True, type='B'), 'milestones.1': 30})
        >>> cfg.hooks, cfg.milestones
        ([{'type': 'B'}], [10, 30])
    """
    for key in sorted(options, key=_depth):
        _set(cfg, key, copy.deepcopy(options[key]))


def _set(cfg: Config, key: str, value: Any) -> None:
    home, _, name = key.rpartition('.')
    items = _find(cfg, home) if name.isdigit() else None
    if not isinstance(items, list) or int(name) >= len(items):
        cfg.merge_from_dict({key: value})
        return
    index = int(name)
    if isinstance(value, dict) and not value.pop(DELETE, False) and isinstance(items[index], dict):
        cfg.merge_from_dict({key: value})
        return
    _set(cfg, home, [*items[:index], value, *items[index + 1 :]])


def _depth(key: str) -> int:
    # ``a._delete_`` replaces a, so it comes before what is set within a.
    return key.removesuffix(f'.{DELETE}').count('.')


def _find(cfg: Config, key: str) -> Any:
    """Return the value of a config at a dotted key; None: there is none."""
    found: Any = cfg.to_dict()
    for name in key.split('.'):
        if isinstance(found, list) and name.isdigit() and int(name) < len(found):
            found = found[int(name)]
        elif isinstance(found, dict):
            found = found.get(name)
        else:
            return None
    return found
