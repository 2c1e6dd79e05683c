"""The overrides of single steps: the one setting of a config that may differ by step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.config import Config

from mmseg_cil.engine.config.schedules import schedule_groups, stretch_schedules, without_short
from mmseg_cil.errors import InputError
from mmseg_cil.utils.merging import merge_options


def overrides_of_step(overrides: Any, step: int, first: int = 0) -> dict[str, Any]:
    """Return the overrides of one step: those of 'later', then those of its own index.

    Step 0 does not take 'later'. The entry of step 0 is meant for the first training. Where a
    later step is the first to train, because step 0 has nothing to learn (the background alone
    in ``voc_1-1``, no image), that step takes the entry 0 in place of 'later', unless it has an
    entry of its own.

    Args:
        overrides: ``step_overrides`` of the config, e.g. ``{0: dict(lr=0.01),
            'later': dict(lr=0.001), 3: dict(max_epochs=10)}``.
        step: The step.
        first: The first step that trains.

    Raises:
        InputError: ``overrides`` is no dict, a key is neither an index nor 'later', or a
            value is no dict.
    """
    example = "{0: dict(lr=0.01, max_epochs=30), 'later': dict(lr=0.001, max_epochs=30)}"
    overrides = {} if overrides is None else overrides
    if not isinstance(overrides, Mapping):
        raise InputError(f'step_overrides is {overrides!r}; it must be a dict such as {example}')
    for key, value in overrides.items():
        if not (key == 'later' or str(key).isdigit()) or not isinstance(value, Mapping):
            raise InputError(
                f'step_overrides has the entry {key!r}: {value!r}; its keys are step '
                f"indices and 'later', its values dicts, as in {example}"
            )

    def of(index: int) -> dict[str, Any]:
        return {**overrides.get(index, {}), **overrides.get(str(index), {})}

    if step == 0 or (step == first and not of(step)):
        return of(0)
    return {**overrides.get('later', {}), **of(step)}


def apply_overrides(
    cfg: Config, overrides: Mapping[str, Any], images: int, global_batch: int
) -> int:
    """Change a step's config in place and return the step's number of iterations.

    ``lr`` sets the optimizer's learning rate. ``max_iters`` sets the length, and so does
    ``max_epochs``, times the full batches among the step's images (at least one per epoch).
    Any other key is a dotted key of the config. The config's parameter schedules are stretched
    in proportion to the length, warm-up included (see
    :func:`~mmseg_cil.engine.config.schedules.stretch_schedules`). An override of
    ``param_scheduler`` itself counts the step's own iterations and is left as it is.

    Args:
        cfg: The step's config.
        overrides: The overrides of this step (see :func:`overrides_of_step`).
        images: Training images of the step.
        global_batch: Images per iteration, over all processes.

    Raises:
        InputError: Several lengths are given, a value cannot be used, or the
            config trains by epochs.
    """
    base_iters = _base_iterations(cfg)
    overrides = dict(overrides)
    given = _length(overrides, max(1, images // global_batch))
    if 'lr' in overrides:
        _set_learning_rate(cfg, overrides.pop('lr'))
    schedules = {
        key: overrides.pop(key) for key in list(overrides) if key.split('.')[0] == 'param_scheduler'
    }
    _merge(cfg, overrides)
    max_iters = _count(cfg.train_cfg.get('max_iters'), 'train_cfg.max_iters')
    if given is not None:
        max_iters = cfg.train_cfg.max_iters = given
    for group in schedule_groups(cfg.get('param_scheduler')):
        stretch_schedules(group, base_iters, max_iters)
    _merge(cfg, schedules)
    if cfg.get('param_scheduler') is not None:
        schedule_groups(cfg.param_scheduler)
        cfg.param_scheduler = without_short(cfg.param_scheduler)
    return max_iters


def _base_iterations(cfg: Config) -> int:
    train_cfg = cfg.get('train_cfg') or {}
    if not train_cfg.get('max_iters'):
        raise InputError(
            'train_cfg has no max_iters: train by iterations (train_cfg=dict(type='
            "'IterBasedTrainLoop', max_iters=...)); epochs are given as "
            "step_overrides={0: dict(max_epochs=...), 'later': dict(max_epochs=...)}"
        )
    return _count(train_cfg['max_iters'], 'train_cfg.max_iters')


def _length(overrides: dict[str, Any], batches: int) -> int | None:
    """Remove max_iters or max_epochs from a step's overrides, and return the iterations or None."""
    iters, epochs = overrides.pop('max_iters', None), overrides.pop('max_epochs', None)
    if iters is not None and epochs is not None:
        raise InputError(
            'step_overrides gives both max_iters and max_epochs for one step: give one of them'
        )
    if epochs is not None:
        return _count(epochs, 'step_overrides: max_epochs') * batches
    return None if iters is None else _count(iters, 'step_overrides: max_iters')


def _count(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InputError(f'{where} is {value!r}; it must be a whole number, 0 or more')
    return value


def _set_learning_rate(cfg: Config, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
        raise InputError(f'step_overrides: lr is {value!r}; it must be a number, 0 or more')
    optimizer = cfg.optim_wrapper.get('optimizer')
    if not isinstance(optimizer, Mapping):
        raise InputError(
            'step_overrides sets lr, but optim_wrapper has no optimizer of which it '
            'would be the learning rate: use a dotted key, such as '
            "{'optim_wrapper.NAME.optimizer.lr': 0.001}"
        )
    cfg.optim_wrapper.optimizer.lr = value


def _merge(cfg: Config, overrides: Mapping[str, Any]) -> None:
    if not overrides:
        return
    try:
        merge_options(cfg, overrides)
    except Exception as error:
        raise InputError(
            f'step_overrides cannot be applied ({", ".join(overrides)}): {error}'
        ) from error
