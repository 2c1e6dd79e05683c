"""The record of a grid's cells in the grid's folder, those of this call and of earlier ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mmseg_cil.engine.record.journal import Journal
from mmseg_cil.errors import InputError
from mmseg_cil.grid.asked import Asked
from mmseg_cil.grid.outcome import is_finished
from mmseg_cil.grid.places import GRID, Places
from mmseg_cil.grid.references import JOINT, joint_row
from mmseg_cil.grid.results import write_tables
from mmseg_cil.grid.rows import CellState, Row, read_metrics, row_name, rows_of_walk, write_rows
from mmseg_cil.utils.atomic import write_json


@dataclass
class Record:
    """The content of ``grid.json``.

    Attributes:
        places: Places of the grid.
        cells: Names of protocol, method and setting, and the seed, by place.
        baseline: Row that differences are taken to.
        failures: Last lines of errors by place.
    """

    places: Places
    cells: dict[str, dict[str, Any]]
    baseline: str
    failures: dict[str, str] = field(default_factory=dict)

    @classmethod
    def open(cls, places: Places, asked: Asked) -> Record:
        """Read the record of a grid, and add the cells that are asked for.

        Cells of earlier calls stay while their work directories exist.
        """
        record = cls.read(places)
        planned = {cell.place for cell in asked.plan.cells}
        # Cells stay in the order in which they first came, whenever they are walked.
        known = {
            place: entry
            for place, entry in record.cells.items()
            if place in planned or places.is_there(place)
        }
        for cell in asked.plan.cells:
            known[cell.place] = dict(
                protocol=cell.protocol.name,
                method=cell.method.name,
                setting=cell.setting.name,
                seed=cell.seed,
                reference=cell.method.reference,
            )
            record.failures.pop(cell.place, None)
        record.cells = known
        record.failures = {
            place: error for place, error in record.failures.items() if place in known
        }
        record.baseline = asked.plan.baseline or record.baseline
        return record

    @property
    def names(self) -> list[str]:
        """The names of all rows and methods."""
        rows = [row_name(cell['method'], cell['setting']) for cell in self.cells.values()]
        return list(dict.fromkeys([*rows, *(cell['method'] for cell in self.cells.values())]))

    @classmethod
    def read(cls, places: Places) -> Record:
        """Read the file of a grid; an empty record where there is none.

        Raises:
            InputError: The file is damaged.
        """
        path = places.folder / GRID
        if not path.is_file():
            return cls(places, {}, '')
        try:
            content = json.loads(path.read_text(encoding='utf-8'))
            return cls(
                places, dict(content['cells']), content['baseline'], dict(content['failures'])
            )
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f'{path} is damaged ({type(error).__name__}: {error}): remove it, and give the '
                'command of the grid again; its walks stay'
            ) from error

    @property
    def known_baseline(self) -> str:
        """The baseline if it has cells, else ''; a method of the grid's file may come later."""
        return self.baseline if self.baseline in self.names else ''

    def save(self) -> None:
        """Write the file of the grid, and the rows and tables as they are now."""
        content = {'cells': self.cells, 'baseline': self.baseline, 'failures': self.failures}
        write_json(self.places.folder / GRID, content)
        write_rows(self.places.folder, *self.collected())
        self.results(pictures=False)

    def results(self, every_step: bool = False, pictures: bool = True) -> str:
        """Write the tables, and return them as text."""
        return write_tables(self.places.folder, self.known_baseline, every_step, pictures)

    def collected(self) -> tuple[list[Row], list[CellState]]:
        """Return the rows and the states of all cells."""
        rows: list[Row] = []
        states = []
        planned: dict[str, list[Mapping[str, Any]]] = {}
        for place, cell in self.cells.items():
            steps = self._steps(place)
            if steps and not _is_joint(cell):
                planned.setdefault(cell['protocol'], steps)
        for place, cell in self.cells.items():
            work_dir = self.places.cells / place
            names = (cell['protocol'], cell['method'], cell['setting'], int(cell['seed']))
            metrics = read_metrics(work_dir)
            own = rows_of_walk(metrics, *names) if metrics else []
            steps = planned.get(cell['protocol']) or []
            if _is_joint(cell) and own and metrics and steps:
                own = [joint_row(own[-1], metrics, steps)]
            rows += own
            status = 'done' if is_finished(work_dir) else 'unfinished'
            error = self.failures.get(place, '')
            status = 'failed' if place in self.failures else status
            states.append(CellState(*names, len(steps) or None, status, error))
        return rows, states

    def _steps(self, place: str) -> list[Mapping[str, Any]]:
        try:
            journal = Journal.load(self.places.cells / place, writable=False)
        except InputError:
            return []
        return list(journal.content['protocol']['steps']) if journal else []


def _is_joint(cell: Mapping[str, Any]) -> bool:
    return bool(cell.get('reference')) and cell['method'] == JOINT
