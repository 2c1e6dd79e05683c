"""Beginning anew in a work directory that holds a walk: the removal of that walk alone."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from pathlib import Path

from mmseg_cil.engine.record.journal import NAME as JOURNAL
from mmseg_cil.engine.record.lock import NAME as LOCK
from mmseg_cil.errors import InputError

#: Files that a walk leaves beside its journal. The class index stays: it belongs to the data, which
#: it recognises, and to no walk.
_LEFT = ('metrics.json', 'metrics.csv', 'probe.json', 'walk_config.*', 'report')
_STEP = re.compile(r'step_\d{2,}')
#: Files that MMEngine's checkpoint hook leaves.
_OTHER_RUNS = ('last_checkpoint', 'iter_*.pth', 'epoch_*.pth')
#: Files that may be there before a walk has begun.
_BEFORE = ('class_index', LOCK)


def check_overwritten(work_dir: Path, resume: bool, start_from: str | None) -> None:
    """Refuse to begin anew where files would be removed that are no walk's or still needed.

    Args:
        work_dir: Work directory of the walk that is to begin.
        resume: Whether the user asked to go on, too.
        start_from: The run whose steps the walk is to take over.

    Raises:
        InputError: The folder holds files and no walk, or the options contradict each other.
    """
    if resume:
        raise InputError(
            '--overwrite begins a walk anew and --resume goes on with one: give one of them'
        )
    if start_from and same_folder(start_from, work_dir):
        raise InputError(
            f'--overwrite would remove {work_dir}, which --start-from names: give '
            'another --work-dir'
        )
    if not work_dir.is_dir():
        return
    others = [
        path.name
        for path in work_dir.iterdir()
        if path.name not in _BEFORE and not path.name.startswith('.')
    ]
    if others and not _holds_walk(work_dir):
        raise InputError(
            f'--overwrite: {work_dir} holds {", ".join(sorted(others)[:3])} and no '
            f'walk ({JOURNAL}); only walks are removed: give another --work-dir'
        )


def check_no_other_run(work_dir: Path) -> None:
    """Refuse to go on in the folder of a run of MMSegmentation, which is no walk.

    Raises:
        InputError: The folder holds such a run.
    """
    found = [path.name for pattern in _OTHER_RUNS for path in work_dir.glob(pattern)]
    if found:
        raise InputError(
            f'--resume: {work_dir} holds no walk, but a run of MMSegmentation '
            f'({found[0]}): give the --work-dir of a walk'
        )


def same_folder(source: str, work_dir: Path) -> bool:
    """Return whether a source, ``WORK_DIR`` or ``WORK_DIR:K``, is a certain folder."""
    head, _, tail = source.rpartition(':')
    path = Path(head if head and tail.isascii() and tail.isdigit() else source)
    return path.resolve() == work_dir.resolve()


def _holds_walk(work_dir: Path) -> bool:
    journal = work_dir / JOURNAL
    if not journal.is_file():
        return False
    with contextlib.suppress(OSError, ValueError):
        content = json.loads(journal.read_text(encoding='utf-8'))
        return isinstance(content, dict) and 'fingerprints' in content
    # The journal is damaged: the copy of the config tells it from other files of that name.
    return bool(list(work_dir.glob('walk_config.*')))


def remove_walk(work_dir: Path) -> None:
    """Remove the files that a walk has left in a work directory, and nothing else.

    The journal is removed last, so that after a kill the rest is still known as a walk.

    Args:
        work_dir: See :func:`check_overwritten`; nothing is done where there is no walk.
    """
    if not _holds_walk(work_dir):
        return
    steps = [path for path in work_dir.iterdir() if _STEP.fullmatch(path.name)]
    for path in [*steps, *(found for pattern in _LEFT for found in work_dir.glob(pattern))]:
        # Nothing is removed behind a link.
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    (work_dir / JOURNAL).unlink()
