"""The harmonic mean of old and new mIoU."""

import statistics

import pytest

from mmseg_cil.utils.harmonic import entry_with_harmonic, harmonic_mean, with_harmonic


@pytest.mark.parametrize('pair', [(0.6, 0.3), (0.9, 0.05), (0.4, 0.4), (1.0, 1.0), (0.0, 0.7)])
def test_it_is_the_harmonic_mean_of_two(pair):
    assert harmonic_mean(*pair) == pytest.approx(statistics.harmonic_mean(pair))
    assert harmonic_mean(*pair) == harmonic_mean(*reversed(pair)) <= 1
    # Per cent or fraction makes no difference.
    assert harmonic_mean(*(100 * value for value in pair)) == pytest.approx(
        100 * harmonic_mean(*pair)
    )


def test_nothing_right_is_zero_and_an_undefined_part_leaves_it_undefined():
    assert harmonic_mean(0.0, 0.0) == 0.0
    assert harmonic_mean(None, 0.5) is None and harmonic_mean(0.0, None) is None
    assert with_harmonic({}) == {'hIoU': None}


def test_an_entry_of_an_old_file_gets_it_in_every_reading_and_a_stored_value_stays():
    entry = dict(
        step=1,
        mIoU=dict(old=0.6, new=0.3),
        mIoU_with_background=dict(old=0.6, new=0.3, hIoU=0.25),
        mIoU_without_background=dict(old=None, new=0.3),
        mDice=dict(old=0.6, new=0.3),
        data_sets=dict(a=dict(images=3, mIoU=dict(old=0.3, new=0.6))),
    )
    before = repr(entry)
    found = entry_with_harmonic(entry)
    assert found['mIoU']['hIoU'] == pytest.approx(0.4)
    assert found['mIoU_with_background']['hIoU'] == 0.25
    assert found['mIoU_without_background']['hIoU'] is None
    assert found['mDice'] == entry['mDice'] and found['data_sets']['a']['images'] == 3
    assert found['data_sets']['a']['mIoU']['hIoU'] == pytest.approx(0.4)
    assert repr(entry) == before
    assert entry_with_harmonic(dict(step=0, data_sets=None)) == dict(step=0, data_sets=None)
