"""Tests that merge the views of ``TestTimeAug``, as MMSegmentation's ``--tta`` does."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.config import Config
from torch import nn

from mmseg_cil.datasets.pipeline import kind_of
from mmseg_cil.engine.config.own_data import own_data_of
from mmseg_cil.engine.data import first_value
from mmseg_cil.registry import MODELS


def merges_tests(cfg: Config) -> bool:
    """Return whether a pipeline that a step tests or validates with has ``TestTimeAug``.

    Args:
        cfg: Config of the step.
    """
    datasets = [
        (cfg.get(name) or {}).get('dataset') or {} for name in ('test_dataloader', 'val_dataloader')
    ]
    datasets += [data.get('test') or {} for _, data in own_data_of(cfg.get('protocol'))]
    return any(
        kind_of(transform) == 'TestTimeAug'
        for dataset in datasets
        for transform in first_value(dataset, 'pipeline') or []
    )


def merge_tests(model: nn.Module, tta_model: Mapping[str, Any] | None) -> None:
    """Let a network answer a batch of several views of an image by their merged prediction.

    Args:
        model: The segmentor, changed in place; it answers other batches as before.
        tta_model: ``tta_model`` of the config; ``SegTTAModel`` by default.
    """
    for name in ('test_step', 'val_step'):
        vars(model)[name] = functools.partial(
            _answer, model, name, dict(tta_model or dict(type='SegTTAModel'))
        )


def _answer(model: nn.Module, name: str, tta_model: Mapping[str, Any], data: Any) -> Any:
    inputs = data.get('inputs') if isinstance(data, Mapping) else None
    own = getattr(type(model), name)
    if not (isinstance(inputs, Sequence) and inputs and isinstance(inputs[0], Sequence)):
        return own(model, data)
    merged: Any = MODELS.build({**tta_model, 'module': model})
    samples = merged.test_step(data)
    if getattr(model, 'out_channels', None) == 1:
        # A threshold would remove the only class.
        for sample in samples:
            sample.pred_sem_seg.data.zero_()
    return samples
