"""Walking a grid: its finished cells, the cells that are left, and the tables."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

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
from mmseg_cil.grid.record import Record
from mmseg_cil.grid.results import write_tables
from mmseg_cil.grid.schedule import Outcome, run_jobs
from mmseg_cil.utils.atomic import write_text
from mmseg_cil.utils.quiet import quieten_warnings

#: The prefix of the names of base walks' jobs.
_BASE = 'step_0/'


def walk_grid(asked: Asked, executor: Executor) -> int:
    """Walk the cells of a grid that are left, and write its tables.

    Args:
        asked: The grid.
        executor: Executor of the walks.

    Returns:
        0, or 1 where a cell has failed.

    Raises:
        InputError: Something is wrong; nothing was run.
        KeyboardInterrupt: This process was told to end, and the walks have ended.
    """
    quieten_warnings()
    configs = {
        cell: cell_config(cell, asked.config, asked.parts, asked.options)
        for cell in asked.plan.cells
    }
    with work_dir_lock(asked.work_dir):
        places = Places(asked.work_dir)
        check_same_configs(places, configs)
        _check_baseline(asked, Record.read(places))
        left = [cell for cell in asked.plan.cells if not is_finished(places.work_dir(cell))]
        checked = check_cells(left, configs, places, asked.allow_refused)
        bases = find_bases(left, checked, places, asked.share)
        record = Record.open(places, asked)
        record.failures |= {cell.place: error for cell, error in checked.refused.items()}
        left = [cell for cell in left if cell not in checked.refused]
        for cell in left:
            write_text(places.config(cell), config_text(configs[cell]))
        for base in bases.values():
            if not places.base_config(base.owner).is_file():
                write_text(places.base_config(base.owner), config_text(configs[base.owner]))
        jobs = _jobs(left, bases, places)
        _tell(asked, jobs, len(checked.refused))
        record.save()
        _run(jobs, executor, record)
        record.save()
        print(f'{record.results(asked.every_step)}\n\ngrid: {asked.work_dir}', flush=True)
        return 1 if any(cell.place in record.failures for cell in asked.plan.cells) else 0


def make_tables(folder: Path, baseline: str | None, every_step: bool) -> str:
    """Make the tables of a grid again, or those of a folder that holds a grid's rows alone.

    Args:
        folder: The folder.
        baseline: Row that differences are taken to; None: the grid's own.
        every_step: Whether to make a table for each step.

    Returns:
        The tables as text.

    Raises:
        InputError: There are no rows, or no row of the baseline.
    """
    own = ''
    if (folder / GRID).is_file():
        record = Record.read(Places(folder))
        own = record.known_baseline
        if any(record.places.is_there(place) for place in record.cells):
            record.save()
    return write_tables(folder, own if baseline is None else baseline, every_step)


def _check_baseline(asked: Asked, record: Record) -> None:
    baseline, plan = asked.plan.baseline, asked.plan
    names = [*plan.rows, *(cell.method.name for cell in plan.cells), *record.names, *asked.listed]
    if baseline and baseline not in names:
        raise InputError(
            f'--baseline {baseline}: the grid has no such row; it has '
            f'{", ".join(dict.fromkeys(names))}'
        )


def _jobs(left: Sequence[Cell], bases: Mapping[Cell, Base], places: Places) -> list[Job]:
    jobs: dict[str, Job] = {}
    for cell in left:
        base, name, arguments = bases.get(cell), '', []
        if base is not None and not has_begun(places.work_dir(cell)):
            folder = places.base_dir(base.owner)
            arguments = ['--start-from', str(folder)]
            if not is_finished(folder, last=0):
                name = f'{_BASE}{base.owner.place}'
                begin = (str(places.base_config(base.owner)), str(folder), '--steps', '0')
                jobs.setdefault(name, Job(name, begin, places.base_log(base.owner)))
        first = (str(places.config(cell)), str(places.work_dir(cell)))
        jobs[cell.place] = Job(cell.place, (*first, *arguments), places.log(cell), name)
    return list(jobs.values())


def _tell(asked: Asked, jobs: Sequence[Job], refused: int) -> None:
    bases = sum(job.name.startswith(_BASE) for job in jobs)
    cells, left = len(asked.plan.cells), len(jobs) - bases
    print(
        f'grid {asked.work_dir}: {cells} cells, {cells - left - refused} done already, {left} to '
        f'walk, {bases} base steps to train for them' + (f', {refused} refused' if refused else ''),
        flush=True,
    )


def _run(jobs: Sequence[Job], executor: Executor, record: Record) -> None:
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
        if not job.name.startswith(_BASE):
            if outcome.status:
                record.failures[job.name] = outcome.error
            record.save()

    run_jobs(jobs, executor, end, begin)
