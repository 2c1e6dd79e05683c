"""The iterations of the steps, and the images of an iteration."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from mmengine.config import Config

from mmseg_cil.engine.config.first_step import is_trained_elsewhere
from mmseg_cil.engine.config.step_overrides import (
    apply_overrides,
    overrides_of_step,
)
from mmseg_cil.errors import InputError
from mmseg_cil.protocols import Protocol


def global_batch_size(cfg: Config, world_size: int) -> int:
    """Return the number of images per iteration, over all processes.

    The number is ``global_batch_size`` of the config. Where the config has none, the number
    follows from ``train_dataloader.batch_size``, which in MMSegmentation counts the images of
    each process.
    """
    total = cfg.get('global_batch_size')
    return total or cfg.train_dataloader.batch_size * world_size


def step_iterations(
    cfg: Config, protocol: Protocol, images: Sequence[int], global_batch: int
) -> list[int]:
    """Return the iterations of every step of the walk; 0 where a step does not train."""
    result = []
    first = first_trained(cfg, protocol, images)
    for step in range(len(protocol.steps)):
        overrides = overrides_of_step(cfg.get('step_overrides'), step, first)
        length = apply_overrides(copy.deepcopy(cfg), overrides, images[step], global_batch)
        result.append(length if _learns(cfg, protocol, step, images) else 0)
    return result


def first_trained(cfg: Config, protocol: Protocol, images: Sequence[int]) -> int:
    """Return the first step that has images and learns more than the background alone."""
    steps = range(len(protocol.steps))
    return next((step for step in steps if _learns(cfg, protocol, step, images)), 0)


def _learns(cfg: Config, protocol: Protocol, step: int, images: Sequence[int]) -> bool:
    """Return whether a step has something to learn, or is a first step trained elsewhere."""
    elsewhere = step == 0 and is_trained_elsewhere(cfg)
    return protocol.trains(step) and (bool(images[step]) or elsewhere)


def overrides_by_index(cfg: Config, num_steps: int) -> dict[int, dict[str, Any]]:
    """Return the entries of ``step_overrides`` that are for one step alone.

    Raises:
        InputError: An entry is for a step that the walk does not have.
    """
    entries = {
        int(key): dict(value)
        for key, value in (cfg.get('step_overrides') or {}).items()
        if key != 'later'
    }
    if entries and max(entries) >= num_steps:
        raise InputError(
            f'step_overrides has an entry for step {max(entries)}, but the walk has '
            f'the steps 0..{num_steps - 1} only: remove it'
        )
    return entries
