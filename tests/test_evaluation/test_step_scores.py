import numpy as np
import pytest

from mmseg_cil.errors import InputError
from mmseg_cil.evaluation.step_scores import ScoreSettings, part_origins, step_entry

NAMES = ['background', 'cat', 'dog', 'cow']
STEPS = [0, 0, 1, 2]


def _diagonal(*hits):
    """A confusion matrix in which class c has IoU hits[c] / 10: the rest is lost to nobody else."""
    size = len(hits)
    matrix = np.zeros((size + 1, size + 1), dtype=np.int64)
    for c, hit in enumerate(hits):
        matrix[c, c], matrix[c, size] = hit, 10 - hit
    return matrix


def _entry(confusion, step=2, settings=None, **changes):
    arguments = dict(
        images=[7], class_steps=[*STEPS, 2], step=step, names=[*NAMES, 'sink'], has_background=True
    )
    arguments |= changes
    return step_entry(confusion[None], settings=settings or ScoreSettings(), **arguments)


def test_old_new_all_base_later_with_and_without_background():
    # The sink has no true pixel, so it is undefined and in no mean.
    entry = _entry(_diagonal(9, 5, 3, 8))
    assert entry['IoU'] == {
        'background': 0.9, 'cat': 0.5, 'dog': 0.3, 'cow': 0.8, 'sink': None,
    }  # fmt: skip
    with_background = entry['mIoU_with_background']
    assert with_background['all'] == pytest.approx((0.9 + 0.5 + 0.3 + 0.8) / 4)
    assert with_background['old'] == pytest.approx((0.9 + 0.5 + 0.3) / 3)
    assert with_background['new'] == pytest.approx(0.8)
    assert with_background['base'] == pytest.approx(0.7)
    assert with_background['later'] == pytest.approx((0.3 + 0.8) / 2)
    without = entry['mIoU_without_background']
    assert without['all'] == pytest.approx((0.5 + 0.3 + 0.8) / 3)
    assert without['old'] == pytest.approx(0.4)
    assert without['base'] == pytest.approx(0.5)
    assert without['new'] == with_background['new']
    assert without['later'] == with_background['later']
    old, new = (0.9 + 0.5 + 0.3) / 3, 0.8
    assert with_background['hIoU'] == pytest.approx(2 * old * new / (old + new))
    assert without['hIoU'] == pytest.approx(2 * 0.4 * 0.8 / (0.4 + 0.8))
    assert entry['mIoU'] == with_background
    assert entry['groups'] == pytest.approx([0.7, 0.3, 0.8])
    assert entry['introduced'] == [['background', 'cat'], ['dog'], ['cow', 'sink']]
    assert entry['images'] == 7


def test_background_can_be_left_out_of_the_means():
    entry = _entry(_diagonal(9, 5, 3, 8), settings=ScoreSettings(background_in_means=False))
    assert entry['mIoU'] == entry['mIoU_without_background']
    assert entry['groups'] == pytest.approx([0.5, 0.3, 0.8])
    assert entry['settings'] == {
        'old': 'previous',
        'background_in_means': False,
        'absent': 'skip',
        'eps': 0.0,
        'background': 'background',
    }


def test_without_a_background_both_readings_agree():
    entry = _entry(_diagonal(9, 5, 3, 8), has_background=False)
    assert entry['mIoU_with_background'] == entry['mIoU_without_background']
    assert entry['settings']['background'] is None


def test_old_as_base_moves_the_classes_in_between_to_new():
    entry = _entry(_diagonal(9, 5, 3, 8), settings=ScoreSettings(old='base'))
    assert entry['mIoU']['old'] == entry['mIoU']['base'] == pytest.approx(0.7)
    assert entry['mIoU']['new'] == entry['mIoU']['later'] == pytest.approx(0.55)
    assert entry['mIoU']['hIoU'] == pytest.approx(2 * 0.7 * 0.55 / 1.25)


@pytest.mark.parametrize('old', ['previous', 'base'])
def test_the_first_step_has_no_old_and_no_later(old):
    parts = part_origins([0, 0, 0], 0, old)
    assert parts == {'all': {0}, 'old': set(), 'new': {0}, 'base': {0}, 'later': set()}
    entry = _entry(
        _diagonal(9, 5), 0, ScoreSettings(old=old), class_steps=[0, 0, 0], names=['a', 'b', 'c']
    )
    assert entry['mIoU']['old'] is None and entry['mIoU']['later'] is None
    assert entry['mIoU']['hIoU'] is None
    assert entry['mIoU']['new'] == entry['mIoU']['all'] == pytest.approx(0.7)


def test_background_alone_has_no_mean_without_it():
    entry = _entry(
        np.array([[5]]), 0, ScoreSettings(background_in_means=False), class_steps=[0], names=['bg']
    )
    assert entry['mIoU']['all'] is None and entry['groups'] == [None]
    assert entry['mIoU_with_background']['all'] == 1.0


@pytest.mark.parametrize('absent', ['skip', 'zero'])
def test_domains_pool_pixels_and_keep_groups_apart(absent):
    # (domain, true, predicted); IoU of class a: 3/5, 8/12, 1/1.
    first, second, third = [[3, 1], [1, 5]], [[8, 2], [2, 0]], [[1, 0], [0, 9]]
    confusion = np.array([first, second, third])
    entry = step_entry(
        confusion, [2, 3, 1], [0, 0], 2, ['a', 'b'], False, ScoreSettings(absent=absent),
        [['rome'], ['oslo', 'bonn'], ['kyiv']],
    )  # fmt: skip

    def mean(counts):
        counts = np.array(counts)
        hits = np.diag(counts)
        return np.mean(hits / (counts.sum(0) + counts.sum(1) - hits))

    assert entry['groups'] == pytest.approx([mean(first), mean(second), mean(third)])
    assert entry['mIoU']['all'] == pytest.approx(mean(confusion.sum(0)))
    assert entry['mIoU']['old'] == pytest.approx(mean(confusion[:2].sum(0)))
    assert entry['mIoU']['new'] == pytest.approx(mean(third))
    assert entry['mIoU']['base'] == pytest.approx(mean(first))
    assert entry['mIoU']['later'] == pytest.approx(mean(confusion[1:].sum(0)))
    assert entry['IoU']['a'] == pytest.approx(12 / (15 + 15 - 12))
    assert entry['images'] == 6 and entry['images_by_domain'] == [2, 3, 1]
    assert entry['introduced'][1] == ['oslo', 'bonn']


@pytest.mark.parametrize(
    'change', [dict(old='former'), dict(absent='no'), dict(eps=-1.0)], ids=lambda c: next(iter(c))
)
def test_wrong_settings_are_refused(change):
    with pytest.raises(InputError, match=next(iter(change))):
        ScoreSettings(**change)
