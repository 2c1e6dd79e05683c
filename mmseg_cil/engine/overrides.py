"""What differs by step: the one place in a config that may speak of steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.config import Config

from mmseg_cil.errors import InputError

#: Keys of a ``step_overrides`` entry that are short for config keys.
SHORTHANDS = ('lr', 'max_iters', 'max_epochs')


def overrides_of_step(overrides: Mapping[Any, Mapping[str, Any]], step: int) -> dict[str, Any]:
    """The overrides of one step: 'later' for all but step 0, then those of its own index.

    Args:
        overrides: ``step_overrides`` of the config, e.g. ``{0: dict(lr=0.01),
            'later': dict(lr=0.001), 3: dict(max_epochs=10)}``.
        step: The step.

    Raises:
        InputError: A key is neither an index nor 'later', or a value no dict.
    """
    for key, value in overrides.items():
        if not (key == 'later' or str(key).isdigit()) or not isinstance(value, Mapping):
            raise InputError(f'step_overrides has the entry {key!r}: {value!r}; its keys are step '
                             "indices and 'later', its values dicts")
    result = dict(overrides.get('later', {})) if step > 0 else {}
    for key in (step, str(step)):
        result.update(overrides.get(key, {}))
    return result


def apply_overrides(cfg: Config, overrides: Mapping[str, Any], images: int,
                    global_batch: int) -> int:
    """Changes a step's config in place and returns its number of iterations.

    ``lr`` sets the optimizer's learning rate; ``max_iters``, or ``max_epochs``
    times the full batches among the step's images (at least one an epoch), the
    length; any other key is a dotted key of the config. The parameter
    schedules are stretched in proportion to the length, warm-up included.

    Args:
        cfg: The step's config.
        overrides: Of this step (see :func:`overrides_of_step`).
        images: Training images of the step.
        global_batch: Images an iteration, over all processes.

    Raises:
        InputError: Both lengths are given, or the config trains by epochs.
    """
    overrides = dict(overrides)
    if 'max_iters' in overrides and 'max_epochs' in overrides:
        raise InputError('step_overrides gives both max_iters and max_epochs for one step: '
                         'give one of them')
    base_iters = _base_iterations(cfg)
    max_iters = int(overrides.pop('max_iters', base_iters))
    if 'max_epochs' in overrides:
        max_iters = int(overrides.pop('max_epochs')) * max(1, images // global_batch)
    if 'lr' in overrides:
        cfg.optim_wrapper.optimizer.lr = overrides.pop('lr')
    if overrides:
        cfg.merge_from_dict(overrides)
    cfg.train_cfg.max_iters = max_iters
    scale_schedules(cfg.get('param_scheduler') or [], max_iters / base_iters)
    return max_iters


def _base_iterations(cfg: Config) -> int:
    train_cfg = cfg.get('train_cfg') or {}
    if not train_cfg.get('max_iters'):
        raise InputError(
            'train_cfg has no max_iters: train by iterations (train_cfg=dict(type='
            "'IterBasedTrainLoop', max_iters=...)); epochs are given as "
            "step_overrides={0: dict(max_epochs=...), 'later': dict(max_epochs=...)}")
    return int(train_cfg['max_iters'])


def scale_schedules(schedules: Sequence[dict] | dict, ratio: float) -> None:
    """Stretches MMEngine's parameter schedules by a factor, in place.

    Raises:
        InputError: A schedule counts epochs.
    """
    for schedule in [schedules] if isinstance(schedules, dict) else schedules:
        if schedule.get('by_epoch', True):
            raise InputError(f'param_scheduler {schedule.get("type")} counts epochs: set '
                             'by_epoch=False, a walk is trained by iterations')
        for key in ('begin', 'end', 'T_max', 'total_iters', 'step_size'):
            value = schedule.get(key)
            if isinstance(value, (int, float)) and value not in (-1, float('inf')):
                schedule[key] = round(value * ratio) if key == 'begin' \
                    else max(1, round(value * ratio))
        if 'milestones' in schedule:
            schedule['milestones'] = [round(value * ratio) for value in schedule['milestones']]
