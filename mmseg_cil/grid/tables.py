"""The tables of a grid: one for each protocol, a row for each method."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mmseg_cil.grid.plan import SEPARATOR
from mmseg_cil.grid.rows import CellState, Row
from mmseg_cil.grid.statistics import Difference, Summary, paired_difference, summarise

#: Means that a table has.
SHOWN = ('old', 'new', 'all')


@dataclass(frozen=True)
class Line:
    """A row of a table.

    Attributes:
        name: Method, with its setting.
        parts: Summaries by the names in :data:`SHOWN`.
        difference: Of 'all' to the baseline; None where there is none.
        seeds: Cells that have the step.
        cells: Cells of the grid.
        failures: What its failed cells have failed with, by seed.
        unfinished: Seeds whose cells are still to be walked.
    """

    name: str
    parts: dict[str, Summary]
    difference: Difference | None
    seeds: int
    cells: int
    failures: dict[int, str]
    unfinished: tuple[int, ...]


@dataclass(frozen=True)
class GridTable:
    """The scores of all rows after one step of a protocol.

    Attributes:
        protocol: Its name.
        step: The step.
        last: Whether it is the last of the protocol.
        baseline: Row that differences are to; empty: none.
        lines: The rows.
    """

    protocol: str
    step: int
    last: bool
    baseline: str
    lines: tuple[Line, ...]


def grid_tables(
    rows: Sequence[Row], cells: Sequence[CellState], baseline: str = '', every_step: bool = False
) -> list[GridTable]:
    """Put the scores of a grid into tables.

    Args:
        rows: Of all cells.
        cells: How they stand; those that have no rows are shown, too.
        baseline: A method or a row, whose scores are subtracted.
        every_step: A table for each step rather than for the last alone.
    """
    tables = []
    for protocol in _in_order([*(c.protocol for c in cells), *(r.protocol for r in rows)]):
        own = [row for row in rows if row.protocol == protocol]
        states = [cell for cell in cells if cell.protocol == protocol]
        planned = max((cell.steps or 0 for cell in states), default=0)
        last = max([planned - 1, *(row.step for row in own)])
        for step in range(last + 1) if every_step else [last]:
            lines = _lines(own, states, max(step, 0), baseline)
            tables.append(GridTable(protocol, step, step == last, baseline, lines))
    return tables


def _lines(
    rows: Sequence[Row], cells: Sequence[CellState], step: int, baseline: str
) -> tuple[Line, ...]:
    names = _in_order([*(cell.name for cell in cells), *(row.name for row in rows)])
    return tuple(_line(name, names, rows, cells, step, baseline) for name in names)


def _line(
    name: str,
    names: Sequence[str],
    rows: Sequence[Row],
    cells: Sequence[CellState],
    step: int,
    baseline: str,
) -> Line:
    own = [row for row in rows if row.name == name and row.step == step]
    states = [cell for cell in cells if cell.name == name]
    seeds = {row.seed for row in own}
    to = _baseline_of(name, names, baseline)
    difference = None
    if to and to != name:
        theirs = [row for row in rows if row.name == to and row.step == step]
        difference = paired_difference(_by_seed(own), _by_seed(theirs))
    return Line(
        name,
        {part: summarise(list(_by_seed(own, part).values())) for part in SHOWN},
        difference,
        len(seeds),
        max(len(states), len(seeds)),
        {one.seed: one.error for one in states if one.status == 'failed'},
        tuple(one.seed for one in states if one.status == 'unfinished'),
    )


def _by_seed(rows: Sequence[Row], part: str = 'all') -> dict[int, float]:
    found = {row.seed: row.scores.get(part) for row in rows}
    return {seed: value for seed, value in found.items() if value is not None}


def _baseline_of(name: str, names: Sequence[str], baseline: str) -> str:
    """The row to compare with: the baseline with the same setting, where there is one."""
    _, separator, setting = name.partition(SEPARATOR)
    same = f'{baseline}{SEPARATOR}{setting}' if separator else baseline
    return next((one for one in (same, baseline) if baseline and one in names), '')


def _in_order(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def number(found: Summary) -> str:
    """Return mean and deviation as text; a dash where there is none."""
    if found.mean is None:
        return '–'
    return f'{found.mean:.1f}' + ('' if found.deviation is None else f' ± {found.deviation:.1f}')


def signed(found: Difference | None) -> str:
    """Return a difference with its interval as text; a dash where there is none."""
    if found is None:
        return '–'
    if found.half_width is None:
        return f'{found.mean:+.1f}'
    low, high = found.mean - found.half_width, found.mean + found.half_width
    return f'{found.mean:+.1f} [{low:+.1f}, {high:+.1f}]'


def remark(line: Line) -> str:
    """Return what is to be said of cells that are not done; empty where all are."""
    told = [f'seed {seed} failed: {error}' for seed, error in line.failures.items()]
    if line.unfinished:
        told.append(f'unfinished: seed {", ".join(map(str, line.unfinished))}')
    return '; '.join(told)


def caption(table: GridTable) -> str:
    """Return what a table shows."""
    text = f'{table.protocol}: mIoU (%) after step {table.step}'
    text += ', the last' if table.last else ''
    text += '; mean ± standard deviation over the seeds'
    if table.baseline:
        text += f'; difference in all to {table.baseline}, paired by seed, with its 95 % interval'
    return text


def header(table: GridTable) -> list[str]:
    """Return the heads of a table's columns."""
    heads = ['method', *SHOWN, 'seeds']
    heads += [f'all − {table.baseline}'] if table.baseline else []
    return [*heads, 'remarks'] if any(map(remark, table.lines)) else heads


def cells_of(table: GridTable) -> list[list[str]]:
    """Return the cells of a table as text, a list for each line."""
    remarks = any(map(remark, table.lines))
    result = []
    for line in table.lines:
        cells = [line.name, *(number(line.parts[part]) for part in SHOWN)]
        cells.append(
            str(line.seeds) if line.seeds == line.cells else f'{line.seeds} of {line.cells}'
        )
        cells += [signed(line.difference)] if table.baseline else []
        if not line.seeds and line.failures:
            cells[1:4] = ['failed'] * 3
        result.append([*cells, remark(line)] if remarks else cells)
    return result


def markdown(tables: Sequence[GridTable]) -> str:
    """Return tables in Markdown."""
    parts = []
    for table in tables:
        heads = header(table)
        lines = [f'**{caption(table)}**', '', _line_of(heads)]
        lines.append('|' + '|'.join(['---', *['---:'] * (len(heads) - 1)]) + '|')
        lines += [_line_of(cells) for cells in cells_of(table)]
        parts.append('\n'.join(lines) + '\n')
    return '\n'.join(parts)


def _line_of(cells: Sequence[str]) -> str:
    return '| ' + ' | '.join(cell.replace('|', '\\|') for cell in cells) + ' |'
