"""Taking over finished steps of another run."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmengine.dist import get_rank

from mmseg_cil.engine.paths import step_folder
from mmseg_cil.engine.record.completeness import listed
from mmseg_cil.engine.record.earlier import has_same_beginning, recognise_counts
from mmseg_cil.engine.record.journal import Journal
from mmseg_cil.engine.record.verify import check_checkpoint, check_same_version
from mmseg_cil.engine.runner.distributed import decided_by_main
from mmseg_cil.engine.sub_steps.listing import sub_steps_of
from mmseg_cil.engine.walk import Walk
from mmseg_cil.errors import InputError
from mmseg_cil.hooks.step_checkpoint_hook import RESUME_NAME
from mmseg_cil.models.teacher import load_plain_state


@dataclass(frozen=True)
class Import:
    """Finished steps of another run that are to be taken over.

    Attributes:
        journal: Journal of the other run.
        steps: Indices of these steps, in order; checked.
        sub_steps: Names of this walk's own sub-steps, for each of these steps.
    """

    journal: Journal
    steps: tuple[int, ...]
    sub_steps: tuple[frozenset[str], ...]


def plan_import(
    source: str,
    walk: Walk,
    fingerprints: Mapping[str, str],
    journal: Journal | None,
    accept_changes: bool = False,
    asked: bool = True,
) -> Import | None:
    """Check the steps 0..K of another work directory; write nothing.

    Args:
        source: ``WORK_DIR`` (step 0) or ``WORK_DIR:K``.
        walk: This walk.
        fingerprints: Fingerprints of this walk.
        journal: Journal of this walk, where it has one. Finished steps are left alone.
        accept_changes: Whether to take steps over even if they were trained on other images.
        asked: Whether the user names the other directory now, and not the journal alone.

    Returns:
        The steps to take over; None where all are there.

    Raises:
        InputError: The other run is missing, has not done those steps, or its
            steps have other classes or images, another network or changed files.
    """
    other_dir, last = _parse(source)
    if other_dir.resolve() == walk.work_dir.resolve():
        raise InputError(
            f'--start-from {source}: that is the work directory of this walk itself; '
            'leave --start-from away, or give another --work-dir'
        )
    if last >= walk.num_steps:
        raise InputError(
            f'--start-from {source}: this walk has steps 0..{walk.num_steps - 1} only; name one '
            'of these after the colon'
        )
    steps = [step for step in range(last + 1) if journal is None or not journal.is_done(step)]
    if not steps:
        return None
    if not asked:
        # A journal may come from somebody else, and is no reason to read other directories.
        raise InputError(
            f'this walk takes its first steps over from {source}, and '
            f'{listed(steps)} {"are" if len(steps) > 1 else "is"} not there: add '
            f'--start-from {source} again'
        )
    other = _read_journal(other_dir, source, steps, begun=journal is not None)
    recognise_counts(walk, other)
    _check_same_beginning(walk, other, fingerprints, source, last)
    _check_same_images(walk, other, source, steps, accept_changes)
    for step in steps:
        if not other.is_done(step):
            raise InputError(
                f'--start-from {source}: step {step} of {other_dir} is not done: finish it there, '
                f'or name an earlier step, as in --start-from {other_dir}:0'
            )
        path, classes = check_checkpoint(other, step), len(walk.protocol.steps[step].seen)
        # Weights that cannot be learnt from are refused now, not when the next step begins.
        decided_by_main(functools.partial(_check_weights, path, classes))
    names = [frozenset(sub_step.name for sub_step in sub_steps_of(walk, step)) for step in steps]
    return Import(other, tuple(steps), tuple(names))


def import_steps(plan: Import, work_dir: Path, journal: Journal) -> None:
    """Copy steps of another work directory and record them as done.

    Methods can thus share the expensive base step. Steps that the other run
    evaluated otherwise are evaluated again when the walk goes on.

    Args:
        plan: The steps to take over.
        work_dir: Work directory of this walk.
        journal: Journal of this walk.
    """
    other_dir = plan.journal.path.parent
    for step, own in zip(plan.steps, plan.sub_steps, strict=True):
        record = plan.journal.step(step)
        assert record is not None
        listed = record.get('sub_steps') or {}
        record = {**record, 'sub_steps': {key: listed[key] for key in listed if key in own}}
        if journal.writable:
            _copy_folder(step_folder(other_dir, step), step_folder(work_dir, step))
        taken_from = {'work_dir': str(other_dir), 'checkpoint_sha256': record['checkpoint_sha256']}
        journal.update_step(step, **{**record, 'taken_from': taken_from})


def _read_journal(folder: Path, source: str, steps: Sequence[int], begun: bool) -> Journal:
    """Read the journal of the other run, which must be there.

    Args:
        folder: Folder of the other run.
        source: The other run as the user named it.
        steps: Steps to be taken over.
        begun: Whether this walk has a journal, which names the other run.
    """
    other = decided_by_main(lambda: Journal.load(folder, writable=False))
    if other is None and begun:
        raise InputError(
            f'{listed(steps)}: to be taken over from {folder}, which holds no walk '
            '(any more): put it back, or name another run with --start-from'
        )
    if other is None:
        raise InputError(f'--start-from {source}: {folder} holds no walk (no journal.json)')
    return other


def _check_weights(path: Path, num_classes: int) -> None:
    load_plain_state(path, num_classes)


def _parse(source: str) -> tuple[Path, int]:
    head, _, tail = source.rpartition(':')
    if head and tail.isascii() and tail.isdigit():
        return Path(head), int(tail)
    return Path(source), 0


def _check_same_beginning(
    walk: Walk, other: Journal, fingerprints: Mapping[str, str], source: str, last: int
) -> None:
    """Refuse another run that differs in the steps that are taken over; later steps may differ."""
    check_same_version(other, fingerprints)
    if not has_same_beginning(walk, other.content['protocol'], last):
        raise InputError(
            f'--start-from {source}: that run walks another protocol up to step {last} (classes, '
            'order, setting or training policy differ)'
        )
    if other.content['fingerprints']['model'] != fingerprints['model']:
        raise InputError(
            f'--start-from {source}: that run trains another network (the model '
            'config differs; auxiliary heads are part of it): give both runs one '
            'model, such as with --model'
        )


def _check_same_images(
    walk: Walk, other: Journal, source: str, steps: Sequence[int], accept_changes: bool
) -> None:
    """Refuse steps that were trained on other images, as far as their journal tells."""
    recorded = (other.content.get('data') or {}).get('train') or []
    differing = []
    for step in steps:
        record = other.step(step) or {}
        before = record.get('training_images') or (recorded[step : step + 1] or [None])[0]
        same_count = record.get('images') in (None, walk.train_images[step])
        if not same_count or before not in (None, walk.prints.train[step]):
            differing.append(step)
    if not differing:
        return
    found = (
        f'{listed(differing)} of that run had other training images or masks, or in another order'
    )
    if not accept_changes:
        raise InputError(
            f'--start-from {source}: {found}: give both runs one list of images'
            + (
                f' (in the setting {walk.protocol.setting} a step has no image that shows a class '
                'still to come)'
                if walk.protocol.setting != 'overlapped'
                else ''
            )
            + ', or add --accept-changes if you mean it'
        )
    if get_rank() == 0:
        print(f'note: --start-from {source}: {found}, which --accept-changes accepts')


def _copy_folder(folder: Path, target: Path) -> None:
    partial = target.with_name(f'.{target.name}.partial')
    for leftover in (partial, target):
        shutil.rmtree(leftover, ignore_errors=True)
    shutil.copytree(folder, partial, ignore=shutil.ignore_patterns(f'{RESUME_NAME}*', '*.tmp'))
    partial.rename(target)
