"""Checks of numbers and words in a config that nothing else checks in time."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Mapping

from mmengine.config import Config
from mmengine.logging import print_log

from mmseg_cil.datasets.kept_masks import KEY as KEEP_MASKS
from mmseg_cil.datasets.pipeline import crop_of
from mmseg_cil.engine.data import first_value
from mmseg_cil.engine.preflight.model import check_model
from mmseg_cil.engine.preflight.names import value_at
from mmseg_cil.errors import InputError

#: Settings that must be whole numbers, and their least values.
_COUNTS = {
    'global_batch_size': 1,
    'train_dataloader.batch_size': 0,
    'train_dataloader.num_workers': 0,
    'test_dataloader.num_workers': 0,
    'train_cfg.max_iters': 0,
    'train_cfg.val_interval': 1,
    'optim_wrapper.accumulative_counts': 1,
    'default_hooks.logger.interval': 1,
    'default_hooks.checkpoint.interval': 1,
    'randomness.seed': 0,
}


#: Settings that are not single values but have settings of their own.
_MAPPINGS = (
    'randomness',
    'env_cfg',
    'env_cfg.mp_cfg',
    'env_cfg.dist_cfg',
    'default_hooks',
    'step_overrides',
    'val_dataloader',
    'test_dataloader',
    'train_dataloader.sampler',
    'train_dataloader.dataset',
    'val_dataloader.dataset',
    'test_dataloader.dataset',
    'val_cfg',
    'test_cfg',
    'visualizer',
    'log_processor',
    'model.data_preprocessor',
    'model.backbone',
    'model.test_cfg',
    'optim_wrapper.optimizer',
    'optim_wrapper.paramwise_cfg',
    'optim_wrapper.clip_grad',
)


def check_mappings(cfg: Config) -> None:
    """Check that the settings that have settings of their own are dictionaries.

    Raises:
        InputError: Such a setting is something else.
    """
    for key in _MAPPINGS:
        value = value_at(cfg, key)
        if value is not None and not isinstance(value, Mapping):
            raise InputError(
                f'{key} is {value!r}; it must be a dictionary, as dict(...), or be left out'
            )


def check_values(cfg: Config) -> None:
    """Check the numbers and words of a config that nothing else checks in time.

    Raises:
        InputError: A value cannot be used.
    """
    for key, least in _COUNTS.items():
        value = value_at(cfg, key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InputError(f'{key} is {value!r}; it must be a whole number, {least} or more')
    kept = cfg.get(KEEP_MASKS, 0)
    if isinstance(kept, bool) or not isinstance(kept, (int, float)) or kept < 0:
        raise InputError(
            f'{KEEP_MASKS} is {kept!r}; it is the number of megabytes of decoded masks that each '
            'worker keeps, 0 or more'
        )
    for key in ('skip_empty_steps', 'rehearsal', 'allow_partial_weights', 'channels_last'):
        if not isinstance(cfg.get(key, False), bool):
            raise InputError(f'{key} is {cfg[key]!r}; use True or False')
    hooks = cfg.get('custom_hooks') or []
    if not isinstance(hooks, (list, tuple)) or not all(isinstance(hook, Mapping) for hook in hooks):
        raise InputError(
            f"custom_hooks is {hooks!r}; it must be a list of hooks, such as [dict(type='EMAHook')]"
        )
    level = cfg.get('log_level', 'INFO')
    if not isinstance(level, int) and not isinstance(logging.getLevelName(str(level)), int):
        raise InputError(f'log_level is {level!r}; use DEBUG, INFO, WARNING or ERROR')
    start = ((cfg.get('env_cfg') or {}).get('mp_cfg') or {}).get('mp_start_method', 'fork')
    if start not in multiprocessing.get_all_start_methods():
        raise InputError(
            f'env_cfg.mp_cfg.mp_start_method is {start!r}; use one of '
            f'{multiprocessing.get_all_start_methods()}'
        )
    loop = (cfg.get('train_cfg') or {}).get('type', 'IterBasedTrainLoop')
    if str(loop).rpartition('.')[2] != 'IterBasedTrainLoop':
        raise InputError(
            f"train_cfg.type is {loop!r}; a walk is trained by 'IterBasedTrainLoop'; "
            'epochs are given in step_overrides as max_epochs'
        )
    check_model(cfg.get('model') or {})


def warn_of_crop(cfg: Config) -> None:
    """Warn where training images are cropped to another size than they are padded to."""
    size = (cfg.model.get('data_preprocessor') or {}).get('size')
    pipeline = first_value(cfg.train_dataloader.dataset, 'pipeline') or []
    crop = crop_of(pipeline)
    if size and crop and crop != tuple(size):
        print_log(
            f'the pipeline crops to {crop}, but model.data_preprocessor.size pads to '
            f'{tuple(size)}: set it to the crop, or training runs on padding',
            'current',
            logging.WARNING,
        )
