"""Checks that the folders of finished steps hold the files that the journal records of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from mmseg_cil.engine.config.method import find_method
from mmseg_cil.engine.export.checkpoint import CHECKPOINT_NAME
from mmseg_cil.engine.paths import step_folder
from mmseg_cil.engine.record.fingerprint import file_hash
from mmseg_cil.engine.record.journal import Journal
from mmseg_cil.engine.sub_steps.listing import replaced_teachers, sub_steps_of
from mmseg_cil.engine.walk import Walk
from mmseg_cil.errors import InputError
from mmseg_cil.hooks.step_checkpoint_hook import RESUME_NAME


def load_journal(work_dir: Path) -> Journal | None:
    """Read the journal of a walk that goes on, and drop the last steps whose folders are gone.

    The dropped steps are made anew.

    Raises:
        InputError: :meth:`Journal.load` raises it, or the folder of a step is gone that
            a later step started from.
    """
    journal = Journal.load(work_dir)
    if journal is None:
        return None
    recorded = [record['step'] for record in journal.content['steps']]
    gone = [step for step in recorded if not step_folder(work_dir, step).is_dir()]
    if not gone:
        return journal
    if gone != recorded[-len(gone) :]:
        raise InputError(
            f'{step_folder(work_dir, gone[0])} is gone, and step {gone[0] + 1} started from it: '
            f'{way_out(journal, gone[0])}'
        )
    for step in gone:
        journal.drop_step(step)
    print(
        f'note: {", ".join(step_folder(work_dir, step).name for step in gone)} of {work_dir} '
        f'{"are" if len(gone) > 1 else "is"} gone: {listed(gone)} '
        f'{"are" if len(gone) > 1 else "is"} made anew'
    )
    return journal


def check_trained_steps(journal: Journal, needed: Collection[int]) -> None:
    """Check the files of all trained steps against the journal.

    Args:
        journal: Journal of the walk.
        needed: Steps whose weights are to be evaluated, started from or learnt from.

    Raises:
        InputError: A file of a needed step is not as it was written. A warning is printed
            for other steps.
    """
    for record in journal.content['steps']:
        step = record['step']
        problem = None if record['status'] == 'begun' else problem_of(journal, step)
        if problem and step in needed:
            raise InputError(problem)
        if problem:
            print(f'warning: {problem}. The walk goes on, for nothing that is to come needs it')


def needed_steps(
    walk: Walk, journal: Journal, steps: Sequence[int], outdated: Collection[int]
) -> set[int]:
    """Return the trained steps whose weights are read when the walk goes on.

    Args:
        walk: The walk.
        journal: Journal of the walk.
        steps: Steps to walk, in order.
        outdated: Steps that are evaluated again.
    """
    trained = {step for step in range(walk.num_steps) if journal.is_trained(step)}
    taught = [step for step in sorted(trained) if (journal.step(step) or {}).get('trained')]
    needed = {*outdated, *(step for step in trained if not journal.is_done(step))}
    for step in steps:
        if step in trained:
            continue
        before = [teacher for teacher in taught if teacher < step]
        needed |= {step - 1, *before[-1:]}
        if find_method(walk.cfg, walk.protocol.name).reads_all_teachers:
            needed |= {*before} - {*replaced_teachers(walk, before)}
    for step in trained & set(range(max(steps, default=-1) + 1)):
        kept = (journal.step(step) or {}).get('sub_steps') or {}
        if any(sub_step.name not in kept for sub_step in sub_steps_of(walk, step, 'after')):
            needed.add(step)
    return needed & trained


def problem_of(journal: Journal, step: int) -> str | None:
    """Return the problem with a trained step's files and a way out, or None without a problem."""
    record = journal.step(step) or {}
    folder = step_folder(journal.path.parent, step)
    hashes = {CHECKPOINT_NAME: record.get('checkpoint_sha256'), **(record.get('kept_sha256') or {})}
    for name, expected in hashes.items():
        path = folder / name
        if not path.is_file():
            return (
                f'{path} does not exist, though {journal.path} says that step {step} is '
                f'trained: {way_out(journal, step)}'
            )
        found = file_hash(path)
        if found != expected:
            return (
                f'{path} is not the file that {journal.path} records (SHA-256 expected: '
                f'{expected}, found: {found}): it was changed or damaged; '
                f'{way_out(journal, step)}'
            )
    return None


def kept_hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of a step's files that later steps read beside its checkpoint, by name."""
    return {
        path.name: file_hash(path)
        for path in sorted(folder.glob('*.pth'))
        if path.name not in (CHECKPOINT_NAME, RESUME_NAME)
    }


def way_out(journal: Journal, step: int) -> str:
    """Return the advice for a step of which something is lost."""
    work_dir = journal.path.parent
    steps = [entry['step'] for entry in journal.content['steps'] if entry['step'] >= step]
    there = [
        step_folder(work_dir, index).name
        for index in steps
        if step_folder(work_dir, index).is_dir()
    ]
    delete = f'delete {", ".join(there)} in {work_dir} and go on' if there else 'go on'
    return (
        f'put the former file or folder back, or {delete} with --resume, which trains '
        f'{listed(steps or [step])} again'
    )


def listed(steps: Sequence[int]) -> str:
    """Return the steps as a text: 'step 1', or 'steps 0, 1, 2'."""
    return f'step{"s" if len(steps) > 1 else ""} {", ".join(map(str, steps))}'
