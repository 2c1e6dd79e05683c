"""Rules that hold for every protocol, and input that breaks them."""

import numpy as np
import pytest

from mmseg_cil.errors import InputError
from mmseg_cil.protocols import Taxonomy, build_protocol, known_taxonomy
from mmseg_cil.protocols.cities import CITIES, VAL_CITIES

# Images of each city in Cityscapes' train and val folders, in the order of CITIES.
CITYSCAPES = (
    174,
    316,
    85,
    109,
    196,
    99,
    365,
    144,
    142,
    96,
    154,
    221,
    248,
    119,
    94,
    196,
    95,
    122,
    267,
    59,
    174,
)
FOUR = ('background', 'a', 'b', 'c')


def images(count=200, seed=0):
    """Random presence of VOC's mask ids, void in half of the masks."""
    rng = np.random.default_rng(seed)
    presence = np.zeros((count, 256), bool)
    presence[:, :21] = rng.random((count, 21)) < 0.1
    presence[:, 0] = True
    presence[:, 255] = rng.random(count) < 0.5
    return presence, [f'image_{i}' for i in range(count)]


def test_disjoint_images_are_overlapped_ones_without_the_future():
    presence, names = images()
    overlapped, disjoint, sequential = (
        build_protocol(dict(name='voc_10-2', setting=setting))
        for setting in ('overlapped', 'disjoint', 'sequential')
    )
    for step in overlapped.steps:
        some = overlapped.train_images(step.index, presence, names)
        fewer = disjoint.train_images(step.index, presence, names)
        expected = [i for i in some if not presence[i, list(step.future)].any()]
        assert fewer.tolist() == expected
        assert sequential.train_images(step.index, presence, names).tolist() == expected


def test_background_and_void_alone_select_nothing():
    presence, names = images(3)
    presence[:, 1:] = False
    presence[:, 255] = True
    protocol = build_protocol(dict(name='voc_15-5'))
    assert protocol.train_images(0, presence, names).size == 0
    assert protocol.test_images(0, presence, names).size == 0
    everything = build_protocol(dict(name='voc_15-5', policy=dict(test_images='all')))
    assert everything.test_images(0, presence, names).tolist() == [0, 1, 2]


def test_a_class_order_permutes_every_table_by_the_class_it_moves():
    natural = build_protocol(dict(name='voc_joint'))
    shuffled = build_protocol(dict(name='voc_joint', class_order=dict(seed=7)))
    order = np.array(shuffled.steps[0].new)
    assert order[0] == 0 and sorted(order) == list(range(21)) and (order != np.arange(21)).any()
    for table, plain in (
        (shuffled.train_table(0), natural.train_table(0)),
        (shuffled.test_table(0), natural.test_table(0)),
    ):
        assert (order[table[:21]] == plain[:21]).all() and table[255] == 255


def test_tables_of_a_later_step_by_enumeration():
    order = [0, *range(20, 0, -1)]
    protocol = build_protocol(dict(name='voc_15-1', class_order=order))
    train, test = protocol.train_table(3), protocol.test_table(3)
    step = protocol.steps[3]
    assert step.new == (3,) and step.future == (1, 2)
    for mask_id in range(21):
        assert train[mask_id] == (18 if mask_id == 3 else 0)
        assert test[mask_id] == (order.index(mask_id) if mask_id in step.seen else 0)
    assert protocol.class_steps(3) == (0,) * 16 + (1, 2, 3)


def test_the_fingerprint_follows_data_and_labels_alone():
    base = build_protocol(dict(name='voc_15-1')).fingerprint()
    for same in (
        dict(policy=dict(old='base')),
        dict(policy=dict(background_in_means=False)),
        dict(class_order=list(range(21))),
        dict(counting='foreground'),
    ):
        assert build_protocol(dict(same, name='voc_15-1')).fingerprint() == base
    for other in (
        dict(setting='disjoint'),
        dict(preset='mib'),
        dict(class_order=dict(seed=1)),
        dict(policy=dict(test_images='all')),
    ):
        assert build_protocol(dict(other, name='voc_15-1')).fingerprint() != base
    clean, legacy = (
        build_protocol(dict(name='cityscapes_domain_1-1', split=split))
        for split in ('clean', 'legacy')
    )
    assert clean.fingerprint() != legacy.fingerprint()


def test_the_domain_fingerprint_follows_the_content_of_a_list_file(tmp_path):
    listed = tmp_path / 'day.txt'
    cfg = dict(
        name='light',
        dataset='mine',
        domains=[dict(name='day', list_file=str(listed)), dict(name='night', pattern=['night/*'])],
    )
    prints = []
    for content in ('a.png\nb.png\n', 'b.jpg\n./a\n\n', 'a\n'):
        listed.write_text(content)
        prints.append(build_protocol(cfg, FOUR).fingerprint())
    assert prints[0] == prints[1] != prints[2]


