"""Meanings in the walk of the mask ids of a data set that a step brings."""

import json

import pytest

from mmseg_cil.errors import InputError
from mmseg_cil.protocols import build_protocol
from mmseg_cil.protocols.base import beginning
from mmseg_cil.protocols.listed import uses_config_dataset
from mmseg_cil.protocols.own_data import OwnData, read_data

CLASSES = ('background', 'cat', 'dog')
TRAIN = dict(type='BaseSegDataset')


def protocol(*steps, **settings):
    return build_protocol(dict(name='p', dataset='d', steps=[['cat'], *steps], **settings), CLASSES)


def step(*classes, **data):
    return dict(classes=list(classes), data=dict(train=TRAIN, **data))


def meaning(data, taxonomy, classes=(), reduce_zero_label=False):
    read = read_data(dict(train=TRAIN, **data), 'x', 'here')
    return read.meaning(classes, reduce_zero_label, taxonomy)


def test_new_classes_have_ids_that_the_first_masks_do_not():
    taxonomy = protocol(step('horse'), step('cow')).taxonomy
    assert taxonomy.names == (*CLASSES, 'horse', 'cow')
    assert taxonomy.mask_ids == (0, 1, 2, 3, 4) and taxonomy.free == (3, 4)
    # Void ids of the first data set are not taken.
    taxonomy = protocol(step('horse'), step('cow'), void_ids=[3, 5]).taxonomy
    assert taxonomy.mask_ids == (0, 1, 2, 4, 6)
    built = protocol(step('horse'))
    assert built.known_mask_ids() == {0, 1, 2, 255}
    assert [built_step.data for built_step in built.steps] == [(0,), (1,)]


def test_equal_data_are_one_and_names_tell_them_apart():
    built = protocol(step('horse', name='farm'), step('cow', name='farm'), step('sheep'))
    assert [data.name for data in built.own_data] == ['farm', 'step_03']
    assert built.data_of_step(2, 'train') == (1,) and built.data_of_step(3, 'test') == (0, 1, 2)
    with pytest.raises(InputError, match="two data sets are called 'farm'"):
        protocol(step('horse', name='farm'), step('cow', name='farm', void_ids=[3]))


def test_ids_are_those_of_the_labels():
    taxonomy = protocol(step('horse')).taxonomy
    found = meaning(dict(labels=dict(horse=[7, 8], cat=4), void_ids=[11]), taxonomy)
    assert found.table[[0, 4, 7, 8, 11, 255, 1]].tolist() == [0, 1, 3, 3, 255, 255, 255]
    assert found.known == {0, 4, 7, 8, 11, 255}
    assert found.foreground == {4, 7, 8} and found.labelled == {1, 3}
    void = meaning(dict(labels=dict(horse=7), unlabelled='void'), taxonomy)
    assert void.table[[0, 7]].tolist() == [255, 3]
    # An id 0 that is a class's is that class.
    zero = meaning(dict(labels=dict(horse=0)), taxonomy)
    assert zero.table[0] == 3 and zero.foreground == {0}


def test_classes_are_matched_by_name():
    taxonomy = protocol(step('horse')).taxonomy
    own = ('sky', 'horse', 'tabby', 'pony')
    mapped = dict(class_map=dict(tabby='cat', pony='horse'))
    found = meaning(mapped, taxonomy, own)
    assert found.table[:4].tolist() == [0, 3, 1, 3] and found.labelled == {1, 3}
    found = meaning(mapped, taxonomy, own, reduce_zero_label=True)
    assert found.table[:5].tolist() == [0, 0, 3, 1, 3]
    # Its own background is the walk's, however it is called.
    found = meaning({}, taxonomy, ('Background', 'dog'))
    assert found.table[:2].tolist() == [0, 2]


def test_without_background_what_is_no_class_is_void():
    built = protocol(step('horse'), background='none', checkpoint=dict(classes=['cat']))
    assert not built.taxonomy.has_background
    found = meaning(dict(labels=dict(horse=3)), built.taxonomy)
    assert found.table[[0, 3]].tolist() == [255, built.taxonomy.mask_ids[-1]]
    with pytest.raises(InputError, match='the network has no background'):
        meaning(dict(labels=dict(horse=3), unlabelled='background'), built.taxonomy)


