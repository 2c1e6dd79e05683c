"""The registered names of the types in a config, however the config gives the types.

A pure Python config imports its classes and writes ``type=SyncBatchNorm``; others
write ``'mmseg.EncoderDecoder'``. After :func:`with_type_names`, code that searches for a type by
name (``'SyncBN'``, ``'EncoderDecoder'``) finds it.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import Registry
from mmengine.utils import get_object_from_string

from mmseg_cil import registry

#: Packages whose classes have a registered name.
_PACKAGES = ('mmengine', 'mmcv', 'mmseg', 'mmseg_cil', 'torch')


def with_type_names(cfg: Config) -> Config:
    """Return a copy of a config with the registered name for every ``type`` that has one.

    Classes without a registered name become their dotted names, which MMEngine resolves.

    Args:
        cfg: The user's config; not changed.
    """
    content = cfg.to_dict()
    if any(not isinstance(kind, str) or '.' in kind for kind in types_in(content)):
        content = _named(content, _names())
    return Config(
        content,
        cfg_text=cfg.text or '#',
        filename=cfg.filename,
        format_python_code=cfg._format_python_code,
    )


def types_in(node: Any) -> Iterator[Any]:
    """Yield every value under the key ``type`` of a config, at any depth."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from [value] if key == 'type' else types_in(value)
    elif isinstance(node, (list, tuple)):
        for part in node:
            yield from types_in(part)


def _names() -> dict[int, str]:
    """Return the registered name of every class and function, by its id."""
    # The class that MMCV registers is derived from PyTorch's, for another back end.
    result: dict[int, str] = {id(torch.nn.SyncBatchNorm): 'SyncBN'}
    for node in [value for value in vars(registry).values() if isinstance(value, Registry)]:
        level: Registry | None = node
        while level is not None:
            # A registry otherwise imports its modules only at the first look-up.
            level.import_from_location()
            for name, kind in list(level.module_dict.items()):
                # A name that a child registry shadows means another class there.
                if node.get(name) is kind:
                    result.setdefault(id(kind), name)
            level = level.parent
    return result


def _named(node: Any, names: Mapping[int, str]) -> Any:
    if isinstance(node, Mapping):
        return {
            key: _name(value, names) if key == 'type' else _named(value, names)
            for key, value in node.items()
        }
    if isinstance(node, (list, tuple)):
        return type(node)(_named(part, names) for part in node)
    return copy.deepcopy(node)


def _name(kind: Any, names: Mapping[int, str]) -> Any:
    if isinstance(kind, str):
        package, dot, rest = kind.partition('.')
        if not dot or package not in _PACKAGES:
            return kind
        found = get_object_from_string(kind)
        if found is None:
            return rest if '.' not in rest and _is_registered(rest) else kind
        return names.get(id(found), kind)
    if inspect.isclass(kind) or inspect.isfunction(kind):
        return names.get(id(kind), f'{kind.__module__}.{kind.__qualname__}')
    return kind


def _is_registered(name: str) -> bool:
    return any(
        isinstance(node, Registry) and node.get(name) is not None
        for node in vars(registry).values()
    )
