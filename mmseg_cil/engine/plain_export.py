"""Writing a step as a plain MMSegmentation checkpoint and config."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmseg.registry import DATASETS as MMSEG_DATASETS
from torch import Tensor, nn

from mmseg_cil.engine.own_parts import with_own_parts
from mmseg_cil.engine.step_config import dataset_configs, first_value
from mmseg_cil.models.network_change import CHANGE_NAME
from mmseg_cil.models.plain import plain_model_config, plain_state_dict
from mmseg_cil.utils.atomic import atomic_write, write_text

CHECKPOINT_NAME = 'checkpoint.pth'
CONFIG_NAME = 'config.py'


def export_checkpoint(model: nn.Module, folder: Path, meta: Mapping[str, Any]) -> Path:
    """Writes the network's weights as ``checkpoint.pth``, atomically.

    Args:
        model: The segmentor, not wrapped.
        folder: The step's folder.
        meta: Goes under ``meta``; ``dataset_meta`` in it holds classes and
            palette, which ``mmseg.apis.init_model`` reads.
    """
    state: dict[str, Tensor] = {
        key: value.detach().cpu() for key, value in plain_state_dict(model.state_dict()).items()
    }
    path = folder / CHECKPOINT_NAME
    content = {'meta': dict(meta), 'state_dict': state}
    atomic_write(path, lambda file: torch.save(content, file))
    return path


def export_change(kept: Mapping[str, Tensor], folder: Path) -> None:
    """Writes what a change of the network hands on to the next step, atomically.

    Args:
        kept: As ``IncrementalEncoderDecoder.make_plain`` returned it. If it is
            empty, no file of an earlier run stays.
        folder: The step's folder.
    """
    path = folder / CHANGE_NAME
    if kept:
        atomic_write(path, lambda file: torch.save(dict(kept), file))
    else:
        path.unlink(missing_ok=True)


def export_config(cfg: Config, folder: Path, classes: list[str], palette: list[list[int]]) -> Path:
    """Writes ``config.py``: the network of a step for MMSegmentation alone.

    The test dataset is in it where MMSegmentation can tell our classes from the
    dataset's own by their names; else only the test pipeline is. Where the network or
    the pipeline has a part of ours (those of the papers' network), the config imports it.
    """
    _, test = dataset_configs(cfg)
    pipeline = list(first_value(test, 'pipeline') or [])
    plain = dict(
        default_scope='mmseg',
        model=plain_model_config(cfg.model.to_dict(), len(classes)),
        test_pipeline=pipeline)
    dataset = _plain_dataset(test, pipeline, classes, palette)
    if dataset is not None:
        plain.update(
            test_dataloader=dict(
                batch_size=1,
                num_workers=2,
                sampler=dict(type='DefaultSampler', shuffle=False),
                dataset=dataset),
            test_evaluator=dict(type='IoUMetric', iou_metrics=['mIoU']),
            test_cfg=dict(type='TestLoop'))
    path = folder / CONFIG_NAME
    write_text(path, Config(with_own_parts(plain)).pretty_text)
    return path


def _plain_dataset(dataset: Mapping[str, Any], pipeline: list[dict], classes: list[str],
                   palette: list[list[int]]) -> dict[str, Any] | None:
    kind = MMSEG_DATASETS.module_dict.get(dataset.get('type'))
    known = (getattr(kind, 'METAINFO', None) or {}).get('classes') or ()
    # reduce_zero_label moves the ids under our feet: such datasets have a
    # background here that MMSegmentation's have not.
    if not set(classes) <= set(known) or dataset.get('reduce_zero_label'):
        return None
    plain = {key: value for key, value in dataset.items() if key != 'metainfo'}
    return dict(plain, metainfo=dict(classes=classes, palette=palette), pipeline=pipeline)
