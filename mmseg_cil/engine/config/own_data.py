"""Data sets that steps bring: the parts that they take from the rest of the config."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmengine.config import Config

from mmseg_cil.engine.config.load import read_unsettled
from mmseg_cil.engine.data import first_value
from mmseg_cil.errors import InputError
from mmseg_cil.protocols.listed import uses_config_dataset

#: The dataloaders that hold the pipeline of a split in MMSegmentation's configs.
_LOADERS = {'train': ('train_dataloader',), 'test': ('test_dataloader', 'val_dataloader')}


def own_data_of(protocol: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the place ('step 1') and the settings of each data set of a step or a domain.

    Args:
        protocol: The ``protocol`` of a config.
    """
    if not isinstance(protocol, Mapping):
        return
    for key, kind in (('steps', 'step'), ('domains', 'domain')):
        entries = protocol.get(key)
        for index, entry in enumerate(entries if isinstance(entries, (list, tuple)) else ()):
            data = entry.get('data') if isinstance(entry, Mapping) else None
            if isinstance(data, Mapping):
                yield f'{kind} {index}', data  # type: ignore[misc]


def with_own_data(cfg: Config) -> Config:
    """Return a config whose own data sets have pipelines, and whose dataloaders have a dataset.

    A data set without a pipeline gets the pipeline of the config's own dataset (or of the config
    that the first step was trained with). Where no step reads the dataset of the dataloaders,
    whose files may be gone, the first data set of a step takes the place of that dataset.

    Args:
        cfg: Config with all settings of a first step that was trained elsewhere
            (:func:`~.first_step.with_first_step`); not changed.

    Raises:
        InputError: A data set has no pipeline, and the configs offer none.
    """
    if not any(True for _ in own_data_of(cfg.get('protocol'))):
        return cfg
    cfg = copy.deepcopy(cfg)
    found = list(own_data_of(cfg.protocol))
    for where, data in found:
        for split, loaders in _LOADERS.items():
            dataset = data.get(split)
            if not isinstance(dataset, Mapping) or first_value(dataset, 'pipeline') is not None:
                continue
            pipeline = _pipeline(cfg, split, loaders)
            if pipeline is None:
                raise InputError(
                    f'protocol: {where}: data.{split} has no pipeline, and the config has no '
                    f'{loaders[0]} whose pipeline it could have: give it one, or name the config '
                    'that the network was trained with (of a step of a walk: walk_config.py)'
                )
            dataset['pipeline'] = _reading_ids_as_they_are(pipeline)  # type: ignore[index]
    if not uses_config_dataset(cfg.protocol):
        _stand_in(cfg, found)
    return cfg


def _pipeline(cfg: Config, split: str, loaders: tuple[str, ...]) -> Any:
    former = (cfg.protocol.get('checkpoint') or {}).get('config')
    for source in (cfg, former):
        own = read_unsettled(source) if isinstance(source, str) else source
        if own is None:
            continue
        for loader in loaders:
            dataset = (own.get(loader) or {}).get('dataset') or {}
            found = first_value(dataset, 'pipeline')
            if found is not None:
                return found
        if own.get(f'{split}_pipeline') is not None:
            return own[f'{split}_pipeline']
    return None


def _reading_ids_as_they_are(pipeline: Sequence[Any]) -> list[Any]:
    """Return a copy of a pipeline without ``reduce_zero_label``, for another data set's masks.

    The config of that other data set itself says ``reduce_zero_label``.
    """
    borrowed = copy.deepcopy(list(pipeline))
    for transform in borrowed:
        if isinstance(transform, Mapping):
            transform.pop('reduce_zero_label', None)  # type: ignore[attr-defined]
    return borrowed


def _stand_in(cfg: Config, found: list[tuple[str, dict[str, Any]]]) -> None:
    """Give the dataloaders the first data set of a step."""
    for split, loader in (('train', 'train_dataloader'), ('test', 'test_dataloader')):
        datasets = [data[split] for _, data in found if data.get(split) is not None]
        datasets = datasets or [data['train'] for _, data in found if data.get('train') is not None]
        own = cfg.get(loader)
        if own is None and split == 'train':
            # A walk without this loader is refused, as nothing says the size of a batch.
            continue
        own = copy.deepcopy(cfg.get('val_dataloader')) if own is None else own
        own = Config(dict(loader=dict(own or dict(batch_size=1, num_workers=0)))).loader
        own['dataset'] = copy.deepcopy(datasets[0])
        cfg[loader] = own
    # The validation would use data that no step reads.
    for key in ('val_dataloader', 'val_cfg', 'val_evaluator'):
        cfg[key] = None
