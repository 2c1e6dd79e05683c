"""The files that a method keeps of a step that it did not train itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.dist import get_rank

from mmseg_cil.contracts import StepHook
from mmseg_cil.engine.paths import step_folder
from mmseg_cil.engine.record.completeness import kept_hashes
from mmseg_cil.engine.record.journal import Journal
from mmseg_cil.engine.record.verify import check_checkpoint
from mmseg_cil.engine.runner import step_runner
from mmseg_cil.engine.runner.distributed import decided_by_main
from mmseg_cil.engine.step_configs import lone_config
from mmseg_cil.engine.walk import Walk
from mmseg_cil.registry import HOOKS


def complete_taken_steps(walk: Walk, journal: Journal, launcher: str) -> None:
    """Make the files that this walk's method keeps of the steps it took over from another run.

    A :class:`~mmseg_cil.contracts.StepHook` keeps files of a finished step, and says whether
    they are there, as this method would have made them. Where they are not, because the step was
    trained by another method, they are made now from the step's checkpoint and images, so that
    all methods can share one base step.

    Args:
        walk: The walk.
        journal: Journal of the walk.
        launcher: MMEngine's launcher.

    Raises:
        InputError: A checkpoint is missing, was changed, or does not fit the network.
    """
    for record in journal.content['steps']:
        if record.get('taken_from') and record.get('trained'):
            _complete(walk, journal, record['step'], launcher)


def _complete(walk: Walk, journal: Journal, step: int, launcher: str) -> None:
    config = lone_config(walk, step)
    # Look before a network is built, which most methods do not need here.
    missing = decided_by_main(
        lambda: missing_of(config.custom_hooks, step_folder(walk.work_dir, step))
    )
    if not missing:
        return
    images_of = config.train_dataloader.dataset.get('images_of')
    config.load_from = None
    path = check_checkpoint(journal, step)
    # A kill while the files are made must not leave the hashes of other files.
    journal.update_step(step, kept_sha256={})
    if get_rank() == 0:
        print(_note(step, missing, images_of))
    with step_runner.step_runner(config, launcher) as runner:
        step_runner.load_weights(runner, str(path))
        for hook in runner.hooks:
            if isinstance(hook, StepHook) and type(hook).__name__ in missing:
                hook.after_step(runner)
    hashes = decided_by_main(lambda: kept_hashes(step_folder(walk.work_dir, step)))
    stand_in = {} if images_of is None else {'kept_from_images_of': images_of}
    journal.update_step(step, kept_sha256=hashes, **stand_in)


def _note(step: int, missing: Sequence[str], images_of: int | None) -> str:
    if images_of is not None:
        return (
            f'note: step {step} was trained elsewhere, and its images are not there: what '
            f'{", ".join(missing)} keep of it is made from the images of step {images_of} and '
            'what the network of step 0 says of them'
        )
    return (
        f'note: step {step} was taken over from a walk that kept nothing for '
        f'{", ".join(missing)}, or kept it with other settings: making it now'
    )


def missing_of(hooks: Sequence[Mapping[str, Any]], folder: Path) -> list[str]:
    """Return the types of the hooks whose files of a step are missing.

    Args:
        hooks: Configs of the hooks.
        folder: Folder of the step.
    """
    missing = []
    for config in hooks:
        kind = HOOKS.get(config['type']) if 'type' in config else None
        if kind is not None and issubclass(kind, StepHook):
            own = {key: value for key, value in config.items() if key != 'priority'}
            if not HOOKS.build(own).has_kept(folder):
                missing.append(kind.__name__)
    return missing