def test_without_background_it_may_be_one_of_the_old_classes():
    settings = dict(background='none', checkpoint=dict(classes=['cat', 'dog']))
    steps = (step('horse', labels=dict(horse=3)), step('cow', labels=dict(cow=4)))

    def built(**policy):
        listed = dict(name='p', dataset='d', steps=[['cat', 'dog'], *steps], policy=policy)
        return build_protocol({**settings, **listed}, ())

    plain, protocol = built(), built(unlabelled='old')
    assert not plain.old_labels_hidden and protocol.old_labels_hidden
    # The default is in no fingerprint; the choice is in that of training.
    assert 'unlabelled' not in plain.to_dict()['policy']
    assert plain.training_fingerprint() != protocol.training_fingerprint()
    ids = protocol.taxonomy.mask_ids
    assert protocol.train_table(1)[list(ids)].tolist() == [0, 0, 2, 0]
    assert plain.train_table(1)[list(ids)].tolist() == [255, 255, 2, 255]
    # At step 0 there are no old classes, and a test never has such labels.
    assert protocol.train_table(0)[list(ids)].tolist() == [0, 1, 255, 255]
    assert protocol.test_table(1)[list(ids)].tolist() == [0, 1, 2, 255]
    # In an exemplar 0 is class 0 itself, and classes that it does not label are void.
    assert protocol.exemplar_table(2, (0, 2))[list(ids)].tolist() == [0, 255, 2, 255]
    own = ('sky', 'horse')
    found = meaning(dict(void_ids=[9]), protocol.taxonomy, own)
    assert found.unlabelled == {0} and found.table[0] == 255
    assert not meaning(dict(unlabelled='void'), protocol.taxonomy, own).unlabelled
    assert not meaning(dict(void_ids=[0]), protocol.taxonomy, own).unlabelled
    sequential = build_protocol(
        {**settings, **dict(name='p', dataset='d', setting='sequential')}
        | dict(steps=[['cat', 'dog'], *steps], policy=dict(unlabelled='old')),
        (),
    )
    assert not sequential.old_labels_hidden


def test_ids_of_the_config_that_nobody_labelled():
    listed = dict(name='p', dataset='d', steps=[['cat', 'dog'], ['horse']], labels=dict(horse=3))
    settings = dict(checkpoint=dict(classes=['cat', 'dog']), void_ids=[7])
    built = build_protocol({**listed, **settings, 'policy': dict(unlabelled='old')}, ())
    assert built.taxonomy.unlabelled == (0,)
    assert built.train_table(1)[[0, 3, 7, 255]].tolist() == [0, 2, 255, 255]
    assert built.test_table(1)[[0, 3, 7]].tolist() == [255, 2, 255]
    void = build_protocol({**listed, **settings}, ())
    assert void.train_table(1)[[0, 3, 7]].tolist() == [255, 2, 255]


@pytest.mark.parametrize(
    ('data', 'classes', 'message'),
    [
        (dict(class_map=dict(ponny='horse')), ('pony',), r"'ponny'.*did you mean 'pony'"),
        (dict(class_map=dict(pony='hors')), ('pony',), r"'hors'.*did you mean 'horse'"),
        (dict(labels=dict(hors=3)), (), r"'hors'.*did you mean 'horse'"),
        (dict(labels=dict(horse=3), void_ids=[3]), (), 'the id 3 is of .horse. in labels and in'),
        ({}, (), 'tells no classes'),
    ],
)
def test_what_contradicts_is_refused(data, classes, message):
    with pytest.raises(InputError, match=message):
        meaning(data, protocol(step('horse')).taxonomy, classes)


