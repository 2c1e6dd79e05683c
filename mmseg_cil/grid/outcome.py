"""The state of the walk in a work directory, and the end of its log."""

from __future__ import annotations

from pathlib import Path

from mmseg_cil.engine.record.journal import Journal

#: Bytes at the end of a log in which the last line is searched for.
_TAIL = 8192


def is_finished(work_dir: Path, last: int | None = None) -> bool:
    """Return whether the steps of a walk are trained, evaluated, and in its metrics.

    Args:
        work_dir: Work directory of the walk.
        last: The last step that is asked for; None: that of the protocol.

    Raises:
        InputError: The journal of the walk is damaged.
    """
    journal = Journal.load(work_dir, writable=False)
    if journal is None or not (work_dir / 'metrics.json').is_file():
        return False
    count = len(journal.content['protocol']['steps']) if last is None else last + 1
    return all(journal.is_done(step) for step in range(count))


def has_begun(work_dir: Path) -> bool:
    """Return whether a walk has its step 0, so that it needs no other walk to start from.

    Raises:
        InputError: The journal of the walk is damaged.
    """
    journal = Journal.load(work_dir, writable=False)
    return journal is not None and journal.is_done(0)


def last_line(log: Path) -> str:
    """Return the last error line of a log, or else its last line that is not empty."""
    try:
        with open(log, 'rb') as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL))
            lines = file.read().decode('utf-8', errors='replace').splitlines()
    except OSError:
        return 'it has left no log'
    said = [line.strip() for line in lines if line.strip()]
    errors = [line for line in said if line.startswith('error: ')]
    return (errors or said or ['it has said nothing'])[-1]
