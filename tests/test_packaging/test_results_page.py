"""The page of results and the rows that it is made of."""

import importlib.util
import re
import statistics
from pathlib import Path

import pytest

from mmseg_cil.grid.rows import read_row_file

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = importlib.util.spec_from_file_location('make_results', ROOT / 'docs' / 'make_results.py')
make_results = importlib.util.module_from_spec(SCRIPT)
SCRIPT.loader.exec_module(make_results)
README = ROOT / 'README.md'
#: Rows of the README's table, and their names in docs/results.
NAMES = {
    'nothing learnt after step 0': 'nothing_learnt',
    'MiB': 'mib',
    'RCIL': 'rcil',
    'STAR': 'star',
    '**VDFD**': 'vdfd',
}
FILES = sorted((ROOT / 'docs/results').glob('*.csv'))


def test_the_page_is_current():
    page = make_results.PAGE.read_text()
    # Else: python docs/make_results.py
    assert make_results.content() == page
    named = set(re.findall(r'<!-- (?:table|walk) (\S+) step', page))
    assert named == {path.stem for path in FILES} and '<!-- end -->' in page


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_each_walk_has_all_its_steps(path):
    rows = read_row_file(path)
    steps = {}
    for row in rows:
        steps.setdefault((row.name, row.seed), []).append(row.step)
        assert all(0 <= value <= 100 for value in row.scores.values() if value is not None)
        assert row.scores['all'] is not None
    last = max(row.step for row in rows)
    for (name, _), found in steps.items():
        # Joint training has a single step, which is compared with the last step of the others.
        assert found == ([last] if name == 'joint' else list(range(last + 1)))
    # All methods of a seed go on from the same step 0.
    for seed in {row.seed for row in rows}:
        first = {row.scores['all'] for row in rows if (row.seed, row.step) == (seed, 0)}
        assert len(first) == 1


def test_the_readme_repeats_the_page():
    rows = read_row_file(ROOT / 'docs/results/balanced_peers.csv')
    lines = re.findall(r'^\| (.+?) \|((?: [\d.]+ ± [\d.]+ \|){4})', README.read_text(), re.M)
    assert [name for name, _ in lines] == list(NAMES)
    for name, cells in lines:
        for step, shown in enumerate(cells.strip(' |').split(' | '), 1):
            values = [r.scores['all'] for r in rows if (r.name, r.step) == (NAMES[name], step)]
            assert len(values) == 3
            assert shown == f'{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}'


def test_a_walk_has_a_row_a_method_and_the_greatest_mean_first():
    made = make_results.walk('places_11_1', [2, 10])
    header, _, *lines = [line.strip(' |').split(' | ') for line in made.splitlines() if '|' in line]
    assert header == ['method', 'after step 2', 'after step 10', 'mean of the later steps']
    rows = read_row_file(ROOT / 'docs/results/places_11_1.csv')
    # Joint training has no earlier steps.
    assert {line[0] for line in lines} == {row.name for row in rows} - {'joint'}
    means = []
    for name, *shown in lines:
        by_seed = [
            [r.scores['all'] for r in rows if (r.name, r.seed) == (name, seed) and r.step]
            for seed in (1, 2, 3)
        ]
        for values, cell in zip(
            ([v[1] for v in by_seed], [v[9] for v in by_seed], [*map(statistics.mean, by_seed)]),
            shown,
            strict=True,
        ):
            assert cell == f'{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}'
        means.append(statistics.mean(map(statistics.mean, by_seed)))
    assert means == sorted(means, reverse=True)


def test_the_short_table_has_the_last_step_of_each_walk():
    made = make_results.lasts(['balanced_10_5', 'places_11_1'], ['vdfd', 'joint', 'unknown'])
    header, _, *lines = [line.strip(' |').split(' | ') for line in made.splitlines() if '|' in line]
    assert header == ['walk', 'steps', 'vdfd', 'joint', 'unknown']
    assert [line[:2] for line in lines] == [['voc_11-5', '2'], ['places_11-1', '10']]
    for file, line in zip(['balanced_10_5', 'places_11_1'], lines, strict=True):
        rows = read_row_file(ROOT / f'docs/results/{file}.csv')
        for name, shown in zip(['vdfd', 'joint'], line[2:4], strict=True):
            found = [r.scores['all'] for r in rows if (r.name, str(r.step)) == (name, line[1])]
            assert len(found) == 3
            assert shown == f'{statistics.mean(found):.1f} ± {statistics.stdev(found):.1f}'
        assert line[4] == '–'
