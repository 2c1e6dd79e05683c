"""Turning a config into the settings that the papers' figures were made with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config

from mmseg_cil.engine.config.compose import compose, find_schedule, read_piece
from mmseg_cil.engine.config.published.deviations import deviations_of
from mmseg_cil.engine.config.published.frames import Frame, find_frame
from mmseg_cil.errors import InputError
from mmseg_cil.utils.merging import merge_options

#: The dataset pieces of the papers, by the dataset of a protocol.
DATASETS = {'voc': 'voc12aug_paper', 'ade20k': 'ade20k_paper', 'cityscapes': 'cityscapes_paper'}


def as_published(cfg: Config, given: Mapping[str, str | None] | None = None) -> Config:
    """Return a config with the settings of the papers for its method and protocol.

    These are the network, the crop and the test geometry, the schedule, the rules for labels
    and means, the initialisation of new rows, and the choices of the official code that a method
    has as options. Places of data, loaders, hooks and the seed stay as they are.

    Args:
        cfg: Config with method and protocol.
        given: Pieces that the user chose by name (of
            :data:`~mmseg_cil.engine.config.compose.KINDS`); model and schedule among them stay.

    Raises:
        InputError: The protocol is over a dataset that the papers do not use, or the method
            learns from an auxiliary head, which the papers' network lacks.
    """
    given = {kind: name for kind, name in (given or {}).items() if name}
    if not isinstance(cfg.get('method'), Mapping) or not isinstance(cfg.get('protocol'), Mapping):
        raise InputError(
            '--as-published needs a config with method and protocol, or --method and --protocol'
        )
    method, protocol = str(cfg.method.get('name')), str(cfg.protocol.get('name'))
    frame, dataset = find_frame(method, protocol), _dataset(cfg)
    if any(distiller.get('auxiliary_loss') for distiller in cfg.method.get('distillers') or ()):
        raise InputError(
            f'--as-published: {method} learns from an auxiliary head, and the '
            "papers' network has none: take --dataset of the papers instead "
            f'(--dataset {dataset})'
        )
    pieces = {'model': given.get('model', frame.model)}
    if 'schedule' not in given:
        pieces['schedule'] = find_schedule(
            dataset.removesuffix('_paper'), frame.method or method, protocol
        )
    if frame.method and frame.method != method:
        pieces['method'] = frame.method
    # Compose a copy: the given config stays as it is.
    result = compose(pieces, Config(cfg.to_dict()))
    _keep_weights(result, cfg)
    _set_data(result, read_piece('dataset', dataset))
    _set_schedule(result)
    _set_protocol(result, frame)
    changes = {f'method.{key}': value for key, value in frame.changes.items()}
    if changes:
        merge_options(result, changes)
    result.as_published = True
    stem = (cfg.filename or 'config').removesuffix('.py')
    return Config(
        result.to_dict(), cfg_text=f'# as published: {stem}', filename=f'{stem}_as-published.py'
    )


def notes_on_published(cfg: Config) -> list[str]:
    """Return lines on how a config of ``--as-published`` still differs, none for other configs.

    Args:
        cfg: Config of a walk.
    """
    if not cfg.get('as_published'):
        return []
    found = deviations_of(cfg)
    frame = find_frame(str(cfg.method.name), str(cfg.protocol.name))
    code = frame.code or 'no official code (only what surrounds the method is that of the papers)'
    lines = [
        f'{cfg.method.name} on {cfg.protocol.name}, after {code}; what still differs:',
        *(f'{entry.name}: {text}; theirs: {entry.theirs}' for entry, text in found),
    ]
    return [f'as published: {line}' for line in lines]


def _dataset(cfg: Config) -> str:
    """Return the dataset piece of the papers for a protocol."""
    name, over = str(cfg.protocol.get('name')), cfg.protocol.get('dataset')
    family = over or name.rpartition('_')[0].removesuffix('_domain')
    if family not in DATASETS:
        raise InputError(
            f'--as-published: the papers have figures over {", ".join(DATASETS)}, '
            f'and the protocol {name} is over {family}'
        )
    return DATASETS[family]


def _keep_weights(cfg: Config, before: Config) -> None:
    """Keep the initial weights that the former config names for a backbone of the same depth."""
    backbone = (before.get('model') or {}).get('backbone') or {}
    if backbone.get('depth') == cfg.model.backbone.get('depth') and 'init_cfg' in backbone:
        cfg.model.backbone['init_cfg'] = backbone['init_cfg']


def _nodes(dataset: Any) -> Iterator[Any]:
    """Yield a dataset's config and the configs of the datasets that it wraps."""
    if isinstance(dataset, Mapping):
        yield dataset
        for inner in (dataset.get('dataset'), *(dataset.get('datasets') or ())):
            yield from _nodes(inner)


def _set_data(cfg: Config, piece: Mapping[str, Any]) -> None:
    for loader, pipeline in (
        ('train_dataloader', piece['train_pipeline']),
        ('val_dataloader', piece['test_pipeline']),
        ('test_dataloader', piece['test_pipeline']),
    ):
        for node in _nodes((cfg.get(loader) or {}).get('dataset')):
            if 'pipeline' in node or not ('dataset' in node or 'datasets' in node):
                node['pipeline'] = pipeline
    cfg.train_dataloader['sampler'] = piece['train_dataloader']['sampler']
    cfg.crop_size = piece['crop_size']
    cfg.global_batch_size = piece['global_batch_size']
    preprocessor = cfg.model.get('data_preprocessor')
    if preprocessor:
        preprocessor['size'] = tuple(piece['crop_size'])
    for name in ('train_pipeline', 'test_pipeline'):
        if name in cfg:
            cfg[name] = piece[name]


def _set_schedule(cfg: Config) -> None:
    cfg.param_scheduler = [
        dict(
            type='PaperPolyLR',
            power=0.9,
            eta_min=0.0,
            begin=0,
            end=cfg.train_cfg.max_iters,
            by_epoch=False,
        )
    ]


def _set_protocol(cfg: Config, frame: Frame) -> None:
    cfg.protocol['preset'] = frame.preset
    if cfg.protocol.name.startswith('cityscapes_domain'):
        cfg.protocol['split'] = 'legacy'
