"""Messages about ids in masks that have no meaning."""

import numpy as np
import pytest

from mmseg_cil.datasets.class_index import ClassIndex
from mmseg_cil.datasets.mask_ids import check_labelled, check_mask_ids, odd_masks
from mmseg_cil.errors import InputError

#: Ids that show an object: of background and crack, and of road and car.
BINARY, ROADS = {1}, {0, 1}


def index_of(*ids, modes=None):
    presence = np.zeros((len(ids), 256), bool)
    for row, values in enumerate(ids):
        presence[row, list(values)] = True
    headers = np.zeros((len(ids), 6), np.int32)
    headers[:, 5] = modes or 0
    return ClassIndex([f'{row}' for row in range(len(ids))], presence, headers=headers)


def paths(index):
    return [f'm/{name}.png' for name in index.names]


def test_unknown_ids_lead_to_void_ids():
    index = index_of([0, 1], [0, 11])
    with pytest.raises(InputError, match=r'know: \[11\](?s:.*)void_ids=\[11\]') as error:
        check_mask_ids(index, paths(index), [0, 1, 255], 'tiny')
    assert 'multiples of 17' not in str(error.value)


def test_grey_levels_of_few_bits_are_explained():
    index = index_of([0, 17], [0, 34, 51])
    with pytest.raises(InputError, match='multiples of 17: PNG stretches masks'):
        check_mask_ids(index, paths(index), [0, 1, 2, 3, 255], 'tiny')


@pytest.mark.parametrize('ids', [[[0, 255], [0, 255]], [[0], [0, 255]], [[255]]])
def test_black_and_white_masks_show_nothing(ids):
    index = index_of(*ids)
    with pytest.raises(InputError, match=r'hold .*255 alone, such as m/0\.png: 255 is void'):
        check_labelled(index, paths(index), BINARY, 'train')


@pytest.mark.parametrize(
    ('ids', 'foreground'),
    [([[0, 1, 255]], BINARY), ([[0, 1]], BINARY), ([[0], [0]], BINARY), ([[0, 255]], ROADS)],
)
def test_masks_that_show_something_or_no_white_pass(ids, foreground):
    index = index_of(*ids)
    check_labelled(index, paths(index), foreground, 'train')


def test_a_few_masks_of_0_and_255_are_told_where_they_are_many():
    index = index_of([0, 1], [0, 255], [0, 1], [0, 1])
    (note,) = odd_masks(index, paths(index), BINARY, 'train')
    assert note.startswith('1 of 4 masks of the train split hold 0 and 255 alone, such as m/1.png')
    assert odd_masks(index_of(*[[0, 1]] * 5, [0, 255]), ['x'] * 6, BINARY, 'train') == []
    assert odd_masks(index_of([0, 255], [0, 1]), ['x'] * 2, ROADS, 'train') == []


def test_one_bit_beside_eight_bits_is_told():
    mixed = index_of([0, 1], [0, 1, 255], modes=[2, 0])
    (note,) = odd_masks(mixed, paths(mixed), BINARY, 'test')
    assert 'm/0.png' in note and 'white is read as id 1' in note
    assert odd_masks(index_of([0, 1], [1], modes=[2, 2]), ['x'] * 2, BINARY, 'test') == []
