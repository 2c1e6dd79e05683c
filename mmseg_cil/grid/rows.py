"""The scores of the cells of a grid, as rows of one file from which all tables are made."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmseg_cil.errors import InputError
from mmseg_cil.grid.plan import SEPARATOR
from mmseg_cil.utils.atomic import write_csv
from mmseg_cil.utils.harmonic import HARMONIC, harmonic_mean

ROWS, CELLS = 'rows.csv', 'cells.csv'
#: Means of a step, in per cent.
PARTS = ('old', 'new', 'all', 'base', 'later', 'background')
HEADER = ('protocol', 'method', 'setting', 'seed', 'step', *PARTS)
CELL_HEADER = ('protocol', 'method', 'setting', 'seed', 'steps', 'status', 'error')


@dataclass(frozen=True)
class Row:
    """The scores of one cell after one step.

    Attributes:
        protocol: Name of the protocol in the grid.
        method: Name of the method in the grid.
        setting: Name of the setting in the grid; empty where there is none.
        seed: Seed of the cell.
        step: The step.
        scores: Per cent by the names in :data:`PARTS`; None where undefined.
    """

    protocol: str
    method: str
    setting: str
    seed: int
    step: int
    scores: Mapping[str, float | None]

    @property
    def name(self) -> str:
        """Name of its row in tables."""
        return row_name(self.method, self.setting)

    def score(self, part: str) -> float | None:
        """Return a score by its name in :data:`PARTS`, or hIoU, in per cent."""
        if part == HARMONIC:
            return harmonic_mean(self.scores.get('old'), self.scores.get('new'))
        return self.scores.get(part)


@dataclass(frozen=True)
class CellState:
    """The state of a cell.

    Attributes:
        protocol: Name of the protocol in the grid.
        method: Name of the method in the grid.
        setting: Name of the setting in the grid; empty where there is none.
        seed: Seed of the cell.
        steps: Number of steps of the protocol; None where it is not known yet.
        status: 'done', 'failed', or 'unfinished'.
        error: Error that the cell has failed with.
    """

    protocol: str
    method: str
    setting: str
    seed: int
    steps: int | None
    status: str
    error: str = ''

    @property
    def name(self) -> str:
        """Name of its row in tables."""
        return row_name(self.method, self.setting)


def row_name(method: str, setting: str) -> str:
    """Return the name of a row of tables."""
    return f'{method}{SEPARATOR}{setting}' if setting else method


def rows_of_walk(
    metrics: Mapping[str, Any], protocol: str, method: str, setting: str, seed: int
) -> list[Row]:
    """Return the rows of a walk.

    Args:
        metrics: Content of the walk's ``metrics.json``.
        protocol: Name of the protocol in the grid.
        method: Name of the method in the grid.
        setting: Name of the setting in the grid.
        seed: Seed of the cell.
    """
    rows = []
    for entry in sorted(metrics['steps'], key=lambda entry: entry['step']):
        background = (entry.get('settings') or {}).get('background')
        scores = {part: entry['mIoU'].get(part) for part in PARTS[:-1]}
        scores['background'] = entry['IoU'].get(background) if background else None
        percent = {key: None if score is None else 100 * score for key, score in scores.items()}
        rows.append(Row(protocol, method, setting, seed, entry['step'], percent))
    return rows


def write_rows(folder: Path, rows: Iterable[Row], cells: Iterable[CellState]) -> None:
    """Write ``rows.csv`` and ``cells.csv``."""
    lines = [
        [row.protocol, row.method, row.setting, row.seed, row.step]
        + [_text(row.score(part)) for part in (*PARTS, HARMONIC)]
        for row in rows
    ]
    write_csv(folder / ROWS, [(*HEADER, HARMONIC), *lines])
    states = [
        [
            cell.protocol,
            cell.method,
            cell.setting,
            cell.seed,
            cell.steps or '',
            cell.status,
            cell.error,
        ]
        for cell in cells
    ]
    write_csv(folder / CELLS, [CELL_HEADER, *states])


def read_rows(folder: Path) -> tuple[list[Row], list[CellState]]:
    """Read the files that :func:`write_rows` has written; ``cells.csv`` may be missing.

    Raises:
        InputError: ``rows.csv`` is missing, or one of the files is damaged.
    """
    rows = read_row_file(folder / ROWS)
    if not (folder / CELLS).is_file():
        return rows, []
    return rows, [
        CellState(
            row['protocol'],
            row['method'],
            row['setting'],
            int(row['seed']),
            int(row['steps']) if row['steps'] else None,
            row['status'],
            row['error'],
        )
        for row in _read(folder / CELLS, CELL_HEADER)
    ]


def read_row_file(path: Path) -> list[Row]:
    """Read one file of the form of ``rows.csv``, whose hIoU follows from old and new.

    Raises:
        InputError: The file is missing or damaged.
    """
    return [
        Row(
            found['protocol'],
            found['method'],
            found['setting'],
            int(found['seed']),
            int(found['step']),
            {part: _number(found[part]) for part in PARTS},
        )
        for found in _read(path, HEADER)
    ]


def read_metrics(work_dir: Path) -> dict[str, Any] | None:
    """Return the metrics of a walk; None where there are none yet, or they are damaged."""
    try:
        content = json.loads((work_dir / 'metrics.json').read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and isinstance(content.get('steps'), list) else None


def _read(path: Path, header: Sequence[str]) -> list[dict[str, str]]:
    try:
        with open(path, newline='', encoding='utf-8') as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except (OSError, ValueError) as error:
        raise InputError(
            f'{path} cannot be read ({error}): give the folder of a grid, or of a {path.name}'
        ) from error
    missing = [name for name in header if name not in (reader.fieldnames or ())]
    if missing:
        raise InputError(f'{path} has no column {", ".join(missing)}; it has {reader.fieldnames}')
    return rows


def _text(value: float | None) -> str:
    return '' if value is None or math.isnan(value) else f'{value:.4f}'


def _number(text: str) -> float | None:
    return float(text) if text else None