def test_the_real_number_of_images_of_each_city_gives_the_published_sizes_and_leak():
    names = [
        f'{"val" if city in VAL_CITIES else "train"}/{city}/{city}_{i:06d}_000019_leftImg8bit'
        for city, count in zip(CITIES, CITYSCAPES, strict=True)
        for i in range(count)
    ]
    presence = np.zeros((len(names), 256), bool)
    assert len(names) == 3475
    for sizes, leak in (('11-5', 0.714), ('11-1', 0.721), ('1-1', 0.778)):
        protocol = build_protocol(dict(name=f'cityscapes_domain_{sizes}', split='legacy'))
        trained = [protocol.train_images(k, presence, names) for k in range(len(protocol.steps))]
        tested = protocol.test_images(len(protocol.steps) - 1, presence, names)
        assert len(tested) == 695
        if sizes == '11-5':
            assert [len(t) for t in trained] == [1504, 702, 573]
        assert np.isin(tested, np.concatenate(trained)).mean() == pytest.approx(leak, abs=5e-4)


def test_the_clean_split_holds_four_fifths_of_each_city_in_any_order_and_folder():
    names = [
        f'{city}/{city}_{i:06d}_000019_leftImg8bit'
        for city, count in zip(CITIES, CITYSCAPES, strict=True)
        for i in range(count)
    ]
    presence = np.zeros((len(names), 256), bool)
    protocol = build_protocol(dict(name='cityscapes_domain_1-1'))
    backwards = [f'val/{name}' for name in names[::-1]]
    for k, count in enumerate(CITYSCAPES):
        chosen = protocol.train_images(k, presence, names)
        assert len(chosen) == int(0.8 * count)
        again = protocol.train_images(k, presence, backwards)
        assert {names[i] for i in chosen} == {backwards[i][4:] for i in again}


def test_a_taxonomy_of_any_dataset_tells_what_mask_values_mean():
    first = Taxonomy.from_classes('x', FOUR)
    assert first.mask_ids == (0, 1, 2, 3) and not first.background_added
    added = Taxonomy.from_classes('x', FOUR[1:])
    assert added.names == FOUR and added.mask_ids == (None, 0, 1, 2)
    reduced = Taxonomy.from_classes('x', FOUR[1:], reduce_zero_label=True)
    assert reduced.names == FOUR and reduced.mask_ids == (0, 1, 2, 3)
    without = Taxonomy.from_classes('x', FOUR[1:], reduce_zero_label=True, domain=True)
    assert without.mask_ids == (1, 2, 3) and without.void_ids == (0, 255)
    with pytest.raises(InputError, match='named twice'):
        Taxonomy.from_classes('x', ('a', 'b', ' a'))
    with pytest.raises(InputError, match='different numbers from 0 to 255'):
        Taxonomy.from_classes('x', [f'c{i}' for i in range(256)], background='none')


def test_the_known_classes_are_those_of_mmsegmentation():
    from mmseg.datasets import ADE20KDataset, CityscapesDataset, PascalVOCDataset

    for dataset, own in (
        ('voc', PascalVOCDataset),
        ('ade20k', ADE20KDataset),
        ('cityscapes', CityscapesDataset),
    ):
        taxonomy = known_taxonomy(dataset)
        expected = [name.strip() for name in own.METAINFO['classes']]
        assert list(taxonomy.names[taxonomy.background_added :]) == expected


def test_without_a_background_what_is_not_learnt_now_is_ignored():
    protocol = build_protocol(dict(name='x_2-1', dataset='x', background='none'), ('a', 'b', 'c'))
    assert protocol.train_table(1)[:3].tolist() == [255, 255, 2]
    assert protocol.test_table(0)[:3].tolist() == [0, 1, 255]
    assert not protocol.old_labels_hidden


def test_domains_never_hide_labels_and_keep_the_outputs():
    protocol = build_protocol(dict(name='cityscapes_domain_11-5', setting='overlapped'))
    for step in protocol.steps:
        assert step.seen == tuple(range(19)) and protocol.trains(step.index)
        assert (protocol.train_table(step.index) == protocol.test_table(step.index)).all()
    assert protocol.setting == 'sequential' and not protocol.old_labels_hidden


MINE = dict(name='m', dataset='mine')
DAY = dict(name='day', pattern='day/*')


