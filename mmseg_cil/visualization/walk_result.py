"""The result of a walk as an object: scores by step and class, checkpoints, and the report."""

from __future__ import annotations

import html
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mmseg_cil.visualization.walk_record import read_walk


@dataclass(frozen=True)
class StepResult:
    """The scores after a step.

    Attributes:
        step: Its index.
        iou: IoU by class name, of all classes that were seen so far; 0 to 1, None where undefined.
        miou: Means of them by part: ``'all'``, ``'old'``, ``'new'``, ``'base'``, ``'later'``; None
            where the part is empty.
        new: The classes, or domains, that the step brought.
        checkpoint: Its weights; None where the file is not there.
        data_sets: The means on the test images of each data set, by its name; empty where all are
            of one.
    """

    step: int
    iou: Mapping[str, float | None]
    miou: Mapping[str, float | None]
    new: tuple[str, ...]
    checkpoint: Path | None
    data_sets: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)


@dataclass(frozen=True)
class WalkResult:
    """A walk as its work directory tells it; a notebook shows it as a table.

    Attributes:
        work_dir: The folder.
        method: Name of the method.
        protocol: Name of the protocol, with its setting.
        planned: Number of steps of the protocol.
        steps: Those that are evaluated, by rising index.
        report: The page of the report; None where it is not rendered.
        notes: Sentences on what is not there yet.
    """

    work_dir: Path
    method: str
    protocol: str
    planned: int
    steps: tuple[StepResult, ...]
    report: Path | None
    notes: tuple[str, ...] = ()

    @classmethod
    def read(cls, work_dir: str | os.PathLike[str]) -> WalkResult:
        """Read a work directory.

        Raises:
            InputError: ``metrics.json`` is missing or damaged.
        """
        record = read_walk(work_dir)
        page = record.work_dir / 'report' / 'index.html'
        introduced = record.introduced
        steps = [
            _step(record.work_dir, entry, introduced[entry['step']] if introduced else [])
            for entry in record.entries
        ]
        return cls(
            record.work_dir,
            record.method,
            record.protocol,
            record.planned,
            tuple(steps),
            page if page.is_file() else None,
            record.missing,
        )

    @property
    def finished(self) -> bool:
        """Whether all steps of the protocol are evaluated."""
        return len(self.steps) == self.planned

    @property
    def checkpoints(self) -> tuple[Path, ...]:
        """The weights of the steps, as far as they are there."""
        return tuple(step.checkpoint for step in self.steps if step.checkpoint is not None)

    def table(self) -> list[dict[str, Any]]:
        """Return a row for each step and class: ``step``, ``class``, ``new``, ``IoU`` (0 to 1)."""
        return [
            {'step': step.step, 'class': name, 'new': name in step.new, 'IoU': value}
            for step in self.steps
            for name, value in step.iou.items()
        ]

    def with_entries(self, entries: Iterable[Mapping[str, Any]]) -> WalkResult:
        """Return the result with the scores of other entries, and only their steps.

        Args:
            entries: Entries in the form of those in ``metrics.json``.
        """
        new = {step.step: step.new for step in self.steps}
        steps = [_step(self.work_dir, entry, new.get(entry['step'], ())) for entry in entries]
        return replace(self, steps=tuple(steps))

    def __str__(self) -> str:
        header, *rows = self._cells()
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        lines = [
            '  '.join(
                [
                    *(cell.rjust(width) for cell, width in zip(row[:-1], widths, strict=False)),
                    row[-1],
                ]
            )
            for row in (header, *rows)
        ]
        return '\n'.join([f'{self.method}, {self.protocol}: mIoU (%)', *lines])

    def _repr_html_(self) -> str:
        """Return the table as a notebook shows it."""
        header, *rows = self._cells()
        lines = [
            '<tr>' + ''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in row) + '</tr>'
            for tag, row in (('th', header), *(('td', row) for row in rows))
        ]
        title = html.escape(f'{self.method}, {self.protocol}: mIoU (%)')
        return f'<table><caption>{title}</caption>{"".join(lines)}</table>'

    def _cells(self) -> list[list[str]]:
        parts = ('all', 'old', 'new')
        rows = [
            [
                str(step.step),
                *(_per_cent(step.miou.get(part)) for part in parts),
                ', '.join(step.new),
            ]
            for step in self.steps
        ]
        return [['step', *parts, 'brought'], *rows]


def _step(work_dir: Path, entry: Mapping[str, Any], new: Iterable[str]) -> StepResult:
    checkpoint = work_dir / f'step_{entry["step"]:02d}' / 'checkpoint.pth'
    return StepResult(
        entry['step'],
        dict(entry['IoU']),
        dict(entry['mIoU']),
        tuple(new),
        checkpoint if checkpoint.is_file() else None,
        {name: dict(part['mIoU']) for name, part in (entry.get('data_sets') or {}).items()},
    )


def _per_cent(value: float | None) -> str:
    return '-' if value is None else f'{100 * value:.2f}'
