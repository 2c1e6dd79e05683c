"""Taking over finished steps of another run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from mmseg_cil.engine.fingerprint import file_hash
from mmseg_cil.engine.journal import Journal
from mmseg_cil.engine.plain_export import CHECKPOINT_NAME
from mmseg_cil.engine.step_config import step_folder
from mmseg_cil.engine.walk import Walk
from mmseg_cil.errors import InputError
from mmseg_cil.hooks.step_checkpoint_hook import RESUME_NAME


def import_steps(source: str, walk: Walk, journal: Journal) -> None:
    """Copies steps 0..K of another work directory and records them as done.

    The expensive base step can so be shared between methods. Steps that this
    walk has already are left alone.

    Args:
        source: ``WORK_DIR`` (step 0) or ``WORK_DIR:K``.
        walk: This walk.
        journal: Its journal.

    Raises:
        InputError: The other run is missing, has not done those steps, or its
            steps have other classes, other images or another network.
    """
    other_dir, last = _parse(source)
    if last >= walk.num_steps:
        raise InputError(f'--start-from {source}: this walk has steps 0..{walk.num_steps - 1} only')
    other = Journal.load(other_dir, writable=False)
    if other is None:
        raise InputError(f'--start-from {source}: {other_dir} holds no walk (no journal.json)')
    _check_same_beginning(other, walk, journal, source)
    for step in range(last + 1):
        if journal.is_done(step):
            continue
        record = other.step(step)
        if record is None or record['status'] != 'done':
            raise InputError(f'--start-from {source}: step {step} of {other_dir} is not done')
        _copy_step(other_dir, walk.work_dir, step, record, journal)


def _parse(source: str) -> tuple[Path, int]:
    head, _, tail = source.rpartition(':')
    if head and tail.isdigit():
        return Path(head), int(tail)
    return Path(source), 0


def _check_same_beginning(other: Journal, walk: Walk, journal: Journal, source: str) -> None:
    theirs, ours = other.content['fingerprints'], journal.content['fingerprints']
    if theirs['protocol'] != ours['protocol']:
        raise InputError(f'--start-from {source}: that run walks another protocol (classes, order, '
                         'setting or policy differ)')
    if theirs['model'] != ours['model']:
        raise InputError(f'--start-from {source}: that run trains another network (the model '
                         'config differs)')


def _copy_step(other_dir: Path, work_dir: Path, step: int, record: dict[str, Any],
               journal: Journal) -> None:
    folder = step_folder(other_dir, step)
    found = file_hash(folder / CHECKPOINT_NAME)
    if found != record.get('checkpoint_sha256'):
        raise InputError(f'{folder / CHECKPOINT_NAME} is not the file that its journal records '
                         '(SHA-256 differs): it was changed or damaged')
    if journal.writable:
        target, partial = step_folder(work_dir, step), work_dir / f'.step_{step:02d}.partial'
        for leftover in (partial, target):
            shutil.rmtree(leftover, ignore_errors=True)
        shutil.copytree(folder, partial, ignore=shutil.ignore_patterns(RESUME_NAME, '*.tmp'))
        partial.rename(target)
    journal.update_step(step, **{
        **record, 'taken_from': {
            'work_dir': str(other_dir),
            'checkpoint_sha256': found
        }
    })
