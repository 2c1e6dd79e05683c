"""The tables of a grid as Markdown, LaTeX and CSV."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmseg_cil.grid.tables import SHOWN, Scores, Table

_LATEX = {
    '\\': r'\textbackslash{}', '_': r'\_', '%': r'\%', '&': r'\&', '#': r'\#', '$': r'\$',
    '{': r'\{', '}': r'\}', '~': r'\textasciitilde{}', '^': r'\textasciicircum{}',
    '±': r'$\pm$', '−': '$-$', '–': '--', '@': '@',
}  # fmt: skip


def markdown(table: Table) -> str:
    """Return a table in Markdown, its caption above it."""
    left = table.text_columns | {0}
    rule = '|'.join('---' if j in left else '---:' for j in range(len(table.header)))
    lines = [f'**{table.caption}**', '', _line(table.header), f'|{rule}|']
    return '\n'.join([*lines, *map(_line, table.rows)]) + '\n'


def _line(cells: Sequence[str]) -> str:
    return '| ' + ' | '.join(cell.replace('|', '\\|') for cell in cells) + ' |'


def latex(table: Table) -> str:
    """Return a table in LaTeX; it needs the package booktabs."""
    left = table.text_columns | {0}
    columns = ''.join('l' if j in left else 'r' for j in range(len(table.header)))
    lines = [
        r'\begin{table}',
        r'\centering',
        rf'\caption{{{escaped(table.caption)}}}',
        rf'\begin{{tabular}}{{{columns}}}',
        r'\toprule',
        _latex_line(table.header),
        r'\midrule',
        *map(_latex_line, table.rows),
        r'\bottomrule',
        r'\end{tabular}',
        r'\end{table}',
    ]
    return '% \\usepackage{booktabs}\n' + '\n'.join(lines) + '\n'


def _latex_line(cells: Sequence[str]) -> str:
    return ' & '.join(map(escaped, cells)) + r' \\'


def escaped(text: str) -> str:
    """Return a text as LaTeX prints it."""
    return ''.join(_LATEX.get(letter, letter) for letter in text)


def csv_rows(scores: Sequence[Scores]) -> list[list[Any]]:
    """Return the summaries as rows of numbers: one for each protocol, step and method."""
    header = ['protocol', 'step', 'last', 'method', 'seeds', 'cells', 'failed']
    header += [f'{part}_{kind}' for part in SHOWN for kind in ('mean', 'std')]
    header += ['baseline', 'difference', 'difference_low', 'difference_high', 'pairs']
    rows: list[list[Any]] = [header]
    for score in scores:
        for entry in score.entries.values():
            row: list[Any] = [score.protocol, score.step, int(score.last), entry.name]
            row += [entry.seeds, entry.cells, len(entry.failures)]
            for part in SHOWN:
                row += [_rounded(entry.parts[part].mean), _rounded(entry.parts[part].deviation)]
            found = entry.difference
            if found is None:
                row += [score.baseline, '', '', '', '']
            else:
                half = found.half_width
                ends = (None, None) if half is None else (found.mean - half, found.mean + half)
                row += [score.baseline, *map(_rounded, (found.mean, *ends)), found.count]
            rows.append(row)
    return rows


def _rounded(value: float | None) -> float | str:
    return '' if value is None else round(value, 4)
