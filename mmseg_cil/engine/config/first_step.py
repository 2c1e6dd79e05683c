"""A first step that was trained elsewhere, as a config names it.

``protocol.checkpoint = dict(config=..., checkpoint=..., classes=[...])`` names a plain
MMSegmentation config and checkpoint; as the first entry of ``protocol.steps`` the same dict means
the same. :func:`with_first_step` fills in what the two files tell: the network, where the walk's
config has none, and the names of the classes.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmengine.config import Config

from mmseg_cil.engine.config.load import read_unsettled
from mmseg_cil.errors import InputError
from mmseg_cil.protocols.taxonomy import is_background
from mmseg_cil.registry import DATASETS
from mmseg_cil.utils.weights_files import read_source, weights_as_data

KEYS = ('config', 'checkpoint', 'classes', 'revise_keys', 'data')
#: Settings that may differ between two configs of one network; all other settings decide what the
#: network computes.
_NO_STRUCTURE = (
    'num_classes', 'out_channels', 'init_cfg', 'pretrained', 'train_cfg', 'test_cfg',
    'loss_decode', 'sampler', 'ignore_index', 'norm_eval', 'frozen_stages', 'dropout_ratio',
    'drop_path_rate', 'with_cp', 'requires_grad', 'size', 'size_divisor', 'pad_val', 'seg_pad_val',
    'batch_augments',
)  # fmt: skip
#: Norms that compute the same once a network is trained.
_BATCH_NORMS = ('BN', 'BN2d', 'SyncBN', 'MMSyncBN')


def is_trained_elsewhere(cfg: Config) -> bool:
    """Return whether a config's walk takes its step 0 from a checkpoint of another training."""
    protocol = cfg.get('protocol')
    return isinstance(protocol, Mapping) and (
        bool(protocol.get('checkpoint')) or _first_entry(protocol) is not None
    )


def _first_entry(protocol: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the first entry of ``steps`` if it is a dict that names a checkpoint, else None."""
    steps = protocol.get('steps')
    first = steps[0] if isinstance(steps, (list, tuple)) and steps else None
    # A dict with classes is a step with a data set of its own.
    return first if isinstance(first, Mapping) and first.get('classes') is None else None


def with_first_step(cfg: Config) -> Config:
    """Return the config with all settings of a first step that was trained elsewhere.

    A config without such a step is returned as it is. A config that has all settings already
    keeps them.

    Args:
        cfg: The user's config; not changed.

    Raises:
        InputError: A file cannot be read, the networks of the two configs differ, or neither file
            names the classes.
    """
    asked = _asked(cfg)
    if asked is None:
        return cfg
    cfg = copy.deepcopy(cfg)
    old = read_unsettled(asked['config']) if asked.get('config') else None
    if old is not None and cfg.get('model') is None:
        if old.get('model') is None:
            raise InputError(
                f'protocol.checkpoint.config: {asked["config"]} has no model: name the config '
                'that the checkpoint was trained with'
            )
        cfg.model = old.model
    elif old is not None:
        _check_same_network(cfg.model, old.get('model') or {}, asked['config'])
    classes = asked.get('classes') or classes_of_network(asked['checkpoint'], old)
    asked['classes'] = [name.strip() for name in classes]
    protocol, data = cfg.protocol, asked.pop('data', None)
    protocol.checkpoint = asked
    if protocol.get('background') is None and not is_background(asked['classes'][0]):
        # The network has no output for a background.
        protocol.background = 'none'
    if protocol.get('steps') is not None:
        steps = _steps(protocol.steps, asked['classes'])
        if data is not None:
            steps[0] = dict(classes=_without_data(steps[0]), data=data)
        protocol.steps = steps
    elif data is not None and protocol.get('domains'):
        first, *others = protocol.domains
        if not isinstance(first, Mapping) or first.get('data') is not None:
            raise InputError(
                'protocol.checkpoint.data and the first of protocol.domains both say what the '
                'data of step 0 are: give one of them'
            )
        protocol.domains = [dict(first, data=data), *others]
    elif data is not None:
        raise InputError(
            'protocol.checkpoint.data goes with protocol.steps or protocol.domains; a named '
            'protocol reads the dataset of the dataloaders'
        )
    return cfg


def _asked(cfg: Config) -> dict[str, Any] | None:
    """Return the checked settings of a first step from elsewhere, or None if there is none."""
    protocol = cfg.get('protocol')
    if not isinstance(protocol, Mapping):
        return None
    first = _first_entry(protocol)
    asked = protocol.get('checkpoint') or first
    if asked is None:
        return None
    where = 'protocol.checkpoint'
    if protocol.get('checkpoint') and first is not None:
        raise InputError(f'{where} and protocol.steps[0] both name a first step: give one of them')
    if isinstance(asked, str):
        asked = dict(checkpoint=asked)
    if not isinstance(asked, Mapping) or not isinstance(asked.get('checkpoint'), str):
        raise InputError(
            f"{where} must be dict(config='old.py', checkpoint='old.pth'), not {asked!r}"
        )
    strange = [key for key in asked if key not in KEYS]
    if strange:
        raise InputError(f'{where} has no setting {strange[0]!r}; there are {", ".join(KEYS)}')
    classes = asked.get('classes')
    if classes is not None and not (
        isinstance(classes, (list, tuple))
        and classes
        and all(isinstance(name, str) and name.strip() for name in classes)
    ):
        raise InputError(
            f'{where}.classes must list the names of the outputs, such as '
            f"['background', 'cat'], not {classes!r}"
        )
    return {key: asked[key] for key in KEYS if asked.get(key) is not None}


def _steps(steps: Sequence[Any], known: list[str]) -> list[Any]:
    """Return the steps with the network's classes in front, where they are not there yet."""
    first = steps[0]
    if isinstance(first, Mapping) and first.get('classes') is None:
        return [known, *steps[1:]]
    names = first['classes'] if isinstance(first, Mapping) else first
    begins = isinstance(names, Sequence) and any(name in known for name in names)
    return list(steps) if begins else [known, *steps]


def _without_data(entry: Any) -> Any:
    """Return the classes of a first step that has no data set of its own yet."""
    if isinstance(entry, Mapping):
        raise InputError(
            'protocol.checkpoint.data and protocol.steps[0] both say what the data of step 0 are: '
            'give one of them'
        )
    return entry


def read_checkpoint(checkpoint: str) -> Any:
    """Return the content of the checkpoint of a network that was trained elsewhere.

    Args:
        checkpoint: Path or address of the file.

    Raises:
        InputError: The file cannot be read, or holds more than data.
    """
    with weights_as_data(alone=True):
        try:
            return read_source(checkpoint)
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                f'protocol.checkpoint: {checkpoint} cannot be read ({type(error).__name__}: '
                f'{error}): give the path of the checkpoint of the trained network'
            ) from error


