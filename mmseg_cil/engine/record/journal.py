"""The journal of a walk: the file that makes the walk resumable."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmseg_cil.engine.record.lock import check_still_held
from mmseg_cil.errors import InputError
from mmseg_cil.utils.atomic import write_json
from mmseg_cil.utils.inside import check_links
from mmseg_cil.utils.journal_form import form_problem

FORMAT = 1
NAME = 'journal.json'
#: A step is 'begun' once a sub-step before it has finished, 'trained' once its checkpoint is
#: written, 'done' once it is evaluated too.
STATUSES = ('begun', 'trained', 'done')


class Journal:
    """``journal.json`` of a work directory, replaced atomically at every change.

    Args:
        path: The file.
        content: Content of the file: a header (protocol, method, fingerprints, seed,
            versions) and ``steps``, one record for each step of which something has finished.
        writable: Whether this process writes the file (rank 0 of a job).
    """

    def __init__(self, path: Path, content: dict[str, Any], writable: bool = True) -> None:
        self.path = path
        self.content = content
        self.writable = writable

    @classmethod
    def create(
        cls, work_dir: str | Path, header: Mapping[str, Any], writable: bool = True
    ) -> Journal:
        """Begin a journal with no step done, and write it."""
        journal = cls(Path(work_dir) / NAME, {'format': FORMAT, **header, 'steps': []}, writable)
        journal._write()
        return journal

    @classmethod
    def load(cls, work_dir: str | Path, writable: bool = True) -> Journal | None:
        """Read the journal of a work directory; None where there is none.

        Raises:
            InputError: The file is damaged or of another format, or a link in the directory
                leads out of the directory.
        """
        check_links(work_dir)
        path = Path(work_dir) / NAME
        if not path.exists():
            return None
        try:
            content = json.loads(path.read_text(encoding='utf-8'))
            problem = _problem(content)
        except (ValueError, OSError) as error:
            problem = str(error)
        if problem:
            raise InputError(
                f'the journal {path} is damaged ({problem}): restore it from a backup, or use '
                'another --work-dir; finished steps can be reused with --start-from from a work '
                'directory whose journal is whole'
            )
        return cls(path, content, writable)

    def step(self, index: int) -> dict[str, Any] | None:
        """Return the record of a step; None where nothing of the step has finished."""
        for record in self.content['steps']:
            if record['step'] == index:
                return dict(record)
        return None

    def is_trained(self, index: int) -> bool:
        """Return whether a step's checkpoint is written, evaluated or not."""
        record = self.step(index)
        return record is not None and record['status'] != 'begun'

    def is_done(self, index: int) -> bool:
        """Return whether a step is trained and evaluated."""
        record = self.step(index)
        return record is not None and record['status'] == 'done'

    def update_step(self, index: int, **fields: Any) -> None:
        """Add fields to the record of a step (made where missing) and write the file."""
        record = {'step': index, **(self.step(index) or {}), **fields}
        others = [other for other in self.content['steps'] if other['step'] != index]
        self.content['steps'] = sorted([*others, record], key=lambda entry: entry['step'])
        self._write()

    def drop_step(self, index: int) -> None:
        """Forget a step; the next update writes the file."""
        self.content['steps'] = [other for other in self.content['steps'] if other['step'] != index]

    def update_header(self, **fields: Any) -> None:
        """Change the header and write the file."""
        self.content.update(fields)
        self._write()

    def _write(self) -> None:
        if self.writable:
            check_still_held(self.path.parent)
            write_json(self.path, self.content)


def _problem(content: Any) -> str | None:
    """Return what keeps a decoded file from being a journal; None where nothing does."""
    if not isinstance(content, dict):
        return 'it is not a JSON object'
    if content.get('format') != FORMAT:
        return f'its format is {content.get("format")!r}, this version reads {FORMAT}'
    for key, kind in (
        ('protocol', dict),
        ('method', dict),
        ('fingerprints', dict),
        ('steps', list),
    ):
        if not isinstance(content.get(key), kind):
            return f'{key!r} is missing'
    if not isinstance(content['method'].get('name'), str):
        return "'method' has no name"
    problem = form_problem(content)
    if problem:
        return problem
    for record in content['steps']:
        if record.get('status') not in STATUSES:
            return f'the step record {record!r} is not valid'
    indices = [record['step'] for record in content['steps']]
    return None if len(set(indices)) == len(indices) else f'a step is there twice: {indices}'
