import csv
import json

import numpy as np
import pytest

from mmseg_cil.errors import InputError
from mmseg_cil.evaluation.walk_metrics import (
    assemble_metrics,
    continual_metrics,
    metrics_rows,
    score_matrix,
    write_metrics,
)

NAMES = [['background', 'cat'], ['dog'], ['cow']]
IOU = [[0.9, 0.8], [0.9, 0.4, 0.6], [0.85, 0.5, None, 0.7]]


def _entries(background_in_means=True):
    entries = []
    for step, values in enumerate(IOU):
        seen = [name for group in NAMES[: step + 1] for name in group]
        means = dict.fromkeys(('all', 'old', 'new', 'base', 'later'), 0.5 + step / 10)
        entries.append(
            {
                'step': step,
                'seen': seen,
                'introduced': NAMES[: step + 1],
                'IoU': dict(zip(seen, values, strict=True)),
                'mIoU': means | {'old': None} if step == 0 else means,
                'mIoU_with_background': means,
                'mIoU_without_background': means,
                'groups': [0.6 - step / 10 + j / 100 for j in range(step + 1)],
                'images': 10 * (step + 1),
                'settings': {
                    'background_in_means': background_in_means,
                    'background': 'background',
                },
            }
        )
    return entries


def _assemble(entries, **changes):
    arguments = dict(protocol='toy_2-1', method='mib', setting='overlapped', kind='class')
    return assemble_metrics(entries, **(arguments | changes))


def test_matrix_has_a_column_a_class_in_order_of_appearance():
    columns, matrix, learned = score_matrix(_entries(), 'class')
    assert columns == ['background', 'cat', 'dog', 'cow'] and learned == [0, 0, 1, 2]
    nan = np.nan
    expected = [[0.9, 0.8, nan, nan], [0.9, 0.4, 0.6, nan], [0.85, 0.5, nan, 0.7]]
    np.testing.assert_array_equal(matrix, expected)


def test_continual_metrics_of_classes():
    values = continual_metrics(_entries(), 'class')
    # dog is undefined at the end, so background and cat remain.
    assert values['average_mIoU'] == pytest.approx(0.6)
    assert values['forgetting'] == pytest.approx((0.05 + 0.3) / 2)
    assert values['BWT'] == pytest.approx((-0.05 - 0.3) / 2)
    values = continual_metrics(_entries(background_in_means=False), 'class')
    assert values['forgetting'] == pytest.approx(0.3)


def test_continual_metrics_of_domains_read_the_groups():
    values = continual_metrics(_entries(), 'domain', reference={'dog': 0.71})
    # Domain 0: 0.6, 0.5, 0.4; domain 1: 0.51, 0.41.
    assert values['forgetting'] == pytest.approx((0.2 + 0.1) / 2)
    assert values['BWT'] == pytest.approx(-(0.2 + 0.1) / 2)
    assert values['intransigence'] == pytest.approx(0.71 - 0.51)


def test_a_walk_in_progress_or_with_gaps():
    assert continual_metrics([], 'class') == {
        'average_mIoU': None, 'forgetting': None, 'BWT': None,
    }  # fmt: skip
    assert continual_metrics(_entries()[:1], 'class')['BWT'] is None
    gap = [_entries()[1], _entries()[2]]
    assert score_matrix(gap, 'class')[2] == [-1, -1, 0, 1]
    assert continual_metrics(gap, 'class')['forgetting'] == pytest.approx((0.05 - 0.1) / 2)


def test_assembled_by_step_and_written_as_json_and_csv(tmp_path):
    metrics = _assemble(_entries()[::-1], palette={'cat': np.array([1, 2, 3])})
    assert [entry['step'] for entry in metrics['steps']] == [0, 1, 2]
    write_metrics(tmp_path, metrics)
    text = (tmp_path / 'metrics.json').read_text()
    assert json.loads(text) == metrics and 'NaN' not in text
    with open(tmp_path / 'metrics.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3
    assert rows[0]['mIoU_old'] == '' and rows[0]['IoU dog'] == ''
    # Entries of earlier versions lack hIoU; old is undefined at step 0.
    assert 'hIoU' not in _entries()[1]['mIoU'] and rows[0]['hIoU'] == ''
    assert float(rows[1]['hIoU']) == metrics['steps'][1]['mIoU']['hIoU'] == pytest.approx(0.6)
    assert float(rows[0]['hIoU_without_background']) == pytest.approx(0.5)
    assert float(rows[1]['IoU dog']) == 0.6 and rows[2]['IoU dog'] == ''
    assert float(rows[2]['mIoU_of_step_1']) == metrics['steps'][2]['groups'][1]
    assert len(metrics_rows(_assemble([]))) == 1


def test_a_step_twice_and_an_unknown_kind_are_refused():
    with pytest.raises(InputError, match='twice'):
        _assemble([*_entries(), _entries()[1]])
    with pytest.raises(InputError, match="kind is 'city'"):
        _assemble(_entries(), kind='city')
