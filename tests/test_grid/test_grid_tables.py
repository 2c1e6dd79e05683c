"""The tables say what the rows say, and of failed cells that they failed."""

import csv

import pytest

from mmseg_cil.errors import InputError
from mmseg_cil.grid.results import write_tables
from mmseg_cil.grid.rows import CellState, Row, read_rows, write_rows
from mmseg_cil.grid.tables import main_table, scores_of, step_tables
from mmseg_cil.utils.atomic import write_csv
from mmseg_cil.visualization.table_formats import latex, markdown

ALL = {('mib', 1): 40.0, ('mib', 2): 42.0, ('vdfd', 1): 43.0, ('vdfd', 2): 44.0}


def rows(protocol='p', setting=''):
    return [
        Row(
            protocol,
            method,
            setting,
            seed,
            step,
            dict(old=value if step else None, new=value / 2, all=value - 10 * (1 - step)),
        )
        for (method, seed), value in ALL.items()
        for step in (0, 1)
    ]


def states(protocol='p', setting=''):
    return [CellState(protocol, method, setting, seed, 2, 'done') for method, seed in ALL]


def cells(table, name):
    return dict(zip(table.header, next(row for row in table.rows if row[0] == name), strict=True))


def test_a_row_has_mean_deviation_seeds_and_the_paired_difference():
    found = cells(main_table(scores_of(rows(), states(), 'mib')), 'vdfd')
    assert found['all'] == '43.5 ± 0.7' and found['seeds'] == '2'
    # The mean of the seeds' harmonic means of old and new, a and a / 2: 2 a / 3.
    assert found['hIoU'] == '29.0 ± 0.5'
    # Differences 3 and 2: 2.5 and 12.706 * 0.5 around it.
    assert found['all − mib'] == '+2.5 [-3.9, +8.9]'
    assert 'remarks' not in found
    assert cells(main_table(scores_of(rows(), states(), 'mib')), 'mib')['all − mib'] == '–'


def test_protocols_stand_side_by_side():
    table = main_table(scores_of([*rows(), *rows('q')], [*states(), *states('q')]))
    assert table.header == [
        'method', 'p old', 'p new', 'p hIoU', 'p all', 'p seeds',
        'q old', 'q new', 'q hIoU', 'q all', 'q seeds',
    ]  # fmt: skip
    assert len(table.rows) == 2


def test_hiou_is_left_out_where_nothing_is_old():
    tables = step_tables(scores_of(rows(), states()))
    assert 'hIoU' not in tables[0].header and 'hIoU' in tables[1].header


def test_failed_and_unfinished_cells_are_shown():
    more = [
        CellState('p', 'rcil', '', 1, 2, 'failed', 'error: it | broke'),
        CellState('p', 'rcil', '', 2, 2, 'unfinished'),
        CellState('p', 'mib', '', 3, 2, 'failed', 'error: out of luck'),
    ]
    table = main_table(scores_of(rows(), [*states(), *more], 'mib'))
    rcil, mib = cells(table, 'rcil'), cells(table, 'mib')
    assert (rcil['all'], rcil['seeds']) == ('failed', '0 of 2')
    assert rcil['remarks'] == 'p: seed 1 failed: error: it | broke; unfinished: seed 2'
    assert (mib['all'], mib['seeds']) == ('41.0 ± 1.4', '2 of 3')
    assert 'out of luck' in mib['remarks']
    assert 'it \\| broke' in markdown(table)


def test_a_cell_that_broke_off_has_no_score_after_the_last_step():
    begun = [row for row in rows() if (row.method, row.seed, row.step) != ('vdfd', 2, 1)]
    found = cells(main_table(scores_of(begun, states(), 'mib')), 'vdfd')
    assert (found['all'], found['seeds'], found['all − mib']) == ('43.0', '1 of 2', '+3.0')


def test_the_baseline_is_that_of_the_same_setting():
    both = [*rows(), *rows(setting='lr=1')]
    found = scores_of(both, [], 'mib')[-1].entries
    assert found['vdfd@lr=1'].difference.mean == 2.5
    assert found['mib@lr=1'].difference is None
    alone = [*rows(), *(row for row in rows(setting='lr=1') if row.method == 'vdfd')]
    assert scores_of(alone, [], 'mib')[-1].entries['vdfd@lr=1'].difference.mean == 2.5


def test_latex_escapes_what_it_must():
    text = latex(main_table(scores_of(rows('voc_15-1'), states('voc_15-1'), 'mib')))
    assert r'$43.5 ± 0.7$' not in text and r'43.5 $\pm$ 0.7' in text
    assert r'\%' in text and '±' not in text and '−' not in text


def test_files_are_made_of_the_rows_alone(tmp_path):
    pytest.importorskip('matplotlib')
    write_rows(tmp_path, rows(), states())
    assert read_rows(tmp_path) == (
        [
            Row(r.protocol, r.method, r.setting, r.seed, r.step,
                {**dict.fromkeys(('base', 'later', 'background')), **r.scores})
            for r in rows()
        ],
        states(),
    )  # fmt: skip
    # Files of earlier versions lack hIoU, and give the same tables.
    with open(tmp_path / 'rows.csv', newline='') as file:
        lines = list(csv.reader(file))
    assert lines[0][-1] == 'hIoU' and float(lines[2][-1]) == pytest.approx(80 / 3, abs=1e-4)
    write_csv(tmp_path / 'rows.csv', [line[:-1] for line in lines])
    write_tables(tmp_path, 'mib')
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert {'table.md', 'table.tex', 'table.csv', 'index.html', 'curves_p.svg'} <= set(first)
    assert b'43.5' in first['index.html'] and b'<svg' in first['index.html']
    write_tables(tmp_path, 'mib')
    assert first == {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with open(tmp_path / 'table.csv', newline='') as file:
        line = next(
            row for row in csv.DictReader(file) if (row['method'], row['step']) == ('vdfd', '1')
        )
    assert float(line['hIoU_mean']) == 29.0
    assert float(line['all_mean']) == 43.5 and float(line['difference']) == 2.5
    assert (line['seeds'], line['failed'], line['pairs']) == ('2', '0', '2')


def test_wrong_folders_and_baselines_are_refused(tmp_path):
    with pytest.raises(InputError, match=r'rows\.csv cannot be read'):
        write_tables(tmp_path)
    (tmp_path / 'rows.csv').write_text('method,seed\nmib,1\n')
    with pytest.raises(InputError, match='has no column'):
        write_tables(tmp_path)
    write_rows(tmp_path, rows(), states())
    with pytest.raises(InputError, match='no such row; it has mib, vdfd'):
        write_tables(tmp_path, 'plop')
