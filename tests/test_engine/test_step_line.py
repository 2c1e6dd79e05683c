"""The line at the end of each step."""

import pytest

from mmseg_cil.engine.step_line import seconds_left, step_line

RECORDS = [
    dict(step=0, train_seconds=100.0, iterations=50, evaluate_seconds=9.0),
    dict(step=1, train_seconds=30.0, iterations=10, evaluate_seconds=10.0),
]


def test_the_pace_is_that_of_the_last_step_that_trained():
    # 20 + 5 iterations of 3 seconds, and two tests.
    assert seconds_left(1, RECORDS, [50, 10, 20, 5]) == pytest.approx(75 + 20)
    assert seconds_left(1, RECORDS, [50, 10]) is None
    assert seconds_left(0, [], [50, 10]) is None
    taken = [dict(step=0, iterations=0, train_seconds=0.0)]
    assert seconds_left(0, taken, [0, 10]) is None


def test_it_says_scores_forgetting_and_time():
    entry = dict(step=1, mIoU=dict(all=0.402, old=None, new=0.5))
    continual = dict(forgetting=0.12, BWT=-0.113, average_mIoU=0.4)
    line = step_line(1, dict(steps=[entry], continual=continual), RECORDS, [50, 10, 20])
    assert line == (
        'step 1 of 0..2 done: mIoU all 40.2 %, new 50.0 %; forgetting 12.0 points; '
        'BWT -11.3 points; about 0:01:10 left'
    )
    nothing = dict(steps=[dict(step=0, mIoU={})], continual={})
    assert step_line(0, nothing, [], [0]) == 'step 0 of 0..0 done: not scored'
