"""Puts the tables of docs/results/*.csv into docs/results.md.

    python docs/make_results.py [--check]

Tables stand between ``<!-- table FILE step N to BASELINE -->`` and ``<!-- end -->``; FILE is
a name in docs/results, whose rows a grid (tools/grid.py) has written. With --check nothing is
written, and the exit status is 1 where the page is not current.
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
from mmseg_cil.visualization.table_formats import markdown  # noqa: E402

PAGE = ROOT / 'docs/results.md'
MARK = re.compile(
    r'(<!-- table (?P<file>\S+) step (?P<step>\d+) to (?P<to>\S+) -->\n).*?(<!-- end -->)', re.S
)


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


def content() -> str:
    """Return what the page should be."""

    def filled(match: re.Match[str]) -> str:
        return f'{match[1]}\n{table(match["file"], int(match["step"]), match["to"])}\n{match[5]}'

    return MARK.sub(filled, PAGE.read_text(encoding='utf-8'))


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
