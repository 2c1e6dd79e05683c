"""Reading a work directory: what a report is made of."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmseg_cil.errors import InputError
from mmseg_cil.utils.confusion_file import NAME as CONFUSION
from mmseg_cil.utils.confusion_file import read_confusion
from mmseg_cil.utils.harmonic import HARMONIC, entry_with_harmonic
from mmseg_cil.utils.inside import check_links
from mmseg_cil.utils.journal_form import form_problem

PARTS = ('all', 'old', 'new', 'base', 'later')


def shown_parts(readings: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the parts that a table shows: hIoU too, after new, where a reading defines it.

    Args:
        readings: Means by part, one dict a row.
    """
    if all(means.get(HARMONIC) is None for means in readings):
        return PARTS
    place = PARTS.index('new') + 1
    return (*PARTS[:place], HARMONIC, *PARTS[place:])


@dataclass(frozen=True)
class Losses:
    """The training loss of one step as logged.

    Attributes:
        step: Index of the step.
        iterations: Iteration of each record, rising.
        values: The total loss at each.
    """

    step: int
    iterations: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class WalkRecord:
    """A walk as its work directory tells it.

    Attributes:
        work_dir: The folder.
        metrics: Content of ``metrics.json``, checked, with the hIoU that old files lack.
        journal: Content of ``journal.json``, or an empty dict.
        losses: Training losses of the steps that have any.
        missing: Sentences that say what is not there, or not of one making.
    """

    work_dir: Path
    metrics: Mapping[str, Any]
    journal: Mapping[str, Any] = field(default_factory=dict)
    losses: tuple[Losses, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def protocol(self) -> str:
        """Name of the protocol, with the setting where it is known."""
        # By domain all labels are shown; nobody has chosen a setting.
        setting = None if self.by_domain else self.metrics.get('setting')
        return f'{self.metrics["protocol"]} {setting}' if setting else self.metrics['protocol']

    @property
    def method(self) -> str:
        """Name of the method."""
        return str(self.metrics['method'])

    @property
    def title(self) -> str:
        """Heading of the page."""
        return f'{self.protocol}, {self.method}'

    @property
    def by_domain(self) -> bool:
        """Whether the steps bring domains rather than classes."""
        return self.metrics.get('kind') == 'domain'

    @property
    def entries(self) -> list[Mapping[str, Any]]:
        """The steps' entries, by rising step."""
        return sorted(self.metrics['steps'], key=lambda entry: entry['step'])

    @property
    def steps(self) -> list[int]:
        """Indices of the steps that have an entry."""
        return [entry['step'] for entry in self.entries]

    @property
    def planned(self) -> int:
        """Number of steps of the protocol, as far as the files tell."""
        return _planned_steps(self.journal, self.steps)

    @property
    def class_names(self) -> list[str]:
        """Names by class id, as far as the files tell: what masks are indexed by."""
        protocol = self.journal.get('protocol')
        if isinstance(protocol, Mapping) and protocol.get('classes'):
            return list(protocol['classes'])
        return list(self.metrics.get('palette') or self.seen)

    @property
    def seen(self) -> list[str]:
        """Classes seen so far, in order of appearance."""
        return list(dict.fromkeys(name for entry in self.entries for name in entry['seen']))

    @property
    def introduced(self) -> list[list[str]]:
        """Names that each step brought: classes or domains; empty where the file lacks them."""
        last = self.entries[-1] if self.entries else {}
        return [list(group) for group in last.get('introduced', [])]

    def iou(self, name: str) -> list[float | None]:
        """IoU of a class after each recorded step; None where undefined or not seen."""
        return [entry['IoU'].get(name) for entry in self.entries]

    def confusion(self, step: int) -> tuple[list[str], npt.NDArray[np.int64]] | None:
        """Return class names and matrices (D, C, C) [true, predicted] after a step.

        D is 1, or the number of domains. None where the step's folder has none.

        Args:
            step: Index of the step.
        """
        path = self.work_dir / f'step_{step:02d}' / CONFUSION
        try:
            return read_confusion(json.loads(path.read_text(encoding='utf-8')))
        except (OSError, ValueError):
            return None

    def miou(self, part: str, key: str = 'mIoU') -> list[float | None]:
        """Mean IoU of all, old, new, base or later, or hIoU, after each recorded step."""
        return [entry.get(key, {}).get(part) for entry in self.entries]


def read_walk(work_dir: str | os.PathLike[str]) -> WalkRecord:
    """Read what a report needs; only ``metrics.json`` is indispensable.

    Args:
        work_dir: The folder of a walk, finished or not.

    Returns:
        The record; what was not found is named in ``missing``.

    Raises:
        InputError: The folder or ``metrics.json`` is missing or damaged, or a link leads out
            of the folder.
    """
    work_dir = Path(work_dir)
    if not work_dir.is_dir():
        raise InputError(f'{work_dir} is no folder; give the work directory of a walk')
    check_links(work_dir)
    metrics = _read_metrics(work_dir / 'metrics.json')
    missing: list[str] = []
    journal = _read_journal(work_dir / 'journal.json', missing)
    steps = sorted(entry['step'] for entry in metrics['steps'])
    planned = _planned_steps(journal, steps)
    absent = [k for k in range(planned) if k not in steps]
    if absent:
        missing.append(
            f'{len(steps)} of {planned} steps are evaluated; not yet: {_list_steps(absent)}.'
        )
    losses = [_read_losses(work_dir / f'step_{k:02d}', k) for k in range(planned)]
    without = [k for k in steps if not losses[k].values and _trained(journal, k)]
    if without:
        missing.append(
            f'No training loss is logged for {_list_steps(without)}: a step shorter than the '
            "logger's interval logs none."
        )
    missing += [
        f'The walk went on with accepted changes of {", ".join(change["changed"])} after '
        f'{_list_steps(change["trained_before"])}.'
        for change in journal.get('accepted_changes') or ()
        if change.get('trained_before')
    ]
    return WalkRecord(
        work_dir, metrics, journal, tuple(loss for loss in losses if loss.values), tuple(missing)
    )


def _read_metrics(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise InputError(
            f'{path} is missing: no step of this walk is evaluated yet, or the folder is no work '
            f'directory; let mmseg-cil train finish a step, or run mmseg-cil test {path.parent}'
        )
    try:
        metrics = json.loads(path.read_text(encoding='utf-8'))
        problem = _problem(metrics)
    except (ValueError, OSError) as error:
        problem = str(error)
    if problem:
        raise InputError(
            f'{path} is damaged ({problem}): write it again with mmseg-cil test {path.parent}, '
            f'which evaluates the finished steps from their checkpoints'
        )
    return {**metrics, 'steps': [entry_with_harmonic(entry) for entry in metrics['steps']]}


def _problem(metrics: Any) -> str:
    """Return the problem of the content; empty where there is none."""
    if not isinstance(metrics, dict):
        return 'not an object'
    for key, kind in (('protocol', str), ('method', str), ('steps', list)):
        if not isinstance(metrics.get(key), kind):
            return f'"{key}" is missing or no {kind.__name__}'
    for position, entry in enumerate(metrics['steps']):
        problem = _entry_problem(entry)
        if problem:
            return f'entry {position} of "steps": {problem}'
    indices = [entry['step'] for entry in metrics['steps']]
    if len(set(indices)) < len(indices):
        return f'a step is there twice: {indices}'
    continual = metrics.get('continual', {})
    if not isinstance(continual, dict) or not all(map(_is_number, continual.values())):
        return '"continual" is no object of numbers'
    palette = metrics.get('palette', {})
    if not isinstance(palette, dict) or not all(map(_is_colour, palette.values())):
        return '"palette" must give a red, green and blue of 0..255 by class name'
    return ''


def _entry_problem(entry: Any) -> str:
    if not isinstance(entry, dict):
        return 'not an object'
    for key, kind in (('step', int), ('seen', list), ('IoU', dict), ('mIoU', dict)):
        if not isinstance(entry.get(key), kind):
            return f'"{key}" is missing or no {kind.__name__}'
    for key in (
        'IoU',
        'mIoU',
        'accuracy',
        'mIoU_with_background',
        'mIoU_without_background',
        'mDice',
        'mFscore',
        'mPrecision',
        'mRecall',
    ):
        scores = entry.get(key, {})
        if not isinstance(scores, dict) or not all(map(_is_fraction, scores.values())):
            return f'"{key}" must hold fractions in 0..1 or null'
    brought = entry.get('introduced', [])
    if not isinstance(brought, list) or not all(isinstance(group, list) for group in brought):
        return '"introduced" must list the names that each step brought'
    groups = entry.get('groups', [])
    if not isinstance(groups, list) or not all(map(_is_fraction, groups)):
        return '"groups" must hold fractions in 0..1 or null'
    return ''


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _is_colour(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 3
        and all(isinstance(v, int) and 0 <= v <= 255 for v in value)
    )


def _is_fraction(value: Any) -> bool:
    return _is_number(value) and (value is None or 0 <= value <= 1)


def _read_journal(path: Path, missing: list[str]) -> dict[str, Any]:
    """Read the journal; it only adds to a report, so a damaged one is told, not refused."""
    try:
        journal = json.loads(path.read_text(encoding='utf-8'))
        problem = form_problem(journal) if isinstance(journal, dict) else 'it is no object'
        if problem is None:
            return dict(journal)
        missing.append(f'journal.json is damaged ({problem}).')
    except FileNotFoundError:
        missing.append('journal.json is missing, so the number of planned steps is unknown.')
    except (ValueError, OSError) as error:
        missing.append(f'journal.json cannot be read ({error}).')
    return {}


def _planned_steps(journal: Mapping[str, Any], steps: Sequence[int]) -> int:
    protocol = journal.get('protocol')
    planned = protocol.get('steps') if isinstance(protocol, Mapping) else None
    return max(len(planned) if isinstance(planned, list) else 0, max(steps, default=-1) + 1)


def _read_losses(step_dir: Path, step: int) -> Losses:
    """Merge the logs of a step; after a resume the later log wins.

    Those of sub-steps, in folders of their own, are not the step's.
    """
    found: dict[int, float] = {}
    for path in sorted(step_dir.glob('*/vis_data/scalars.json')):
        for line in path.read_text(encoding='utf-8', errors='replace').splitlines():
            try:
                record = json.loads(line)
                value, iteration = record['loss'], record.get('iter', record.get('step'))
            except (ValueError, KeyError, TypeError, AttributeError):
                continue  # a validation record, or a line that a kill cut off
            if isinstance(value, int | float) and isinstance(iteration, int):
                found[iteration] = float(value)
    iterations = tuple(sorted(found))
    return Losses(step, iterations, tuple(found[i] for i in iterations))


def _trained(journal: Mapping[str, Any], step: int) -> bool:
    """Return whether a step had iterations, as far as the journal tells."""
    records = journal.get('steps')
    for record in records if isinstance(records, list) else []:
        if isinstance(record, Mapping) and record.get('step') == step:
            return record.get('iterations') != 0
    return True


def _list_steps(steps: Sequence[int]) -> str:
    word = 'step' if len(steps) == 1 else 'steps'
    return f'{word} {", ".join(map(str, steps))}'
