from pathlib import Path

import numpy as np
import pytest
import torch

from mmseg_cil.errors import InputError
from mmseg_cil.evaluation.confusion import (
    accuracy_from_confusion,
    confusion_matrix,
    frequency_weighted_iou,
    iou_from_confusion,
    mean_defined,
    overall_accuracy,
    pair_counts,
)

GOLDEN = Path(__file__).parents[1] / 'golden'


@pytest.mark.parametrize('case', ['c5', 'c21'])
def test_equals_the_official_numbers_exactly(case):
    golden = np.load(GOLDEN / f'metrics__{case}.npz')
    classes = int(golden['n_classes'])
    confusion = confusion_matrix(
        torch.from_numpy(golden['preds']), torch.from_numpy(golden['labels']), classes
    )
    assert confusion.dtype == torch.int64
    np.testing.assert_array_equal(confusion.numpy(), golden['confusion'])
    iou = iou_from_confusion(confusion, eps=1e-6)
    accuracy = accuracy_from_confusion(confusion, eps=1e-6)
    np.testing.assert_array_equal(iou, golden['class_iou'])
    np.testing.assert_array_equal(accuracy, golden['class_acc'])
    assert mean_defined(iou) == golden['mean_iou']
    assert mean_defined(accuracy) == golden['mean_acc']
    assert overall_accuracy(confusion) == golden['overall_acc']
    assert frequency_weighted_iou(confusion, eps=1e-6) == golden['freqw_acc']


def test_rows_are_the_truth_and_ignored_pixels_do_not_count():
    target = torch.tensor([[0, 1, 255], [1, 2, 255]])
    pred = torch.tensor([[0, 2, 1], [1, 2, 0]])
    expected = [[1, 0, 0], [0, 1, 1], [0, 0, 1]]
    assert confusion_matrix(pred, target, 3).tolist() == expected
    assert confusion_matrix(pred.to(torch.uint8), target.to(torch.uint8), 3).tolist() == expected
    assert pair_counts(pred, target, 3)[-2:].tolist() == [2, 0]


@pytest.mark.parametrize(('target', 'pred'), [(3, 0), (0, 3), (-1, 0), (0, -1), (0, 255)])
def test_ids_that_are_no_class_are_refused(target, pred):
    with pytest.raises(InputError, match=r'1 pixels .* outside 0\.\.2'):
        confusion_matrix(torch.tensor([0, pred]), torch.tensor([0, target]), 3)


def test_shapes_must_agree():
    with pytest.raises(InputError, match=r'\(2, 3\) and \(3, 2\)'):
        confusion_matrix(torch.zeros(2, 3), torch.zeros(3, 2), 3)


def test_accelerator_path_counts_as_the_cpu_path(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(0, 4, (50, 40), generator=generator)
    pred = torch.randint(0, 4, (50, 40), generator=generator)
    target[:5] = 255
    expected = pair_counts(pred, target, 4)
    monkeypatch.setattr('mmseg_cil.evaluation.confusion.SIZED_BY_READING_BACK', ('cpu',))
    assert torch.equal(pair_counts(pred, target, 4), expected)
    assert expected.sum() == 2000 and expected[-2] == 200


def test_absent_classes_have_three_readings():
    # Class 1 has no true pixel but one false positive; class 3 appears nowhere.
    confusion = torch.tensor([[3, 1, 0, 0], [0, 0, 0, 0], [0, 0, 2, 0], [0, 0, 0, 0]])
    nan = float('nan')
    np.testing.assert_array_equal(iou_from_confusion(confusion), [0.75, nan, 1.0, nan])
    np.testing.assert_array_equal(
        iou_from_confusion(confusion, absent='union'), [0.75, 0.0, 1.0, nan]
    )
    np.testing.assert_array_equal(
        iou_from_confusion(confusion, absent='zero'), [0.75, 0.0, 1.0, 0.0]
    )
    np.testing.assert_array_equal(accuracy_from_confusion(confusion), [0.75, nan, 1.0, nan])
    with pytest.raises(InputError, match='absent'):
        iou_from_confusion(confusion, absent='none')  # type: ignore[arg-type]


def test_nothing_counted_is_undefined_not_zero():
    empty = np.zeros((2, 2), dtype=np.int64)
    assert np.isnan(overall_accuracy(empty))
    assert np.isnan(frequency_weighted_iou(empty))
    assert np.isnan(mean_defined(iou_from_confusion(empty)))
