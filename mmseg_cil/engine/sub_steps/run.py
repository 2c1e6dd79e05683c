"""Training the sub-steps of a method, each once."""

from __future__ import annotations

import functools
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

from mmseg_cil.engine.config.step_config import StepInputs
from mmseg_cil.engine.paths import run_seed
from mmseg_cil.engine.record.fingerprint import (
    EVALUATION,
    changed,
    evaluation_of,
    file_hash,
    fingerprint,
)
from mmseg_cil.engine.record.journal import Journal
from mmseg_cil.engine.record.resume_state import can_resume, step_identity
from mmseg_cil.engine.runner import step_runner
from mmseg_cil.engine.runner.distributed import decided_by_main
from mmseg_cil.engine.sub_steps.base import SubStep, SubStepInputs
from mmseg_cil.engine.sub_steps.listing import sub_step_folder, sub_steps_of
from mmseg_cil.engine.walk import Walk
from mmseg_cil.errors import InputError
from mmseg_cil.hooks.step_checkpoint_hook import RESUME_NAME
from mmseg_cil.utils.hashed_file import remove_hashed


def run_sub_steps(
    walk: Walk,
    journal: Journal,
    step: int,
    when: str,
    inputs: StepInputs,
    snapshot: Mapping[str, Any] | None,
    launcher: str,
) -> None:
    """Train those sub-steps of a step that are not finished; every process must call this.

    A finished sub-step stays as it is, unless it was finished with other settings
    (accepted changes, a step taken over): it is trained anew then.

    Args:
        walk: The walk.
        journal: Journal of the walk, to which each sub-step is added as it finishes.
        step: The step.
        when: 'before' or 'after'.
        inputs: Inputs that the step begins with.
        snapshot: The step's checkpoint and number of classes; None before it is trained.
        launcher: MMEngine's launcher.

    Raises:
        InputError: A file of a finished sub-step is missing or was changed.
    """
    for sub_step in sub_steps_of(walk, step, when):
        folder = sub_step_folder(walk, step, sub_step.name)
        identity = _identity(walk, journal, step, sub_step)
        if not decided_by_main(
            functools.partial(_is_finished, folder, journal, step, sub_step.name, identity)
        ):
            _train(
                sub_step,
                walk,
                journal,
                step,
                SubStepInputs(inputs, dict(snapshot) if snapshot else None, folder),
                identity,
                launcher,
            )


def rescore_sub_steps(walk: Walk, journal: Journal, launcher: str) -> None:
    """Compute the scores of sub-steps again where the walk's evaluation has changed.

    Args:
        walk: The walk.
        journal: Journal of the walk, which holds the scores.
        launcher: MMEngine's launcher.

    Raises:
        InputError: A file of a finished sub-step is missing or was changed.
    """
    for record in list(journal.content['steps']):
        now = evaluation_of(walk, record['step'])
        listed = record.get('sub_steps') or {}
        for sub_step in sub_steps_of(walk, record['step']):
            former = listed.get(sub_step.name)
            if former is None or 'summary' not in former or former.get('evaluation') == now:
                continue
            folder = sub_step_folder(walk, record['step'], sub_step.name)
            if not decided_by_main(folder.is_dir):
                # The sub-step is trained anew when the walk goes on.
                continue
            decided_by_main(
                functools.partial(
                    _check_files, folder, journal, record['step'], sub_step.name, former['files']
                )
            )
            changes = sub_step.rescore(walk, record['step'], folder, launcher)
            listed = {
                **listed,
                sub_step.name: {
                    **former,
                    'summary': {**former['summary'], **changes},
                    'evaluation': now,
                },
            }
            journal.update_step(record['step'], sub_steps=listed)


def _identity(walk: Walk, journal: Journal, step: int, sub_step: SubStep) -> dict[str, Any]:
    """Return the identity of a sub-step: the walk's settings and the checkpoints so far."""
    last = step if sub_step.when == 'after' else step - 1
    hashes = [
        (entry['step'], entry.get('checkpoint_sha256'))
        for entry in journal.content['steps']
        if entry['step'] <= last and entry['status'] != 'begun'
    ]
    # Later steps do not shape the sub-step.
    fingerprints = {
        **journal.content['fingerprints'],
        'protocol': walk.protocol.beginning_fingerprint(step),
        'training images': fingerprint(walk.prints.train[: step + 1]),
    }
    return {
        **step_identity(step, len(walk.protocol.steps[step].seen), fingerprints),
        'sub_step': sub_step.name,
        'checkpoints': fingerprint(hashes),
    }