@pytest.mark.parametrize(
    ('value', 'message'),
    [
        ('x', 'data must be a dict'),
        (dict(train=TRAIN, ids={}), "no setting 'ids'"),
        (dict(train='x'), 'must be the config of a data set'),
        (dict(test=TRAIN), 'data has no train'),
        (dict(train=TRAIN, name='a::b'), 'must be a word'),
        (dict(train=TRAIN, labels=dict(a=1), class_map=dict(b='a')), 'take one of them out'),
        (dict(train=TRAIN, labels=dict(a=True)), 'must give the mask ids'),
        (dict(train=TRAIN, labels={}), 'must give the mask ids'),
        (dict(train=TRAIN, labels=dict(a=1, b=[2, 1])), 'give the id 1 to a and b'),
        (dict(train=TRAIN, class_map=['a']), 'must be a dict such as'),
        (dict(train=TRAIN, void_ids=['a']), 'void_ids must be a list of mask ids'),
        (dict(train=TRAIN, old_labels='maybe'), "write 'hidden' or 'used'"),
    ],
)
def test_what_is_not_well_described_is_refused(value, message):
    with pytest.raises(InputError, match=message):
        read_data(value, 'x', 'here')


def test_whether_the_config_has_data_for_any_step():
    data = dict(train=TRAIN)
    whole = [['cat'], dict(classes=['dog'], data=data)]
    assert uses_config_dataset(dict(steps=whole))
    assert not uses_config_dataset(dict(steps=whole, checkpoint=dict(classes=['cat'])))
    assert uses_config_dataset(dict(steps=[*whole, ['cow']], checkpoint={}))
    assert not uses_config_dataset(dict(steps=[dict(classes=['cat'], data=data)]))
    assert uses_config_dataset(dict(name='voc_15-1'))
    assert uses_config_dataset(dict(steps=[['cat'], ['dog']], checkpoint=dict(classes=['cat'])))
    domains = [dict(name='day'), dict(name='night', data=data)]
    assert uses_config_dataset(dict(domains=domains))
    assert not uses_config_dataset(dict(domains=domains, checkpoint={}))
    domains[0]['pattern'] = 'day/*'
    assert uses_config_dataset(dict(domains=domains, checkpoint={}))


def test_a_later_data_set_leaves_the_beginning_as_it_was():
    def beginning_of(built, last):
        return beginning(json.loads(json.dumps(built.to_dict())), last)

    plain, longer = protocol(['dog']), protocol(['dog'], step('horse'))
    assert beginning_of(plain, 1) == beginning_of(longer, 1)
    assert longer.beginning_fingerprint(1) == plain.beginning_fingerprint(1)
    first, other = (protocol(step('horse', labels=dict(horse=i))) for i in (3, 4))
    assert beginning_of(first, 1) != beginning_of(other, 1)
    assert beginning_of(first, 0) == beginning_of(other, 0)
    assert first.fingerprint() != other.fingerprint()
    # Where the files lie does not matter, what the masks mean does.
    moved = protocol(dict(classes=['horse'], data=dict(train=dict(TRAIN, data_root='elsewhere'))))
    assert moved.fingerprint() == protocol(step('horse')).fingerprint()


def test_domains_of_other_data_sets_are_told_by_data_set():
    data = dict(train=TRAIN)
    cfg = dict(
        name='p',
        dataset='d',
        domains=[
            dict(name='a', pattern='x/*'),
            dict(name='b', pattern='y/*'),
            dict(name='c', data=data),
            dict(name='d', data=dict(data, name='far'), pattern='x/*'),
        ],
        strict=False,
    )
    built = build_protocol(cfg, CLASSES)
    names = ['x/1', 'y/1', 'z/1', 'c::x/1', 'c::q', 'far::x/1', 'far::y/1']
    assert built.image_domains(names).tolist() == [0, 1, -1, 2, 2, 3, -1]
    assert [step.data for step in built.steps] == [(0,), (0,), (1,), (2,)]
    with pytest.raises(InputError, match='nothing tells the classes of the walk'):
        build_protocol(dict(name='p', domains=[dict(name='c', data=data)]))


def test_a_class_of_the_network_is_not_learnt_again():
    with pytest.raises(InputError, match='knows already'):
        protocol(step('cat'), checkpoint=dict(classes=['background', 'cat']))
    with pytest.raises(InputError, match='listed twice'):
        protocol(step('horse'), step('horse', void_ids=[4]))


def test_a_digest_tells_meanings_apart():
    digests = {
        OwnData('x', {}, **change).digest()
        for change in (
            {},
            dict(void_ids=(3,)),
            dict(labels=dict(cat=(1,))),
            dict(class_map=dict(a='cat')),
            dict(unlabelled='void'),
            dict(old_labels='used'),
        )
    }
    assert len(digests) == 6
