"""Puts the tables of docs/results/*.csv into docs/results.md.

    python docs/make_results.py [--check]

Tables stand between ``<!-- table FILE step N to BASELINE -->`` and ``<!-- end -->``; FILE is
a name in docs/results, whose rows a grid (tools/grid.py) has written. Between ``<!-- published
SOURCE -->`` and the same end stand a source's figures of configs/published.csv. With --check
nothing is written, and the exit status is 1 where the page is not current.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mmseg_cil.grid.rows import Row, read_row_file  # noqa: E402
from mmseg_cil.grid.tables import scores_of, step_tables  # noqa: E402
from mmseg_cil.published_figures import read_figures  # noqa: E402
from mmseg_cil.visualization.table_formats import markdown  # noqa: E402
from mmseg_cil.visualization.tables import UNDEFINED, Table  # noqa: E402

PAGE = ROOT / 'docs/results.md'
MARK = re.compile(
    r'(<!-- table (?P<file>\S+) step (?P<step>\d+) to (?P<to>\S+) -->\n).*?(<!-- end -->)', re.S
)
PUBLISHED = re.compile(r'(<!-- published (?P<source>.+?) -->\n).*?(<!-- end -->)', re.S)


def rows_of(name: str) -> list[Row]:
    """Return the rows of a file in docs/results."""
    return read_row_file(ROOT / 'docs/results' / f'{name}.csv')


def table(name: str, step: int, baseline: str) -> str:
    """Return a table in Markdown.

    Args:
        name: File in docs/results, without its ending.
        step: After which step.
        baseline: Row that differences are taken to.
    """
    scores = scores_of(rows_of(name), [], baseline)
    return '\n'.join(map(markdown, step_tables([score for score in scores if score.step == step])))


def published(source: str) -> str:
    """Return the figures of a source in Markdown, a row a method and a column a protocol.

    Args:
        source: As in configs/published.csv.
    """
    figures = [figure for figure in read_figures() if figure.source == source]
    found = {(figure.method, figure.protocol): figure.all for figure in figures}
    protocols = list(dict.fromkeys(figure.protocol for figure in figures))
    rows = []
    for method in dict.fromkeys(figure.method for figure in figures):
        values = [found.get((method, protocol)) for protocol in protocols]
        rows.append([method, *(UNDEFINED if v is None else f'{v:.2f}' for v in values)])
    caption = f'Published, not run here: {source}, mIoU (%) of all classes after the last step'
    return markdown(Table(caption, ['method', *protocols], rows))


def content() -> str:
    """Return what the page should be."""

    def filled(match: re.Match[str]) -> str:
        return f'{match[1]}\n{table(match["file"], int(match["step"]), match["to"])}\n{match[5]}'

    def told(match: re.Match[str]) -> str:
        return f'{match[1]}\n{published(match["source"])}\n{match[3]}'

    return PUBLISHED.sub(told, MARK.sub(filled, PAGE.read_text(encoding='utf-8')))


def main() -> None:
    """Write the page, or check it."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('--check', action='store_true')
    check = parser.parse_args().check
    made = content()
    if made == PAGE.read_text(encoding='utf-8'):
        return
    if check:
        print(f'{PAGE} is not current: run python docs/make_results.py')
        raise SystemExit(1)
    PAGE.write_text(made, encoding='utf-8')


if __name__ == '__main__':
    main()
