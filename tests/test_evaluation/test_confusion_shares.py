"""Shares of the confusion matrix that tell forgetting from confusion."""

import numpy as np
import pytest

from mmseg_cil.evaluation.confusion_shares import confusion_shares
from mmseg_cil.utils.confusion_file import confusion_content, read_confusion

# background, cat (step 0), dog (step 0), horse (step 1)
MATRIX = np.array([[90, 5, 0, 5], [30, 50, 10, 10], [40, 0, 60, 0], [20, 20, 0, 60]])
STEPS = [0, 0, 0, 1]


def test_pixels_of_old_and_new_classes_are_told_by_what_they_are_predicted_as():
    found = confusion_shares(MATRIX, STEPS, 1, True)
    assert found['old'] == pytest.approx(
        dict(right=110 / 200, background=70 / 200, old=10 / 200, new=10 / 200)
    )
    assert found['new'] == pytest.approx(dict(right=0.6, background=0.2, old=0.2, new=0.0))


def test_without_background_the_first_class_is_a_class():
    found = confusion_shares(MATRIX, STEPS, 1, False)
    assert found['old']['background'] == 0.0
    assert found['old']['right'] == pytest.approx(200 / 300)


def test_the_shares_of_each_group_add_up_to_one():
    matrix = np.random.default_rng(0).integers(0, 50, (6, 6))
    for background in (True, False):
        found = confusion_shares(matrix, [0, 0, 1, 1, 2, 2], 2, background)
        assert all(sum(shares.values()) == pytest.approx(1.0) for shares in found.values())


def test_a_group_without_pixels_has_no_shares():
    matrix = MATRIX.copy()
    matrix[3] = 0
    assert confusion_shares(matrix, STEPS, 1, True)['new'] is None
    assert confusion_shares(MATRIX, [0, 0, 0, 0], 0, True)['old'] is None


def test_the_file_says_what_was_counted_and_nothing_else_is_read():
    content = confusion_content(MATRIX[None], ['background', 'cat', 'dog', 'horse'])
    names, matrices = read_confusion(content)
    assert names[-1] == 'horse' and np.array_equal(matrices[0], MATRIX)
    for wrong in (
        None,
        [],
        {'classes': names},
        {**content, 'classes': names[:2]},
        {**content, 'confusion': [[1]]},
        {**content, 'confusion': 'x'},
    ):
        assert read_confusion(wrong) is None
