"""The second map of the training images that a method reads."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config
from mmseg.models.decode_heads import PIDHead

from mmseg_cil.datasets.pipeline import kind_of, with_further_map
from mmseg_cil.engine.config.model_losses import named_heads
from mmseg_cil.errors import InputError
from mmseg_cil.models.heads import head_class
from mmseg_cil.registry import TRANSFORMS


def add_further_map(cfg: Config, further_map: Mapping[str, Any]) -> None:
    """Put the transform that reads a second map behind the one that reads the labels.

    Args:
        cfg: Config of a step, with the step's folder as ``work_dir``; changed in place.
        further_map: Config of a :class:`~mmseg_cil.contracts.FurtherMap`.

    Raises:
        InputError: The training pipeline reads no labels, or the network or the pipeline already
            uses the place of the map for edges between classes.
    """
    dataset = cfg.train_dataloader.dataset
    pipeline = list(dataset['pipeline'] or ())
    kinds = [kind_of(transform) for transform in pipeline]
    if 'LoadAnnotations' not in kinds:
        raise InputError(
            'method.further_map stands behind LoadAnnotations, which the training pipeline '
            "lacks: add dict(type='LoadAnnotations') after the image is loaded"
        )
    taken = [
        f'{where} ({kind.__name__}) learns as edges between classes'
        for where, head in named_heads(cfg.model)
        if (kind := head_class(head)) is not None and issubclass(kind, PIDHead)
    ]
    if 'GenerateEdge' in kinds:
        taken.append('GenerateEdge in the training pipeline writes')
    if taken:
        raise InputError(
            f'method.further_map ({kind_of(further_map)}) travels as gt_edge_map, which '
            f'{" and ".join(taken)}: train a network and a pipeline without edges, or a method '
            'without a further map'
        )
    config = copy.deepcopy(dict(further_map))
    kind = config.get('type')
    kind = TRANSFORMS.get(kind) if isinstance(kind, str) else kind
    if getattr(kind, 'needs_step_folder', False):
        config['step_folder'] = cfg.work_dir
    dataset['pipeline'] = with_further_map(pipeline, config)
    # Data sets that steps bring have pipelines of their own.
    dataset['further_map'] = config
