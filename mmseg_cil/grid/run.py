"""Walking a grid: what is there already, what is left, and what it comes to."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmseg_cil.engine.record.lock import work_dir_lock
from mmseg_cil.errors import InputError
from mmseg_cil.grid.asked import Asked
from mmseg_cil.grid.bases import Base, find_bases
from mmseg_cil.grid.checks import check_cells, check_same_configs
from mmseg_cil.grid.composition import cell_config, config_text
from mmseg_cil.grid.executors import Executor, Job
from mmseg_cil.grid.outcome import has_begun, is_finished
from mmseg_cil.grid.places import GRID, Places
from mmseg_cil.grid.plan import Cell
from mmseg_cil.grid.rows import CellState, Row, read_metrics, read_rows, rows_of_walk, write_rows
from mmseg_cil.grid.schedule import Outcome, run_jobs
from mmseg_cil.grid.tables import grid_tables, markdown
from mmseg_cil.utils.atomic import write_json, write_text
from mmseg_cil.utils.quiet import quieten_warnings

TABLE = 'table.md'


def walk_grid(asked: Asked, executor: Executor) -> int:
    """Walk what is left of a grid, and write its tables.

    Args:
        asked: The grid.
        executor: Runs the walks.

    Returns:
        0, or 1 where a cell has failed.

    Raises:
        InputError: Something is wrong; nothing was run.
    """
    quieten_warnings()
    configs = {
        cell: cell_config(cell, asked.config, asked.parts, asked.options)
        for cell in asked.plan.cells
    }
    with work_dir_lock(asked.work_dir):
        places = Places(asked.work_dir)
        check_same_configs(places, configs)
        left = [cell for cell in asked.plan.cells if not is_finished(places.work_dir(cell))]
        checked = check_cells(left, configs, places, asked.allow_refused)
        bases = find_bases(left, checked, places, asked.share)
        record = _Record.open(places, asked)
        for cell, error in checked.refused.items():
            record.failures[cell.place] = error
        for cell in left:
            if cell not in checked.refused:
                write_text(places.config(cell), config_text(configs[cell]))
        for base in bases.values():
            if not places.base_config(base.owner).is_file():
                write_text(places.base_config(base.owner), config_text(configs[base.owner]))
        jobs = _jobs(left, checked.refused, bases, places)
        _tell(asked, left, jobs)
        record.save()
        _run(jobs, executor, record)
        print(record.results(asked.every_step), flush=True)
        return 1 if any(cell.place in record.failures for cell in asked.plan.cells) else 0


def _jobs(
    left: Sequence[Cell],
    refused: Mapping[Cell, str],
    bases: Mapping[Cell, Base],
    places: Places,
) -> list[Job]:
    jobs: dict[str, Job] = {}
    for cell in left:
        if cell in refused:
            continue
        base, name, arguments = bases.get(cell), '', []
        if base is not None and not has_begun(places.work_dir(cell)):
            folder = places.base_dir(base.owner)
            arguments = ['--start-from', str(folder)]
            if not is_finished(folder, last=0):
                name = f'step_0/{base.owner.place}'
                jobs.setdefault(
                    name,
                    Job(
                        name,
                        (str(places.base_config(base.owner)), str(folder), '--steps', '0'),
                        places.base_log(base.owner),
                    ),
                )
        first = (str(places.config(cell)), str(places.work_dir(cell)))
        jobs[cell.place] = Job(cell.place, (*first, *arguments), places.log(cell), name)
    return list(jobs.values())


def _tell(asked: Asked, left: Sequence[Cell], jobs: Sequence[Job]) -> None:
    done = len(asked.plan.cells) - len(left)
    bases = sum(job.name.startswith('step_0/') for job in jobs)
    print(
        f'grid {asked.work_dir}: {len(asked.plan.cells)} cells, {done} done already, '
        f'{len(jobs) - bases} to walk, {bases} base steps to train for them',
        flush=True,
    )


def _run(jobs: Sequence[Job], executor: Executor, record: _Record) -> None:
    begun: dict[str, float] = {}
    ended = 0

    def begin(job: Job) -> None:
        begun[job.name] = time.monotonic()
        print(f'begins: {job.name}', flush=True)

    def end(job: Job, outcome: Outcome) -> None:
        nonlocal ended
        ended += 1
        took = time.monotonic() - begun.get(job.name, time.monotonic())
        how = f'FAILED ({outcome.error})' if outcome.status else 'done'
        print(f'[{ended}/{len(jobs)}] {job.name}: {how}, {took:.0f} s', flush=True)
        if not job.name.startswith('step_0/'):
            record.failures.pop(job.name, None)
            if outcome.status:
                record.failures[job.name] = outcome.error
            record.save()

    run_jobs(jobs, executor, end, begin)


@dataclass
class _Record:
    """What a grid's folder says of its cells: those of this call and of earlier ones.

    Attributes:
        places: Of the grid.
        cells: Names of protocol, method, setting and the seed, by place.
        baseline: Row that differences are to.
        failures: Last lines of errors by place.
    """

    places: Places
    cells: dict[str, dict[str, Any]]
    baseline: str
    failures: dict[str, str] = field(default_factory=dict)

    @classmethod
    def open(cls, places: Places, asked: Asked) -> _Record:
        """Take what is recorded, and add the cells that are asked for."""
        record = cls.read(places)
        known = {place: one for place, one in record.cells.items() if places.is_there(place)}
        for cell in asked.plan.cells:
            known[cell.place] = dict(
                protocol=cell.protocol.name,
                method=cell.method.name,
                setting=cell.setting.name,
                seed=cell.seed,
            )
        record.cells = known
        record.failures = {
            place: error for place, error in record.failures.items() if place in known
        }
        record.baseline = asked.plan.baseline or record.baseline
        return record

    @classmethod
    def read(cls, places: Places) -> _Record:
        """Read the file of a grid; an empty record where there is none.

        Raises:
            InputError: It is damaged.
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

    def save(self) -> None:
        """Write the file of the grid, and the rows and tables as they are now."""
        content = {'cells': self.cells, 'baseline': self.baseline, 'failures': self.failures}
        write_json(self.places.folder / GRID, content)
        rows, states = self.collected()
        write_rows(self.places.folder, rows, states)
        self.results()

    def collected(self) -> tuple[list[Row], list[CellState]]:
        """Return the rows of all cells, and how these stand."""
        rows, states = [], []
        for place, one in self.cells.items():
            work_dir = self.places.cells / place
            names = (one['protocol'], one['method'], one['setting'], int(one['seed']))
            metrics = read_metrics(work_dir)
            rows += rows_of_walk(metrics, *names) if metrics else []
            steps = self.places.steps_of(work_dir)
            if place in self.failures:
                states.append(CellState(*names, steps, 'failed', self.failures[place]))
            else:
                status = 'done' if is_finished(work_dir) else 'unfinished'
                states.append(CellState(*names, steps, status))
        return rows, states

    def results(self, every_step: bool = False) -> str:
        """Write the tables, and return them as text."""
        return write_results(self.places.folder, self.baseline, every_step)


def write_results(folder: Path, baseline: str | None = None, every_step: bool = False) -> str:
    """Make the tables of a grid from its rows.

    Args:
        folder: Of the grid, or with a ``rows.csv``.
        baseline: Row that differences are to; None: the grid's own.
        every_step: A table for each step.

    Returns:
        The tables in Markdown.

    Raises:
        InputError: There are no rows, or no row of the baseline.
    """
    rows, states = read_rows(folder)
    if baseline is None:
        baseline = _Record.read(Places(folder)).baseline
    cells: list[Row | CellState] = [*rows, *states]
    names = {one.name for one in cells} | {one.method for one in cells}
    if baseline and baseline not in names:
        raise InputError(
            f'--baseline {baseline}: {folder} has no such row; it has {", ".join(sorted(names))}'
        )
    text = markdown(grid_tables(rows, states, baseline, every_step))
    write_text(folder / TABLE, text)
    return text
