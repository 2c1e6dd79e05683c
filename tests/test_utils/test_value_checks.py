"""Values that users give are checked with their names."""

import pytest

from mmseg_cil.errors import InputError
from mmseg_cil.utils.values import check_choice, check_number, check_sizes


class Loss:
    pass


def test_what_is_none_of_the_choices_is_told_with_all_of_them():
    check_choice(Loss(), 'regions', 'even', ('even', 'official'))
    with pytest.raises(InputError) as told:
        check_choice(Loss(), 'regions', 'odd', ('even', 'official'))
    assert str(told.value) == "Loss: regions must be one of ('even', 'official'), got 'odd'"
    with pytest.raises(InputError, match=r"^sub-step x: init .* got 'oficial'; did you mean 'off"):
        check_choice('sub-step x', 'init', 'oficial', ['even', 'official'])
    # Words that no list of words holds, and that cannot be compared by their letters.
    for value in (None, 3, ['even']):
        with pytest.raises(InputError, match='regions must be one of'):
            check_choice(Loss(), 'regions', value, ('even', 'official'))


@pytest.mark.parametrize('value', [True, '1', None, float('nan'), float('inf'), -1, 1.5])
def test_what_is_no_whole_number_in_the_range_is_refused(value):
    check_number(Loss(), 'stage', 1, most=1, whole=True)
    with pytest.raises(InputError, match='Loss: stage must be a whole number, 0 or more, 1 at'):
        check_number(Loss(), 'stage', value, most=1, whole=True)


@pytest.mark.parametrize('values', [[], '12', 3, [1, 0], [1.0]])
def test_what_is_no_list_of_sizes_is_refused(values):
    check_sizes(Loss(), 'scales', (1, 2))
    with pytest.raises(InputError, match='Loss: scales must be a'):
        check_sizes(Loss(), 'scales', values)
