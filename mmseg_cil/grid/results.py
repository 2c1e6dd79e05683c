"""The results of a grid: its rows, and the tables, curves and page made from the rows alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmseg_cil.errors import InputError
from mmseg_cil.grid.curves import curve_figure
from mmseg_cil.grid.formats import csv_rows
from mmseg_cil.grid.rows import ROWS, CellState, Row, read_rows
from mmseg_cil.grid.tables import Scores, main_table, scores_of, step_tables
from mmseg_cil.utils.atomic import write_csv, write_text
from mmseg_cil.visualization.page import Picture, Section, html_page
from mmseg_cil.visualization.style import save_figure, styled
from mmseg_cil.visualization.table_formats import latex, markdown

TABLE, PAGE = 'table', 'index.html'
_FOOTER = (
    'mIoU in per cent. old: what earlier steps brought; new: what the last step brought; '
    'hIoU: the harmonic mean of both, taken for each seed. ± is the standard deviation over the '
    'seeds, n - 1 in its denominator; the interval of a difference is '
    "that of Student's t over the seeds that both have. joint: trained once on all classes or "
    'domains, as long as step 0. nothing_learnt: the network of step 0, which never predicts what '
    'comes later.'
)


def write_tables(
    folder: Path, baseline: str = '', every_step: bool = False, pictures: bool = True
) -> str:
    """Make the tables of a grid from ``rows.csv`` and ``cells.csv``.

    Writes ``table.md``, ``table.tex`` and ``table.csv``, and with pictures ``index.html``,
    which holds all of it, and ``curves_PROTOCOL.svg`` and ``.pdf``.

    Args:
        folder: Folder of the rows.
        baseline: Row that differences are taken to; empty: none.
        every_step: Whether ``table.md`` and ``table.tex`` have a table for each step, too.
        pictures: Whether curves are drawn and the page is written.

    Returns:
        The tables as text for a terminal.

    Raises:
        InputError: There are no rows, or no row of the baseline.
    """
    rows, states = read_rows(folder)
    check_baseline(rows, states, baseline, folder)
    scores = scores_of(rows, states, baseline)
    tables = [main_table(scores), *(step_tables(scores) if every_step else [])]
    write_text(folder / f'{TABLE}.md', '\n'.join(map(markdown, tables)))
    write_text(folder / f'{TABLE}.tex', '\n'.join(map(latex, tables)))
    write_csv(folder / f'{TABLE}.csv', csv_rows(scores))
    if pictures:
        _write_page(folder, scores)
    return '\n\n'.join(table.to_text() for table in tables)


def check_baseline(
    rows: Sequence[Row], states: Sequence[CellState], baseline: str, folder: Path
) -> None:
    """Refuse a baseline that is no row and no method.

    Raises:
        InputError: The baseline is neither.
    """
    cells: list[Row | CellState] = [*rows, *states]
    names = sorted({cell.name for cell in cells} | {cell.method for cell in cells})
    if baseline and baseline not in names:
        raise InputError(
            f'--baseline {baseline}: {folder / ROWS} has no such row; it has {", ".join(names)}'
        )


def _write_page(folder: Path, scores: Sequence[Scores]) -> None:
    sections = [Section('Results', [main_table(scores)])]
    for protocol in dict.fromkeys(score.protocol for score in scores):
        own = [score for score in scores if score.protocol == protocol]
        path = folder / f'curves_{protocol}.svg'
        with styled():
            save_figure(curve_figure(own), path)
        caption = (
            'mIoU of all, old and new over the steps: means over the seeds, bands of one standard '
            'deviation.'
        )
        picture = Picture(path, caption, f'{caption} The tables below hold the numbers.')
        sections.append(Section(protocol, [picture, *step_tables(own)]))
    names = {name for score in scores for name in score.entries}
    lead = f'{len(names)} methods, {len(sections) - 1} protocols, from {folder.resolve().name}'
    notes = [
        f'{score.protocol}, {entry.name}, seed {seed} failed: {error}'
        for score in scores
        if score.last
        for entry in score.entries.values()
        for seed, error in entry.failures.items()
    ]
    page = html_page('Grid of walks', lead, sections, notes, _FOOTER)
    write_text(folder / PAGE, page)
