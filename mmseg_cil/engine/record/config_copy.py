"""The copy of its config that a walk leaves in its folder, read as data."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import mmengine.registry
import mmseg.registry
import torch
from mmcv.transforms import BaseTransform
from mmengine.config import Config
from mmengine.registry import Registry
from torch import nn

from mmseg_cil import registry
from mmseg_cil.engine.config.load import import_parts
from mmseg_cil.engine.config.protocol_pieces import FOLDER
from mmseg_cil.engine.preflight.pretrained import check_pretrained_files
from mmseg_cil.errors import InputError
from mmseg_cil.utils.literals import read_literals

NAME = 'walk_config.py'
#: Classes whose subclasses ``type`` may name by a dotted name though no registry holds them.
_PARTS = (nn.Module, torch.optim.Optimizer, torch.utils.data.Dataset, BaseTransform)
_ADVICE = 'If you trust whoever made it, say so with --config {path}, which executes it'


def load_copy(path: Path) -> Config:
    """Read the config of a walk that may come from somebody else, without executing it.

    The types that the config names must be registered, or be network parts, optimizers, datasets
    and transforms by their dotted names: otherwise a ``type`` could name any function of Python.
    Modules of ``custom_imports`` are imported by their names, from where Python finds modules.

    Args:
        path: ``walk_config.py`` of a work directory.

    Raises:
        InputError: The file is missing, or holds more than plain values.
    """
    if not path.is_file():
        raise InputError(f'{path} is missing: give the config of the walk with --config')
    advice = _ADVICE.format(path=path)
    try:
        content = read_literals(path)
    except Exception as error:
        raise InputError(
            f'{path} cannot be read as data: {type(error).__name__}: {error}. {advice}'
        ) from error
    if '_base_' in content:
        raise InputError(
            f'{path} takes other files as its _base_, which no copy of a walk does. {advice}'
        )
    import_parts(content.get('custom_imports'), path)
    known = _registered_ids()
    for where, kind in _types(content, ''):
        if any(
            callable(found)
            and id(found) not in known
            and not (isinstance(found, type) and issubclass(found, _PARTS))
            for found in _meanings(kind)
        ):
            raise InputError(
                f'{path}: {where}={kind!r} is no registered part, and could be '
                f'anything that Python can do. {advice}'
            )
    cfg = Config(content, cfg_text=path.read_text(encoding='utf-8'), filename=str(path))
    check_pretrained_files(cfg)
    return cfg


def _registries() -> list[Registry]:
    return [
        node
        for module in (mmengine.registry, mmseg.registry, registry)
        for node in vars(module).values()
        if isinstance(node, Registry)
    ]


def _registered_ids() -> set[int]:
    """Return the ids of the classes and functions that any registry holds."""
    nodes = _registries()
    found: set[int] = set()
    while nodes:
        node = nodes.pop()
        node.import_from_location()
        found.update(map(id, node.module_dict.values()))
        nodes += node.children.values()
    return found


def _types(node: Any, where: str) -> Iterator[tuple[str, str]]:
    """Yield the keys of all ``type`` with dotted names, and these names.

    Names without a dot are looked up in registries alone.
    """
    if isinstance(node, Mapping):
        for key, value in node.items():
            place = f'{where}.{key}' if where else str(key)
            if key == 'type' and isinstance(value, str) and '.' in value:
                yield place, value
            elif FOLDER in str(key).split('.'):
                # A walk's config is settled: its copy has no need to name a folder of configs.
                raise InputError(
                    f'{place}={value!r} executes the configs of a folder: it is not '
                    'taken from a work directory; give the config with --config'
                )
            elif key == 'decode_backend' and value == 'pickle':
                raise InputError(
                    f'{place}={value!r} executes what an image file says: it is not '
                    'taken from a work directory; give the config with --config'
                )
            else:
                yield from _types(value, place)
    elif isinstance(node, (list, tuple)):
        for number, value in enumerate(node):
            yield from _types(value, f'{where}.{number}')


def _meanings(kind: str) -> Iterator[Any]:
    """Yield the objects that MMEngine finds for a dotted name, asked as when it builds a part."""
    for node in _registries():
        with contextlib.suppress(Exception):
            yield node.get(kind)
