"""The check that a network can be trained on a single image at a time."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import get_world_size
from mmengine.model import revert_sync_batchnorm
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import nn

from mmseg_cil.datasets.pipeline import crop_of
from mmseg_cil.engine.data import first_value
from mmseg_cil.errors import InputError
from mmseg_cil.models.network_output import run_heads
from mmseg_cil.registry import MODELS

#: The error of PyTorch's norms for a map that has no variance.
_NO_VARIANCE = re.compile(r'Expected more than 1 (value per channel|spatial element)')
#: The image size where a config does not tell the size of training images. Pooled branches have
#: one pixel at any size.
_SOME_SIZE = (256, 256)


def check_batch_of_one(cfg: Config, network: Any, step: int) -> None:
    """Refuse norms that would see a single number per channel, before anything is trained.

    With one image per process, this happens where a map is pooled to one pixel, as in the
    image branch of ASPP and pyramid pooling: PyTorch refuses to normalise such a map in training.

    Args:
        cfg: Config of the step.
        network: Segmentor of the step, as the config builds it; not changed.
        step: Index of the step, for the message.

    Raises:
        InputError: There is such a norm, and a process sees one image at a time.
    """
    size = training_size(cfg)
    processes = get_world_size()
    if cfg.train_dataloader.batch_size != 1 or sees_several(cfg.model, size):
        return
    if processes > 1 and cfg.get('sync_bn'):
        # MMEngine's Runner will replace all batch norms by norms over all processes.
        return
    name = norm_without_variance(network, size)
    if name is None:
        return
    kind = type(network.get_submodule(name)).__name__
    together = (
        "let processes share statistics (norm_cfg=dict(type='SyncBN', "
        'requires_grad=True), on GPUs), '
        if processes > 1
        else ''
    )
    raise InputError(
        f'step {step} trains with one image a process, of which the norm {name} ({kind}) sees a '
        'single value a channel, and that has no variance. Give every process two images or '
        f'more (--cfg-options global_batch_size={2 * processes}), {together}or take a norm for '
        "that part that needs no batch (norm_cfg=dict(type='GN', num_groups=32, "
        'requires_grad=True)). One that stays in evaluation mode works too; norm_eval=True of '
        'a backbone does that for the backbone alone'
        + ('' if processes > 1 else ", and 'SyncBN' helps with several processes only")
    )


def training_size(cfg: Config) -> tuple[int, int]:
    """Return height and width of the images that a step trains on, as far as its config tells."""
    size = (cfg.model.get('data_preprocessor') or {}).get('size')
    if size is None:
        pipeline = first_value(cfg.train_dataloader.dataset, 'pipeline') or []
        size = crop_of(pipeline) or _SOME_SIZE
    height, width = (size, size) if isinstance(size, int) else size
    return int(height), int(width)


def sees_several(model: Mapping[str, Any], size: tuple[int, int]) -> bool:
    """Return whether the network sees more than one image for a batch of one.

    Args:
        model: Config of a step's segmentor.
        size: Size of the image.
    """
    if model.get('replay') and model.get('previous'):
        return True  # at least one generated image a batch
    if not model.get('self_supervision'):
        return False
    sample = SegDataSample(gt_sem_seg=PixelData(data=torch.zeros(1, *size, dtype=torch.uint8)))
    turned, _ = MODELS.build(model['self_supervision']).turn(torch.zeros(1, 3, *size), [sample])
    return len(turned) > 1


def norm_without_variance(network: Any, size: tuple[int, int]) -> str | None:
    """Return the name of the first norm that cannot take one image in training mode, or None.

    The norm is found by running a copy of the network on PyTorch's device ``meta``, which
    computes shapes alone, so that any kind of head can be checked. Norms over all processes see
    the other processes' images too.

    Args:
        network: A segmentor.
        size: Height and width of the image.
    """
    probe = copy.deepcopy(network).train()
    if get_world_size() > 1:
        for module in probe.modules():
            if isinstance(module, nn.SyncBatchNorm):
                module.eval()
    # SyncBatchNorm insists on a GPU.
    probe = revert_sync_batchnorm(probe).to('meta')
    entered = ['']
    for name, module in probe.named_modules():
        module.register_forward_pre_hook(lambda *_, name=name: entered.append(name))
    try:
        with torch.no_grad():
            features = probe.extract_feat(torch.zeros(1, 3, *size, device='meta'))
            run_heads(probe, features)
    except ValueError as error:
        if _NO_VARIANCE.search(str(error)):
            return entered[-1]
    except Exception:
        # A network that does not run on shapes alone cannot be checked; training will tell.
        return None
    return None
