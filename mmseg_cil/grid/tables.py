"""The tables of a grid: methods in rows; old, new and all of every protocol in columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mmseg_cil.grid.plan import SEPARATOR
from mmseg_cil.grid.rows import CellState, Row
from mmseg_cil.grid.statistics import Difference, Summary, paired_difference, summarise
from mmseg_cil.utils.harmonic import HARMONIC
from mmseg_cil.visualization.style import shorten
from mmseg_cil.visualization.tables import Table

#: The means that curves are drawn of.
SHOWN = ('old', 'new', 'all')
#: The means of a table; hIoU is shown where there are old and new classes.
MEANS = ('old', 'new', HARMONIC, 'all')
UNDEFINED = '–'
#: The most letters of an error in a table; ``cells.csv`` and the page have the whole error.
_LONGEST = 120


@dataclass(frozen=True)
class Entry:
    """A table's entry for a method on a protocol after one step.

    Attributes:
        name: Method, with its setting.
        parts: Summaries by the names in :data:`MEANS`.
        difference: Difference of 'all' to the baseline; None where there is none.
        seeds: Number of cells that have the step.
        cells: Number of cells of the grid.
        failures: Errors of the failed cells, by seed.
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
class Scores:
    """The scores of all methods after one step of a protocol.

    Attributes:
        protocol: Name of the protocol.
        step: The step.
        last: Whether the step is the last of the protocol.
        baseline: Row that differences are taken to; empty: none.
        entries: The entries by name.
    """

    protocol: str
    step: int
    last: bool
    baseline: str
    entries: dict[str, Entry]


def scores_of(rows: Sequence[Row], cells: Sequence[CellState], baseline: str = '') -> list[Scores]:
    """Summarise the scores of a grid over the seeds, for every protocol and step.

    Args:
        rows: Rows of all cells.
        cells: States of the cells; cells without rows have entries, too.
        baseline: A method or a row, whose scores are subtracted.
    """
    result = []
    for protocol in _in_order([*(c.protocol for c in cells), *(r.protocol for r in rows)]):
        own = [row for row in rows if row.protocol == protocol]
        states = [cell for cell in cells if cell.protocol == protocol]
        planned = max((cell.steps or 1 for cell in states), default=1)
        last = max([planned - 1, *(row.step for row in own)])
        names = _in_order([*(cell.name for cell in states), *(row.name for row in own)])
        for step in range(last + 1):
            at_step = [row for row in own if row.step == step]
            entries = {name: _entry(name, names, at_step, states, baseline) for name in names}
            result.append(Scores(protocol, step, step == last, baseline, entries))
    return result


def _entry(
    name: str,
    names: Sequence[str],
    rows: Sequence[Row],
    cells: Sequence[CellState],
    baseline: str,
) -> Entry:
    own = [row for row in rows if row.name == name]
    states = [cell for cell in cells if cell.name == name]
    to = _baseline_of(name, names, baseline)
    difference = None
    if to and to != name:
        theirs = [row for row in rows if row.name == to]
        difference = paired_difference(_by_seed(own), _by_seed(theirs))
    return Entry(
        name,
        {part: summarise(list(_by_seed(own, part).values())) for part in MEANS},
        difference,
        len(own),
        max(len(states), len(own)),
        {state.seed: state.error for state in states if state.status == 'failed'},
        tuple(state.seed for state in states if state.status == 'unfinished'),
    )


def _by_seed(rows: Sequence[Row], part: str = 'all') -> dict[int, float]:
    found = {row.seed: row.score(part) for row in rows}
    return {seed: value for seed, value in found.items() if value is not None}


def _baseline_of(name: str, names: Sequence[str], baseline: str) -> str:
    """Return the row to compare with: the baseline, with the same setting if there is one."""
    _, separator, setting = name.partition(SEPARATOR)
    same = f'{baseline}{SEPARATOR}{setting}' if separator else baseline
    return next(
        (candidate for candidate in (same, baseline) if baseline and candidate in names), ''
    )


def _in_order(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def number(found: Summary) -> str:
    """Return mean and deviation as text; a dash where there is none."""
    if found.mean is None:
        return UNDEFINED
    return f'{found.mean:.1f}' + ('' if found.deviation is None else f' ± {found.deviation:.1f}')


def signed(found: Difference | None) -> str:
    """Return a difference with its interval as text; a dash where there is none."""
    if found is None:
        return UNDEFINED
    if found.half_width is None:
        return f'{found.mean:+.1f}'
    low, high = found.mean - found.half_width, found.mean + found.half_width
    return f'{found.mean:+.1f} [{low:+.1f}, {high:+.1f}]'


def main_table(scores: Sequence[Scores]) -> Table:
    """Return the scores after the last steps: a row per method, with columns of every protocol."""
    last = [score for score in scores if score.last]
    return score_table(last, 'after the last step')


def step_tables(scores: Sequence[Scores]) -> list[Table]:
    """Return the scores after each step, one table each."""
    return [
        score_table([score], f'of {score.protocol} after step {score.step}') for score in scores
    ]


def score_table(scores: Sequence[Scores], what: str) -> Table:
    """Put scores side by side, with remarks where cells have failed or are unfinished.

    Args:
        scores: Scores, each of which is a group of columns.
        what: Subject of the scores, for the caption.
    """
    names = _in_order(name for score in scores for name in score.entries)
    header = ['method']
    columns = [[name for name in names]]
    for score in scores:
        prefix = f'{score.protocol} ' if len(scores) > 1 else ''
        entries = [score.entries.get(name) for name in names]
        for part in _shown(entries):
            header.append(f'{prefix}{part}')
            columns.append([_score(entry, part) for entry in entries])
        header.append(f'{prefix}seeds')
        columns.append([_seeds(entry) for entry in entries])
        if score.baseline:
            header.append(f'{prefix}all − {score.baseline}')
            columns.append([signed(entry.difference if entry else None) for entry in entries])
    remarks = [
        '; '.join(filter(None, (_remark(score, name) for score in scores))) for name in names
    ]
    if any(remarks):
        header.append('remarks')
        columns.append(remarks)
    caption = f'mIoU (%) {what}: mean ± standard deviation over the seeds'
    if any(score.baseline for score in scores):
        caption += f'; difference to {scores[0].baseline} paired by seed, with its 95 % interval'
    words = frozenset({len(header) - 1}) if any(remarks) else frozenset()
    return Table(caption, header, list(zip(*columns, strict=True)), words)


def _shown(entries: Sequence[Entry | None]) -> list[str]:
    """Return the means to show: hIoU only where an entry has it."""
    harmonic = any(entry and entry.parts[HARMONIC].mean is not None for entry in entries)
    return [part for part in MEANS if part != HARMONIC or harmonic]


def _score(entry: Entry | None, part: str) -> str:
    if entry is None:
        return UNDEFINED
    if not entry.seeds and entry.failures:
        return 'failed'
    return number(entry.parts[part])


def _seeds(entry: Entry | None) -> str:
    if entry is None:
        return UNDEFINED
    return str(entry.seeds) if entry.seeds == entry.cells else f'{entry.seeds} of {entry.cells}'


def _remark(scores: Scores, name: str) -> str:
    """Return the remark on cells that are not done; empty where all are done."""
    entry = scores.entries.get(name)
    if entry is None:
        return ''
    told = [
        f'seed {seed} failed: {shorten(error, _LONGEST)}' for seed, error in entry.failures.items()
    ]
    if entry.unfinished:
        told.append(f'unfinished: seed {", ".join(map(str, entry.unfinished))}')
    return f'{scores.protocol}: {"; ".join(told)}' if told else ''
