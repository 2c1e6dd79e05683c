"""Tables as Markdown, LaTeX and CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmseg_cil.utils.atomic import write_csv, write_text
from mmseg_cil.visualization.tables import UNDEFINED, Table

_LATEX = {
    '\\': r'\textbackslash{}', '_': r'\_', '%': r'\%', '&': r'\&', '#': r'\#', '$': r'\$',
    '{': r'\{', '}': r'\}', '~': r'\textasciitilde{}', '^': r'\textasciicircum{}',
    '±': r'$\pm$', '−': '$-$', '–': '--', '@': '@',
}  # fmt: skip
#: The folder of a report's tables as files.
FOLDER = 'tables'


def markdown(table: Table) -> str:
    """Return a table in Markdown, its caption above it.

    Example:
        >>> print(markdown(Table('mIoU', ['step', 'all'], [['0', '45.67']])))
        **mIoU**
        <BLANKLINE>
        | step | all |
        |---|---:|
        | 0 | 45.67 |
        <BLANKLINE>
    """
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


def write_table_files(tables: Sequence[Table], folder: Path) -> None:
    """Write the tables that have a name as CSV, Markdown and LaTeX.

    Args:
        tables: The tables of a page.
        folder: Folder of the page; the files lie in its ``tables``.

    Raises:
        OSError: Writing failed.
    """
    for table in tables:
        if not table.name:
            continue
        path = folder / FOLDER / table.name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path.with_suffix('.md'), markdown(table))
        write_text(path.with_suffix('.tex'), latex(table))
        # An undefined value is an empty cell, as programs expect it.
        cells = [['' if cell == UNDEFINED else cell for cell in row] for row in table.rows]
        write_csv(path.with_suffix('.csv'), [list(table.header), *cells])