@pytest.mark.parametrize(
    ('cfg', 'message'),
    [
        (dict(name='vocc_15-1'), r'Near to it: .*voc_15-1.*There are voc_X-Y, ade20k_X-Y'),
        (dict(name='voc_20-1'), 'voc_joint'),
        (dict(name='voc_0-5'), 'X must be from 1 to 19'),
        (dict(name='cityscapes_domain_21-1'), '21 cities'),
        (dict(name='cityscapes_domain_1-1', split='dirty'), 'dirty'),
        (dict(name='voc_15-1', class_order=[*range(20)]), 'tvmonitor missing'),
        (dict(name='voc_15-1', class_order=[*range(21), 'cat']), 'cat listed twice'),
        (dict(name='voc_15-1', class_order=[1, 0, *range(2, 21)]), 'background must come first'),
        (dict(name='voc_15-1', class_order=dict(seed='x')), 'seed=NUMBER'),
        (dict(name='voc_15-1', class_order='cat'), 'must be a list'),
        (dict(name='voc_15-1', counting='both'), 'counting'),
        (dict(name='voc_15-1', settings='disjoint'), "did you mean 'setting'"),
        (dict(name='voc_15-1', dataset='ade20k'), 'make them the same'),
        (dict(name='voc_15-1', steps=[['cat']]), 'is a named one'),
        (dict(MINE, steps=[]), 'has no steps'),
        (dict(MINE, steps=[['a'], ['background']]), 'must be the first class'),
        (dict(MINE, steps=[['a'], ['bb']]), 'did you mean b'),
        (dict(MINE, steps=[['a'], [9]]), 'ids of .mine. are 0 to 3'),
        (dict(MINE, steps=[['a']], class_order=[0]), 'class_order does not go with'),
        (dict(MINE, steps=[['a']], domains=[DAY]), 'not both'),
        (dict(MINE, domains=[]), 'domains must be a list'),
        (dict(MINE, domains=[dict(name='day')]), 'pattern or a list_file'),
        (dict(MINE, domains=[dict(name='day', pattern=3)]), 'shell pattern'),
        (dict(MINE, domains=[dict(name='day', list_file=3)]), 'must be a path'),
        (dict(MINE, domains=[dict(name='day', list_file='/no/such/file')]), 'cannot read'),
        (dict(MINE, domains=[DAY, DAY]), "called 'day'"),
        (dict(MINE, domains=[DAY], domain_steps=[['night']]), "'night'"),
        (dict(MINE, domains=[DAY], domain_steps=3), 'no list'),
        (dict(MINE, domains=[DAY], domain_steps=[['day'], ['day']]), 'comes twice'),
        (dict(MINE, domains=[DAY], domain_steps=[['day'], []]), 'adds no domain'),
        (dict(name='voc_15-1', policy=dict(old='young')), "old='young'"),
        (dict(setting='disjoint'), 'must be a dict with a name'),
    ],
)
def test_wrong_requests_say_what_to_do(cfg, message):
    with pytest.raises(InputError, match=message):
        build_protocol(cfg, FOUR if cfg.get('dataset') == 'mine' else None)


def test_a_dataset_of_another_size_is_refused_and_one_of_its_layout_is_not():
    with pytest.raises(InputError, match='21 classes'):
        build_protocol(dict(name='voc_15-1'), FOUR)
    with pytest.raises(InputError, match='reduce_zero_label'):
        build_protocol(dict(name='voc_joint'), [f'c{i}' for i in range(21)], True)
    shapes = ['background', *(f'shape {i}' for i in range(20))]
    assert build_protocol(dict(name='voc_15-1'), shapes).taxonomy.names == tuple(shapes)
    with pytest.raises(InputError, match='not known here'):
        build_protocol(dict(name='m', dataset='mine', steps=[['a']]))


def test_images_of_no_city_and_listed_twice_are_refused():
    protocol = build_protocol(dict(name='cityscapes_domain_11-5'))
    presence = np.zeros((2, 256), bool)
    with pytest.raises(InputError, match='no Cityscapes city'):
        protocol.train_images(0, presence, ['berlin_000000_000019_leftImg8bit', 'aachen_1'])
    with pytest.raises(InputError, match='listed twice'):
        protocol.train_images(0, presence, ['train/aachen/aachen_1', 'aachen_1'])


def test_a_presence_matrix_of_other_images_and_a_step_out_of_range_are_refused():
    presence, names = images(4)
    protocol = build_protocol(dict(name='voc_15-5'))
    with pytest.raises(InputError, match='one row an image'):
        protocol.train_images(0, presence[:3], names)
    with pytest.raises(InputError, match='steps 0 to 1, not 2'):
        protocol.train_table(2)
