"""The hooks of one step: the user's, the method's, and those of every walk."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.config import Config

from mmseg_cil.contracts import Freezing
from mmseg_cil.contracts.method import MethodConfig
from mmseg_cil.errors import InputError
from mmseg_cil.models.classifier import find_classifier_init

#: Default hooks of MMEngine that a config may remove by None. A walk cannot do without the other
#: two (runtime_info, checkpoint). None under a name that is no default hook means no hook.
DISPENSABLE = ('timer', 'sampler_seed', 'logger', 'param_scheduler')
#: Hooks of this package that every training has, also that of a sub-step.
OF_ALL = ('IterationSeedHook', 'WalkProgressHook', 'FiniteLossHook', 'StopHook', 'SyncBuffersHook')


def set_hooks(
    cfg: Config,
    method: MethodConfig,
    step: int,
    iterations: Sequence[int],
    world_size: int,
    seed: int,
) -> None:
    """Give a step's config its hooks, in place.

    Args:
        cfg: Config of the step.
        method: Method of the walk.
        step: The step.
        iterations: Iterations of every step; 0 for the steps that are not to be walked now.
        world_size: Number of processes.
        seed: Seed of the run.

    Raises:
        InputError: The config asks for weights that are chosen by the test images.
    """
    defaults = dict(cfg.get('default_hooks') or {})
    checkpoint = defaults.get('checkpoint') or {}
    if checkpoint.get('save_best'):
        raise InputError(
            'default_hooks.checkpoint.save_best chooses weights by the test images: '
            'remove it; the weights after the last iteration are what is evaluated'
        )
    every = (defaults.get('logger') or {}).get('interval', 50)
    ours = [
        dict(type='IterationSeedHook', seed=seed, step=step),
        dict(type='WalkProgressHook', step=step, iterations=list(iterations), interval=every),
        dict(type='FiniteLossHook', step=step, interval=min(every, 50)),
        dict(type='StopHook', step=step),
    ]
    if method.regularisers and step > 0:
        ours.append(dict(type='PenaltyScaleHook', interval=every))
    if world_size > 1:
        # Norm statistics that are not synchronised differ by rank, but the evaluated
        # network must be the saved one.
        ours.append(dict(type='SyncBuffersHook'))
    hook = find_classifier_init(method.classifier_init).needs_hook
    if hook and step > 0:
        ours.append(dict(type=hook))
    if Freezing.from_config(method.freezing).old_rows and step > 0:
        ours.append(dict(type='FrozenRowsHook'))
    defaults['checkpoint'] = dict(
        type='StepCheckpointHook',
        interval=checkpoint.get('interval', 1000),
        max_minutes=checkpoint.get('max_minutes', 10.0),
    )
    cfg.default_hooks = {
        name: hook for name, hook in defaults.items() if hook is not None or name in DISPENSABLE
    }
    cfg.custom_hooks = [
        *(cfg.get('custom_hooks') or []),
        *method.custom_hooks,
        *ours,
    ]


def notes_on_hooks(cfg: Config) -> list[str]:
    """Return the consequences of default hooks that a config sets to None, one sentence each.

    Args:
        cfg: The user's config.
    """
    dropped = {name for name, hook in (cfg.get('default_hooks') or {}).items() if hook is None}
    notes = []
    if 'checkpoint' in dropped:
        notes.append(
            'default_hooks.checkpoint is None, but a walk must be able to go on after a '
            'kill: its own hook saves resume.pth every 1000 iterations or 10 minutes'
        )
    if 'runtime_info' in dropped:
        notes.append(
            'default_hooks.runtime_info is None, but nothing could be logged without it: it stays'
        )
    if 'logger' in dropped:
        notes.append(
            'default_hooks.logger is None: no losses are logged, and the report has no loss curves'
        )
    if 'param_scheduler' in dropped and cfg.get('param_scheduler'):
        notes.append(
            'default_hooks.param_scheduler is None: nothing follows param_scheduler, so '
            'the learning rate stays as it is; leave the line out to use the schedule'
        )
    return notes