def classes_of_network(checkpoint: str, old: Config | None) -> Sequence[str]:
    """Return the classes that a checkpoint names, or else those of its config's data set.

    Args:
        checkpoint: Path or address of the file.
        old: Config of the network, where there is one.

    Raises:
        InputError: Neither the checkpoint nor the data set names classes.
    """
    content = read_checkpoint(checkpoint)
    meta = content.get('meta') if isinstance(content, Mapping) else None
    meta = meta if isinstance(meta, Mapping) else {}
    data = meta.get('dataset_meta')
    found = (data.get('classes') if isinstance(data, Mapping) else None) or meta.get('CLASSES')
    found = found or (_classes_of_data(old) if old is not None else None)
    if not found:
        raise InputError(
            f'protocol.checkpoint: neither {checkpoint} nor the data set of its config names its '
            'classes: give them in the order of its outputs, '
            "checkpoint=dict(..., classes=['background', 'cat', ...])"
        )
    names: list[str] = [str(name) for name in found]
    return names


def _classes_of_data(cfg: Config) -> Sequence[str] | None:
    for loader in ('train_dataloader', 'test_dataloader', 'val_dataloader'):
        dataset = (cfg.get(loader) or {}).get('dataset') or {}
        while isinstance(
            inner := (dataset.get('datasets') or [dataset.get('dataset')])[0], Mapping
        ):
            dataset = inner
        own = (dataset.get('metainfo') or {}).get('classes')
        kind = DATASETS.get(dataset['type']) if isinstance(dataset.get('type'), str) else None
        classes: Sequence[str] | None = own or (getattr(kind, 'METAINFO', None) or {}).get(
            'classes'
        )
        if classes:
            return classes
    return None


def _check_same_network(ours: Mapping[str, Any], theirs: Mapping[str, Any], path: str) -> None:
    """Refuse a walk whose config has another network than the one that was trained.

    Raises:
        InputError: The networks differ; the message names the first settings that differ.
    """
    here, there = dict(_structure(ours, '')), dict(_structure(theirs, ''))
    missing = object()
    differing = [
        key
        for key in dict.fromkeys([*here, *there])
        if here.get(key, missing) != there.get(key, missing)
    ]
    if not differing:
        return
    told = ', '.join(
        f'model.{key} ({here.get(key, "not set")!r} here, {there.get(key, "not set")!r} there)'
        for key in differing[:3]
    )
    more = f' and {len(differing) - 3} more' if len(differing) > 3 else ''
    raise InputError(
        f'protocol.checkpoint: {path} has another network than the config of the walk: {told}'
        f'{more}. Leave model out of the config of the walk, and the network of {path} is used'
    )


def _structure(node: Any, where: str) -> Iterator[tuple[str, Any]]:
    """Yield the settings that decide what a network computes, with their dotted keys."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            # The segmentor may be of a type of this package; only the types of its parts count.
            if key in _NO_STRUCTURE or (key == 'type' and not where):
                continue
            norm = key == 'type' and where.endswith('norm_cfg') and value in _BATCH_NORMS
            yield from _structure('BN' if norm else value, f'{where}.{key}' if where else str(key))
    elif isinstance(node, (list, tuple)) and any(isinstance(part, Mapping) for part in node):
        for place, part in enumerate(node):
            yield from _structure(part, f'{where}.{place}')
    else:
        yield where, list(node) if isinstance(node, tuple) else node