def _is_finished(
    folder: Path, journal: Journal, step: int, name: str, identity: Mapping[str, Any]
) -> bool:
    record = ((journal.step(step) or {}).get('sub_steps') or {}).get(name)
    if record is None:
        return False
    differing = changed(record['identity'], identity, journal.content.get('former'))
    if differing:
        print(
            f'note: the sub-step {name} of step {step} was finished with other settings '
            f'({", ".join(differing)}): training it anew'
        )
        return False
    if not folder.is_dir():
        print(f'note: {folder} is gone: training the sub-step {name} of step {step} anew')
        return False
    _check_files(folder, journal, step, name, record['files'])
    return True


def _check_files(
    folder: Path, journal: Journal, step: int, name: str, files: Mapping[str, str]
) -> None:
    for file, expected in files.items():
        path = folder / file
        found = file_hash(path) if path.is_file() else None
        if found != expected:
            problem = (
                'does not exist'
                if found is None
                else f'has the SHA-256 {found}, not the recorded {expected}'
            )
            raise InputError(
                f'{path} {problem}, though {journal.path} says that the sub-step {name} of step '
                f'{step} is finished: put the file back, or delete {folder} and go on with '
                '--resume, which trains the sub-step again'
            )


def _train(
    sub_step: SubStep,
    walk: Walk,
    journal: Journal,
    step: int,
    inputs: SubStepInputs,
    identity: dict[str, Any],
    launcher: str,
) -> None:
    folder = inputs.folder
    resume = decided_by_main(
        functools.partial(can_resume, folder, identity, journal.content.get('former'))
    )
    cfg = sub_step.derive_config(walk, step, inputs)
    place(cfg, sub_step, walk, step, folder, resume)
    cfg.default_hooks.checkpoint.identity = identity
    print_log(f'step {step}: sub-step {sub_step.name}', logger='current')
    start = time.monotonic()
    with step_runner.step_runner(cfg, launcher) as runner:
        runner.train()
        step_runner.require_finite_network(runner, f'step {step}, sub-step {sub_step.name}')
        files = list(sub_step.finish(runner, folder))
    hashes = decided_by_main(lambda: {name: file_hash(folder / name) for name in files})
    record = dict(
        files=hashes,
        seconds=decided_by_main(lambda: round(time.monotonic() - start, 1)),
        iterations=cfg.train_cfg.max_iters,
        identity={key: value for key, value in identity.items() if key != EVALUATION},
    )
    if sub_step.summary:
        record.update(summary=dict(sub_step.summary), evaluation=evaluation_of(walk, step))
    former = journal.step(step) or {'status': 'begun'}
    others = former.get('sub_steps') or {}
    journal.update_step(step, status=former['status'], sub_steps={**others, sub_step.name: record})
    decided_by_main(lambda: remove_hashed(folder / RESUME_NAME))


def place(
    cfg: Config, sub_step: SubStep, walk: Walk, step: int, folder: Path, resume: bool
) -> None:
    """Give a sub-step's config, in place, the settings that all sub-steps have in common.

    Args:
        cfg: Config as the sub-step derived it.
        sub_step: The sub-step that is trained.
        walk: The walk.
        step: The step.
        folder: Folder of the sub-step.
        resume: Whether to go on with the state in the folder.
    """
    cfg.work_dir = str(folder)
    cfg.experiment_name = f'{walk.work_dir.resolve().name}_step_{step:02d}_{sub_step.name}'
    cfg.resume = resume
    if resume:
        cfg.load_from = str(folder / RESUME_NAME)
    for key in (
        'val_dataloader',
        'val_cfg',
        'val_evaluator',
        'test_dataloader',
        'test_cfg',
        'test_evaluator',
    ):
        cfg[key] = None
    cfg.train_cfg.val_interval = cfg.train_cfg.max_iters + 1
    # A sub-step does not use the random numbers of the step itself.
    _hook(cfg, 'IterationSeedHook').update(seed=sub_step_seed(run_seed(walk.cfg), sub_step.name))
    _hook(cfg, 'WalkProgressHook').update(
        iterations=[0] * step + [cfg.train_cfg.max_iters], name=sub_step.name
    )
    for kind in ('FiniteLossHook', 'StopHook'):
        if not any(hook.type == kind for hook in cfg.custom_hooks):
            # A sub-step of the user's own may choose its hooks by their names.
            cfg.custom_hooks = [*cfg.custom_hooks, dict(type=kind, step=step)]
        _hook(cfg, kind).update(name=sub_step.name)


def sub_step_seed(seed: int, name: str) -> int:
    """Return a seed of its own for a sub-step, from the run's seed and the sub-step's name."""
    return zlib.crc32(f'{seed} {name}'.encode())


def _hook(cfg: Config, kind: str) -> Any:
    return next(hook for hook in cfg.custom_hooks if hook.type == kind)
