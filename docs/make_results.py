"""Puts the tables of docs/results/*.csv into docs/results.md.

    python docs/make_results.py [--check]

Tables stand between ``<!-- table FILE step N to BASELINE -->`` and ``<!-- end -->``; FILE is
a name in docs/results, whose rows a grid (tools/grid.py) has written. ``<!-- leads FILE of A ...
over B ... -->`` has the differences in "all" after each step, a row each; ``<!-- means FILE -->``
the means of "all" over the later steps; ``<!-- walk FILE steps N ... -->`` has "all" after these
steps and that mean, a row a method; ``<!-- lasts FILE ... of METHOD ... -->`` those of "all"
after the last step, a row a file. Between ``<!-- published SOURCE -->`` and the same end stand
a source's figures of configs/published.csv. With --check nothing is written, and the exit status
is 1 where the page is not current.
"""

from __future__ import annotations

import argparse
import functools
import re
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mmseg_cil.grid.rows import Row, read_row_file  # noqa: E402
from mmseg_cil.grid.statistics import paired_difference, summarise  # noqa: E402
from mmseg_cil.grid.tables import number, scores_of, signed, step_tables  # noqa: E402
from mmseg_cil.published_figures import read_figures  # noqa: E402
from mmseg_cil.visualization.table_formats import markdown  # noqa: E402
from mmseg_cil.visualization.tables import UNDEFINED, Table  # noqa: E402

PAGE = ROOT / 'docs/results.md'
END = '<!-- end -->'
MARK = re.compile(
    r'(<!-- table (?P<file>\S+) step (?P<step>\d+) to (?P<to>\S+) -->\n).*?<!-- end -->', re.S
)
LEADS = re.compile(
    r'(<!-- leads (?P<file>\S+) of (?P<of>[^>]+?) over (?P<over>[^>]+?) -->\n).*?<!-- end -->',
    re.S,
)
MEANS = re.compile(r'(<!-- means (?P<file>\S+) -->\n).*?<!-- end -->', re.S)
LASTS = re.compile(r'(<!-- lasts (?P<files>[^>]+?) of (?P<of>[^>]+?) -->\n).*?<!-- end -->', re.S)
WALK = re.compile(r'(<!-- walk (?P<file>\S+) steps (?P<steps>[\d ]+?) -->\n).*?<!-- end -->', re.S)
PUBLISHED = re.compile(r'(<!-- published (?P<source>.+?) -->\n).*?<!-- end -->', re.S)


@functools.cache
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


def all_of(name: str) -> dict[tuple[str, int], dict[int, float]]:
    """Return the mIoU of all classes by row and step, and then by seed."""
    found: dict[tuple[str, int], dict[int, float]] = {}
    for row in rows_of(name):
        value = row.scores['all']
        assert value is not None
        found.setdefault((row.name, row.step), {})[row.seed] = value
    return found


def leads(name: str, ours: Sequence[str], others: Sequence[str]) -> str:
    """Return the differences of rows in Markdown, paired by seed, after each later step.

    Args:
        name: File in docs/results, without its ending.
        ours: The rows whose lead is told.
        others: The rows that they are compared with.
    """
    scores = all_of(name)
    steps = sorted({step for _, step in scores} - {0})
    rows = []
    for own in ours:
        for other in others:
            cells = [own, other]
            for step in steps:
                lead = paired_difference(scores.get((own, step), {}), scores.get((other, step), {}))
                cells.append(signed(lead))
            rows.append(cells)
    caption = 'Difference in mIoU (%) of all classes, paired by seed, with its 95 % interval'
    header = ['method', 'before', *(f'after step {step}' for step in steps)]
    return markdown(Table(caption, header, rows))


def later_means(name: str) -> dict[str, list[float]]:
    """Return the mean of "all" over the later steps, of each seed, greatest first.

    Only rows that have all later steps are returned.

    Args:
        name: File in docs/results, without its ending.
    """
    scores = all_of(name)
    later = range(1, max(step for _, step in scores) + 1)
    found = {
        row: [statistics.mean(scores[row, step][seed] for step in later) for seed in scores[row, 1]]
        for row in dict.fromkeys(row for row, _ in scores)
        if all((row, step) in scores for step in later)
    }
    return dict(sorted(found.items(), key=lambda item: -statistics.mean(item[1])))


def means(name: str) -> str:
    """Return the means of "all" over the later steps and the seeds, in words, greatest first."""
    found = later_means(name).items()
    return ', '.join(f'`{row}` {statistics.mean(values):.1f}' for row, values in found) + '.\n'


def walk(name: str, steps: Sequence[int]) -> str:
    """Return "all" after some steps and in the mean over all later steps, in Markdown.

    The greatest mean comes first.

    Args:
        name: File in docs/results, without its ending.
        steps: The steps that have a column.
    """
    scores = all_of(name)
    rows = [
        [
            row,
            *(number(summarise([*scores[row, step].values()])) for step in steps),
            number(summarise(values)),
        ]
        for row, values in later_means(name).items()
    ]
    count = len({row.seed for row in rows_of(name)})
    seeds_told = 'one seed' if count == 1 else f'{count} seeds, mean ± standard deviation'
    caption = f'mIoU (%) of all classes of {rows_of(name)[0].protocol}, {seeds_told}'
    header = ['method', *(f'after step {step}' for step in steps), 'mean of the later steps']
    return markdown(Table(caption, header, rows))


def lasts(files: Sequence[str], methods: Sequence[str]) -> str:
    """Return "all" after the last step in Markdown, a row a file and a column a method.

    Args:
        files: Files in docs/results, without their endings.
        methods: The columns.
    """
    rows = []
    for name in files:
        scores = all_of(name)
        last = max(step for _, step in scores)
        found = [summarise([*scores.get((method, last), {}).values()]) for method in methods]
        rows.append([rows_of(name)[0].protocol, str(last), *map(number, found)])
    caption = 'mIoU (%) of all classes after the last step: mean ± standard deviation of the seeds'
    return markdown(Table(caption, ['walk', 'steps', *methods], rows))


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
    text = PAGE.read_text(encoding='utf-8')
    for mark, made in (
        (MARK, lambda found: table(found['file'], int(found['step']), found['to'])),
        (PUBLISHED, lambda found: published(found['source'])),
        (LEADS, lambda found: leads(found['file'], found['of'].split(), found['over'].split())),
        (MEANS, lambda found: means(found['file'])),
        (WALK, lambda found: walk(found['file'], [*map(int, found['steps'].split())])),
        (LASTS, lambda found: lasts(found['files'].split(), found['of'].split())),
    ):
        # By default the loop's last function would serve all marks.
        text = mark.sub(lambda found, made=made: f'{found[1]}\n{made(found)}\n{END}', text)
    return text


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
