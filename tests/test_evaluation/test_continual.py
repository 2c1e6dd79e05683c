import math

import pytest

from mmseg_cil.evaluation.continual import (
    average_miou,
    backward_transfer,
    forgetting,
    intransigence,
)

NAN = float('nan')
# Two classes from the start, one at each of two further steps.
SCORES = [
    [0.8, 0.6, NAN, NAN],
    [0.9, 0.3, 0.5, NAN],
    [0.4, 0.4, 0.5, 0.7],
]
LEARNED = [0, 0, 1, 2]


def test_average_is_over_the_steps_and_leaves_out_the_undefined():
    assert average_miou([0.5, NAN, 0.3]) == pytest.approx(0.4)
    assert math.isnan(average_miou([NAN]))


def test_forgetting_is_the_fall_from_the_best():
    # 0.9 - 0.4, 0.6 - 0.4, 0.5 - 0.5; the last class is new and does not count.
    assert forgetting(SCORES, LEARNED) == pytest.approx((0.5 + 0.2 + 0.0) / 3)


def test_bwt_is_the_change_since_learning():
    # 0.4 - 0.8, 0.4 - 0.6, 0.5 - 0.5: not minus the forgetting, for class 0 rose first.
    assert backward_transfer(SCORES, LEARNED) == pytest.approx((-0.4 - 0.2 + 0.0) / 3)


def test_getting_better_is_negative_forgetting():
    assert forgetting([[0.2, NAN], [0.5, 0.1]], [0, 1]) == pytest.approx(-0.3)
    assert backward_transfer([[0.2, NAN], [0.5, 0.1]], [0, 1]) == pytest.approx(0.3)


def test_undefined_after_one_step():
    assert math.isnan(forgetting([[0.5, 0.6]], [0, 0]))
    assert math.isnan(backward_transfer([[0.5, 0.6]], [0, 0]))


def test_an_undefined_class_is_left_out():
    scores = [[0.8, NAN], [0.6, NAN], [0.5, NAN]]
    assert forgetting(scores, [0, 0]) == pytest.approx(0.3)
    assert backward_transfer(scores, [0, 0]) == pytest.approx(-0.3)


def test_a_step_that_is_not_recorded_has_no_bwt_but_forgetting():
    scores = [[0.8, 0.4], [0.6, 0.3]]
    assert backward_transfer(scores, [-1, 0]) == pytest.approx(-0.1)
    assert forgetting(scores, [-1, 0]) == pytest.approx(0.15)


def test_intransigence_is_the_gap_to_joint_training_when_learned():
    reference = [0.9, 0.7, NAN, 0.8]
    assert intransigence(SCORES, LEARNED, reference) == pytest.approx((0.1 + 0.1 + 0.1) / 3)


def test_the_matrix_must_have_a_column_a_class():
    with pytest.raises(ValueError, match=r'\(steps, 3\)'):
        forgetting(SCORES, [0, 0, 1])
