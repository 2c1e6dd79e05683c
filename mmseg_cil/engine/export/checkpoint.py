"""Writing a step as a plain MMSegmentation checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmseg_cil.models.memory_format import in_plain_order
from mmseg_cil.models.network_change import CHANGE_NAME
from mmseg_cil.models.plain import plain_state_dict
from mmseg_cil.utils.atomic import atomic_write

CHECKPOINT_NAME = 'checkpoint.pth'
CONFIG_NAME = 'config.py'


def export_checkpoint(model: nn.Module, folder: Path, meta: Mapping[str, Any]) -> Path:
    """Write the network's weights as ``checkpoint.pth``, atomically.

    Args:
        model: The segmentor, not wrapped.
        folder: The step's folder.
        meta: Content of the file's ``meta``; ``dataset_meta`` in it holds classes and
            palette, which ``mmseg.apis.init_model`` reads.
    """
    state: dict[str, Tensor] = {
        # The file does not tell in which order in memory the network was trained.
        key: in_plain_order(value.detach().cpu())
        for key, value in plain_state_dict(model.state_dict()).items()
    }
    path = folder / CHECKPOINT_NAME
    content = {'meta': dict(meta), 'state_dict': state}
    atomic_write(path, lambda file: torch.save(content, file))
    return path


def export_change(kept: Mapping[str, Tensor], folder: Path) -> None:
    """Write the tensors that a change of the network hands on to the next step, atomically.

    Args:
        kept: Tensors that ``IncrementalEncoderDecoder.make_plain`` returned. If there are
            none, the file of an earlier run is removed.
        folder: The step's folder.
    """
    path = folder / CHANGE_NAME
    if kept:
        atomic_write(path, lambda file: torch.save(dict(kept), file))
    else:
        path.unlink(missing_ok=True)
