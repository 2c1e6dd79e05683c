"""What a method keeps of a step that it did not train itself."""

from __future__ import annotations

from mmengine.dist import get_rank, get_world_size
from mmengine.runner import Runner

from mmseg_cil.engine import step_runner
from mmseg_cil.engine.agreement import check_checkpoint
from mmseg_cil.engine.distributed import decided_by_main
from mmseg_cil.engine.journal import Journal
from mmseg_cil.engine.step_config import StepInputs, derive_step_config, step_folder
from mmseg_cil.engine.walk import Walk


def complete_taken_steps(walk: Walk, journal: Journal, launcher: str) -> None:
    """Makes what this walk's method keeps of the steps it took over from another run.

    A hook with ``after_step`` keeps something of a finished step; one that also has
    ``has_kept(folder)`` can say whether it is there, as this method would have made it. Where it
    is not, because the step was trained by another method, it is made now from the step's
    checkpoint and images, so that all methods can share one base step.

    Args:
        walk: The walk.
        journal: Its journal.
        launcher: MMEngine's launcher.

    Raises:
        InputError: A checkpoint is missing, was changed, or does not fit.
    """
    for record in journal.content['steps']:
        if record.get('taken_from') and record.get('trained'):
            _complete(walk, journal, record['step'], launcher)


def _complete(walk: Walk, journal: Journal, step: int, launcher: str) -> None:
    config = derive_step_config(walk.cfg, walk.protocol, step,
                                StepInputs(None, None, walk.train_images), walk.work_dir,
                                get_world_size())
    config.load_from = None
    for key in ('val_dataloader', 'val_cfg', 'val_evaluator'):
        config[key] = None
    with step_runner.step_runner(config, launcher) as runner:
        missing = decided_by_main(lambda: missing_of(walk, runner, step))
        if not missing:
            return
        path = check_checkpoint(journal, step)
        if get_rank() == 0:
            print(f'note: step {step} was taken over from a walk that kept nothing for '
                  f'{", ".join(missing)}, or kept it with other settings: making it now')
        step_runner.load_weights(runner, str(path))
        for hook in runner.hooks:
            if type(hook).__name__ in missing:
                hook.after_step(runner)


def missing_of(walk: Walk, runner: Runner, step: int) -> list[str]:
    """Types of the hooks whose files of a step are not there."""
    folder = step_folder(walk.work_dir, step)
    return [type(hook).__name__ for hook in runner.hooks
            if hasattr(hook, 'after_step') and hasattr(hook, 'has_kept')
            and not hook.has_kept(folder)]
