"""Mask ids besides 255 that belong to no class, and masks of another order."""

import numpy as np
import pytest

from mmseg_cil.errors import InputError
from mmseg_cil.protocols import build_protocol
from mmseg_cil.protocols.taxonomy import Taxonomy, read_void_ids

CLASSES = ('background', 'red', 'green', 'blue')
STEPS = [['background', 'red'], ['green']]


def protocol(classes=CLASSES, **changes):
    return build_protocol(dict(dict(name='tiny', dataset='tiny', steps=STEPS), **changes), classes)


def labels(table):
    return {value: int(label) for value, label in enumerate(table) if label != 255}


def test_void_ids_are_ignored_in_training_and_at_test():
    plain, void = protocol(), protocol(void_ids=[11, 200])
    for step in range(2):
        assert np.array_equal(plain.train_table(step), void.train_table(step))
        assert np.array_equal(plain.test_table(step), void.test_table(step))
    assert void.known_mask_ids() - plain.known_mask_ids() == {11, 200}
    # A policy that trains void as background does so with all of it.
    assert protocol(void_ids=[11], preset='mib').train_table(0)[11] == 0


def test_a_class_of_a_void_id_is_left_out():
    void = protocol(void_ids=[1], steps=[['background', 'green'], ['blue']])
    assert void.taxonomy.names == ('background', 'green', 'blue')
    assert void.taxonomy.left_out == ('red',)
    assert labels(void.train_table(0)) == {0: 0, 2: 1, 3: 0}
    assert labels(void.test_table(1)) == {0: 0, 2: 1, 3: 2}
    with pytest.raises(InputError, match="'red' is left out, for its id is among void_ids"):
        protocol(void_ids=[1])
    sized = build_protocol(dict(name='tiny_1-1', dataset='tiny', void_ids=[2]), CLASSES)
    assert [sized.class_names(step.new) for step in sized.steps] == [
        ['background', 'red'],
        ['blue'],
    ]


def test_a_void_background_still_stands_for_what_is_not_known():
    void = protocol(void_ids=[0])
    assert labels(void.train_table(0)) == {1: 1, 2: 0, 3: 0}
    assert void.taxonomy.has_background and void.taxonomy.names == CLASSES


def test_void_ids_with_reduce_zero_label_are_those_of_the_file():
    reduced = build_protocol(
        dict(name='tiny', dataset='tiny', domains=[dict(name='all', pattern='*')], void_ids=[0, 2]),
        CLASSES[1:],
        True,
    )
    assert reduced.taxonomy.names == ('red', 'blue')
    assert labels(reduced.train_table(0)) == {1: 0, 3: 1}


def test_the_fingerprint_changes_only_where_they_are_used():
    plain = protocol()
    assert protocol(void_ids=[]).fingerprint() == plain.fingerprint()
    assert protocol(void_ids=[255]).fingerprint() == plain.fingerprint()
    assert protocol(void_ids=[11]).training_fingerprint() != plain.training_fingerprint()
    assert plain.to_dict()['void_ids'] == [255]


@pytest.mark.parametrize('value', ['11', [256], [-1], [1.0], [True], {'a': 1}, [None]])
def test_wrong_void_ids_are_refused(value):
    with pytest.raises(InputError, match='void_ids must be a list of mask ids'):
        protocol(void_ids=value)


def test_void_ids_are_read_in_any_form():
    assert read_void_ids(None, 'x') == () and read_void_ids(7, 'x') == (7,)
    assert read_void_ids([9, 7, 9], 'x') == (7, 9)


def test_without_a_class_left_they_are_refused():
    with pytest.raises(InputError, match='no class besides the background'):
        protocol(void_ids=[1, 2, 3])


@pytest.mark.parametrize('reduced', [False, True])
def test_masks_of_another_order_are_read_by_name(reduced):
    ours = Taxonomy.from_classes('tiny', CLASSES[1:], reduced)
    theirs = ours.as_in_masks_of(['blue', 'red', 'green'], reduced)
    assert theirs.names == ours.names == CLASSES
    first = int(reduced)
    assert theirs.mask_ids == (0 if reduced else None, first + 1, first + 2, first)
    assert theirs.void_ids == (255,)
    with pytest.raises(InputError, match='differ: one has red, green, blue, the other blue, red'):
        ours.as_in_masks_of(['blue', 'red'], reduced)


def test_masks_of_another_order_with_void_ids_of_their_own():
    ours = Taxonomy.from_classes('tiny', CLASSES).with_void_ids([3])
    assert ours.names == CLASSES[:3]
    theirs = ours.as_in_masks_of(['blue', 'green', 'red', 'background'], False, [7])
    assert theirs.mask_ids == (3, 2, 1) and theirs.void_ids == (0, 7, 255)
