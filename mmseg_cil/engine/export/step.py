"""A finished step in MMSegmentation's form: its files, and their hashes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.dist import get_world_size

import mmseg_cil
from mmseg_cil.engine.config.length import global_batch_size
from mmseg_cil.engine.config.step_config import overridden_config
from mmseg_cil.engine.export.checkpoint import export_change, export_checkpoint
from mmseg_cil.engine.export.config import export_config
from mmseg_cil.engine.paths import step_folder
from mmseg_cil.engine.record.completeness import kept_hashes
from mmseg_cil.engine.record.fingerprint import file_hash
from mmseg_cil.engine.walk import Walk


def export_step(
    walk: Walk, step: int, model: torch.nn.Module, kept: Mapping[str, torch.Tensor]
) -> dict[str, Any]:
    """Write a step in MMSegmentation's form, and return the hashes of its files.

    Args:
        walk: The walk.
        step: The step.
        model: Network of the step, plain.
        kept: Tensors that a change of the network keeps for the next step.
    """
    folder = step_folder(walk.work_dir, step)
    classes = walk.seen_names(step)
    palette = [walk.palette[name] for name in classes]
    export_change(kept, folder)
    own, _ = overridden_config(
        walk.cfg,
        walk.protocol,
        step,
        walk.train_images,
        global_batch_size(walk.cfg, get_world_size()),
    )
    export_config(walk, step, own, folder)
    path = export_checkpoint(
        model,
        folder,
        {
            'dataset_meta': {'classes': classes, 'palette': palette},
            'protocol': walk.protocol.name,
            'step': step,
            'mmseg_cil': mmseg_cil.__version__,
        },
    )
    return dict(checkpoint_sha256=file_hash(path), kept_sha256=kept_hashes(folder))
