"""Pre-trained weights that a config names: looked for before anything is built or trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config
from mmengine.runner import (
    CheckpointLoader,
    get_deprecated_model_names,
    get_external_models,
    get_mmcls_models,
    get_torchvision_models,
)
from mmengine.utils.dl_utils import load_url

from mmseg_cil.errors import InputError

#: Prefixes of names that stand for addresses, with MMEngine's tables of them.
ZOOS = {
    'torchvision://': get_torchvision_models,
    'modelzoo://': get_torchvision_models,
    'open-mmlab://': get_external_models,
    'openmmlab://': get_external_models,
    'mmcls://': get_mmcls_models,
}


def check_pretrained(cfg: Config) -> None:
    """Reads all weights that a walk's first step begins with, and forgets them again.

    What lies on the network is fetched into PyTorch's cache, where the step
    finds it. Only the main process may call: MMEngine's own loader for
    addresses would wait for the others.

    Args:
        cfg: The user's config.

    Raises:
        InputError: A file is missing or damaged, or an address cannot be reached.
    """
    for option, source in pretrained_weights(cfg):
        try:
            _read(source)
        except Exception as error:
            raise InputError(
                f'the pre-trained weights {source} ({option}) cannot be loaded '
                f'({type(error).__name__}: {error}): point --cfg-options {option}=PATH at a local '
                f'copy of the file, or train from scratch with '
                f'{option.removesuffix(".checkpoint")}=None') from error


def pretrained_weights(cfg: Config) -> list[tuple[str, str]]:
    """Every weights file or address in a config, with the option that sets it."""
    found = list(_visit(cfg.get('model'), 'model'))
    if cfg.get('load_from'):
        found.append(('load_from', cfg.load_from))
    return found


def _visit(node: Any, where: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, Mapping):
        if node.get('type') == 'Pretrained' and isinstance(node.get('checkpoint'), str):
            yield f'{where}.checkpoint', node['checkpoint']
        if isinstance(node.get('pretrained'), str):
            yield f'{where}.pretrained', node['pretrained']
        for key, value in node.items():
            yield from _visit(value, f'{where}.{key}')
    elif isinstance(node, (list, tuple)):
        for i, value in enumerate(node):
            yield from _visit(value, f'{where}.{i}')


def _read(source: str) -> None:
    address = address_of(source)
    if address.startswith(('http://', 'https://')):
        load_url(address, map_location='cpu', progress=False)
    else:
        CheckpointLoader.load_checkpoint(source, map_location='cpu', logger='silent')


def address_of(source: str) -> str:
    """What a name such as ``torchvision://resnet50`` stands for; other sources as they are.

    Raises:
        KeyError: There is no such name.
    """
    for prefix, table in ZOOS.items():
        if source.startswith(prefix):
            name = source.removeprefix(prefix)
            if table is get_external_models:
                name = get_deprecated_model_names().get(name, name)
            return str(table()[name])
    return source
