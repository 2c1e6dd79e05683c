"""The view of a dataset at a step: images, labels, randomness, errors."""

import itertools
import pickle
import random

import numpy as np
import pytest
import torch
from dataset_fakes import LOAD, PACK, ade_tree, cityscapes_tree, draw_mask, save_mask, voc_tree
from mmengine.dataset import pseudo_collate
from torch.utils.data import DataLoader

from mmseg_cil.datasets import GlobalPositionSampler, IncrementalDataset, SampleKey
from mmseg_cil.errors import InputError
from mmseg_cil.registry import DATASETS

# voc_15-1: step 0 knows the ids 0..15, step 1 adds 16, ..., step 5 adds 20.
CONTENTS = {
    'old': [0, 1, 15],
    'both': [0, 15, 16],
    'new': [0, 16],
    'later': [0, 16, 20],
    'empty': [0],
}
AUGMENT = [
    dict(type='RandomResize', scale=(64, 48), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(20, 20)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
]


@pytest.fixture
def voc(tmp_path):
    return voc_tree(tmp_path / 'voc', CONTENTS)


def view(config, step=0, split='train', name='voc_15-1', **kwargs):
    protocol = dict(name=name, **kwargs.pop('protocol', {}))
    return IncrementalDataset(config, protocol, step, split, **kwargs)


def labels(sample):
    return sample['data_samples'].gt_sem_seg.data[0].numpy()


def test_images_of_overlapped_and_disjoint_steps(voc):
    assert view(voc, 0).image_names == ['old', 'both']
    assert view(voc, 1).image_names == ['both', 'new', 'later']
    disjoint = view(voc, 1, protocol=dict(setting='disjoint'))
    assert disjoint.image_names == ['both', 'new']
    assert disjoint.images_of_step() == disjoint.image_names
    # Any other step can be asked for, and steps without images do not hurt.
    assert [len(view(voc, 0).images_of_step(step)) for step in range(6)] == [2, 3, 0, 0, 0, 1]
    assert view(voc, 0, 'test').image_names == ['old', 'both']
    assert view(voc, 5, 'test').image_names == ['old', 'both', 'new', 'later']


def test_labels_are_the_model_ids_of_the_step(voc):
    mask = draw_mask(CONTENTS['later']).astype(int)
    train = view(voc, 1)
    seen = labels(train[train.image_names.index('later')])
    # Only what is new keeps its label; 16 is the 17th output.
    assert np.array_equal(seen, np.where(mask == 16, 16, np.where(mask == 255, 255, 0)))
    both = labels(train[train.image_names.index('both')])
    assert sorted(np.unique(both)) == [0, 16, 255]
    test = view(voc, 1, 'test')
    assert sorted(np.unique(labels(test[test.image_names.index('both')]))) == [0, 15, 16, 255]
    assert sorted(np.unique(labels(test[test.image_names.index('later')]))) == [0, 16, 255]


def test_metainfo_names_the_seen_classes_in_model_order(voc):
    protocol = dict(class_order=[0, *range(20, 0, -1)])
    meta = view(voc, 0, protocol=protocol).metainfo
    assert meta['classes'][:3] == ('background', 'tvmonitor', 'train')
    assert len(meta['classes']) == len(meta['palette']) == 16
    assert meta['palette'][:2] == [[0, 0, 0], [0, 64, 128]]
    colours = view(voc, 0).palette_by_name()
    assert len(colours) == 21 and colours['tvmonitor'] == [0, 64, 128]


def run_loader(dataset, workers, count=4, rank=0, world_size=1):
    sampler = GlobalPositionSampler(dataset, seed=1)
    sampler.rank, sampler.world_size = rank, world_size
    loader = DataLoader(dataset, 2, sampler=sampler, num_workers=workers, collate_fn=pseudo_collate)
    batches = list(itertools.islice(iter(loader), count))
    return [
        (image, labels(dict(data_samples=sample)))
        for batch in batches
        for image, sample in zip(batch['inputs'], batch['data_samples'], strict=True)
    ]


def same(first, second):
    return len(first) == len(second) and all(
        torch.equal(a, b) and np.array_equal(x, y)
        for (a, x), (b, y) in zip(first, second, strict=True)
    )


def test_samples_depend_neither_on_workers_nor_on_ranks(voc):
    pipeline = [*LOAD, *AUGMENT, PACK]
    alone = run_loader(view(voc, 1, pipeline=pipeline), 0)
    random.seed(99), np.random.seed(99), torch.manual_seed(99)
    assert same(alone, run_loader(view(voc, 1, pipeline=pipeline), 2))
    ranks = [run_loader(view(voc, 1, pipeline=pipeline), 0, 2, rank, 2) for rank in (0, 1)]
    assert same(alone, [sample for pair in zip(*ranks, strict=True) for sample in pair])
    assert not same(alone, run_loader(view(voc, 1, pipeline=pipeline, seed=1), 0))
    # The same image comes out differently at another place and at another step.
    crops = [view(voc, 1, pipeline=pipeline)[SampleKey(0, place)] for place in range(3)]
    assert not torch.equal(crops[0]['inputs'], crops[1]['inputs'])
    again = view(voc, 0, pipeline=pipeline)[SampleKey(1, 0)]
    assert again['data_samples'].img_path == crops[0]['data_samples'].img_path
    assert not torch.equal(crops[0]['inputs'], again['inputs'])


def states():
    return random.random(), np.random.rand(), torch.rand(1).item()


def test_the_random_state_of_the_caller_is_left_alone(voc):
    dataset = view(voc, 1, pipeline=[*LOAD, *AUGMENT, PACK])

    def seed_all():
        random.seed(4), np.random.seed(4), torch.manual_seed(4)

    seed_all()
    expected = states()
    seed_all()
    dataset[SampleKey(1, 12)]
    assert states() == expected


def test_plain_indices_repeat_in_a_test_and_vary_in_training(voc):
    pipeline = [*LOAD, *AUGMENT, PACK]
    test = view(voc, 1, 'test', pipeline=pipeline)
    assert torch.equal(test[2]['inputs'], test[2]['inputs'])
    assert torch.equal(test[-1]['inputs'], test[len(test) - 1]['inputs'])
    train = view(voc, 1, pipeline=pipeline)
    assert not torch.equal(train[2]['inputs'], train[2]['inputs'])
    with pytest.raises(IndexError):
        test[len(test)]


def test_wrappers_and_lists_pool_and_weigh(tmp_path):
    first = voc_tree(tmp_path / 'a', {'x': [0, 1], 'y': [0, 16]})
    second = voc_tree(tmp_path / 'b', {'z': [0, 2]})
    concat = dict(
        type='ConcatDataset',
        datasets=[dict(type='RepeatDataset', dataset=first, times=3), second],
    )
    assert view(concat).image_names == ['x', 'x', 'x', 'z']
    assert view([first, second]).image_names == ['x', 'z']
    # A test counts every image once.
    assert view(concat, split='test').image_names == ['x', 'z']
    assert labels(view(concat)[3]).shape == (24, 32)
    info = view(concat).get_data_info(-1)
    assert info['img_path'].endswith('b/JPEGImages/z.jpg') and info['sample_idx'] == 3


def test_many_repeats_cost_next_to_nothing_and_are_passed_over_once(voc):
    repeated = view(dict(type='RepeatDataset', dataset=voc, times=40_000), 1)
    once = view(voc, 1)
    assert len(repeated) == 40_000 * len(once) == 120_000
    assert len(pickle.dumps(repeated)) < 3_000_000
    for index in (0, 39_999, 40_000, -1):
        info, expected = repeated.get_data_info(index), once.get_data_info(index // 40_000 % 3)
        assert info.pop('sample_idx') == index % 120_000
        expected.pop('sample_idx')
        assert info == expected
    assert repeated.step_indices() == [0, 40_000, 80_000]
    assert repeated.image_names[39_998:40_002] == ['both', 'both', 'new', 'new']
    assert np.array_equal(repeated.presence()[[0, -1]], once.presence()[[0, -1]])
    few = repeated.few_images(2)
    assert few.image_names == ['both', 'both'] and len(few) == 2


def test_classes_that_metainfo_leaves_out_are_void(voc):
    """As MMSegmentation has it, and its stock config of Mapillary with 65 of 66 classes needs."""
    names = list(DATASETS.get('PascalVOCDataset').METAINFO['classes'])
    kept = [name for name in names if name not in ('person', 'tvmonitor')]
    narrowed = dict(voc, metainfo=dict(classes=kept, palette=[[1, 2, 3]] * 19))
    steps = [[names[0], *names[1:15]], [names[16]]]
    dataset = view(narrowed, 1, name='mine', protocol=dict(dataset='mine', steps=steps))
    # Nothing is learnt of person (15) and tvmonitor (20), and no image is chosen for them.
    assert dataset.image_names == ['both', 'new', 'later']
    assert dataset.protocol.known_mask_ids() == {*range(21), 255}
    assert (dataset.protocol.train_table(1)[[15, 16, 20]] == [255, 15, 255]).all()
    assert dataset.metainfo['palette'][15] == [0, 64, 0]
    with pytest.raises(InputError, match='reorders'):
        view(dict(voc, metainfo=dict(classes=kept[::-1])), 1)


def test_a_pass_keeps_what_weighs_more(tmp_path):
    first, second = (voc_tree(tmp_path / name, {name: [0, 1]}) for name in 'ab')
    concat = dict(
        type='ConcatDataset', datasets=[dict(type='RepeatDataset', dataset=first, times=2), second]
    )
    assert view(concat).step_indices() == [0, 1, 2]
    assert view(first).step_indices() == [0]


def test_datasets_of_different_classes_cannot_be_pooled(tmp_path):
    voc = voc_tree(tmp_path / 'a', {'x': [0, 1]})
    city = cityscapes_tree(tmp_path / 'c', 'train', {'ulm/ulm_000000_000001': [0]})
    with pytest.raises(InputError, match='same classes'):
        view([voc, city])


def test_ade20k_masks_are_read_raw(tmp_path):
    """MMSegmentation would shift the ids and lose 0, 'other objects'."""
    config = ade_tree(tmp_path, {'a': [0, 1, 150], 'b': [3, 101]})
    dataset = view(config, 1, name='ade20k_100-50')
    assert dataset.image_names == ['a', 'b']
    mask = draw_mask([0, 1, 150], (48, 40), void=False)
    assert np.array_equal(labels(dataset[0]), np.where(mask == 150, 150, 0))
    first = view(config, 0, name='ade20k_100-50')
    assert np.array_equal(labels(first[0]), np.where(mask == 1, 1, 0))
    meta = first.metainfo
    assert meta['classes'][:2] == ('background', 'wall') and len(meta['classes']) == 101
    assert meta['palette'][:2] == [[0, 0, 0], [120, 120, 120]]
    assert dataset[0]['data_samples'].reduce_zero_label is False


@pytest.mark.parametrize('kind', ['LoadAnnotations', 'mmseg.LoadAnnotations'])
def test_reduce_zero_label_in_the_pipeline_is_dropped_or_refused(tmp_path, kind):
    config = ade_tree(tmp_path, {'a': [0, 1, 150]})
    load = dict(type=kind, reduce_zero_label=True)
    pipeline = [LOAD[0], load, PACK]
    dataset = view(config, 1, name='ade20k_100-50', pipeline=pipeline)
    assert sorted(np.unique(labels(dataset[0]))) == [0, 150]
    assert load == dict(type=kind, reduce_zero_label=True)
    voc = voc_tree(tmp_path / 'voc', CONTENTS)
    with pytest.raises(InputError, match='reduce_zero_label=True, the dataset says False'):
        view(voc, pipeline=pipeline)


def test_cityscapes_by_class(tmp_path):
    contents = {'ulm/ulm_000000_000001': [0, 13], 'jena/jena_000000_000002': [14, 18]}
    config = cityscapes_tree(tmp_path, 'train', contents)
    dataset = view(config, 1, name='cityscapes_14-1')
    assert dataset.image_names == ['jena/jena_000000_000002']
    # Class 14 of the masks is the 15th class, after an added background.
    assert sorted(np.unique(labels(dataset[0]))) == [0, 15, 255]
    assert dataset.metainfo['classes'][0] == 'background'
    assert dataset.metainfo['palette'][:2] == [[0, 0, 0], [128, 64, 128]]


def test_cityscapes_by_city_pools_both_lists_and_marks_the_domain(tmp_path):
    cities = ('aachen', 'hamburg', 'ulm')
    train = {
        f'{city}/{city}_{number:06d}_000019': [0, 10] for city in cities for number in range(10)
    }
    val = {f'lindau/lindau_{number:06d}_000019': [0, 18] for number in range(10)}
    pooled = [
        cityscapes_tree(tmp_path, 'train', train),
        cityscapes_tree(tmp_path, 'val', val),
    ]
    walk = dict(name='cityscapes_domain_11-5', skip_empty=True)
    sizes = [len(view(pooled, step, **walk)) for step in range(3)]
    assert sizes == [8, 8, 16]
    test = view(pooled, 2, 'test', **walk)
    domains = {
        test.image_names[row].split('/')[0]: test[row]['data_samples'].cil_domain
        for row in range(len(test))
    }
    assert domains == {'aachen': 0, 'hamburg': 1, 'ulm': 2, 'lindau': 2}
    assert sorted(np.unique(labels(test[0]))) == [0, 10, 255]
    trained = {name for step in range(3) for name in view(pooled, step, **walk).image_names}
    assert not trained & set(test.image_names)


def test_listed_protocol_over_any_dataset(tmp_path):
    config = voc_tree(tmp_path, {'x': [0, 1], 'y': [1, 2]})
    config.update(
        type='BaseSegDataset',
        metainfo=dict(classes=('ground', 'car', 'tree'), palette=[[9, 9, 9], [1, 2, 3], [4, 5, 6]]),
    )
    steps = [['ground', 'car'], ['tree']]
    protocol = dict(steps=steps, dataset='mine', background='first')
    dataset = view(config, 1, name='mine', protocol=protocol)
    assert dataset.image_names == ['y']
    assert sorted(np.unique(labels(dataset[0]))) == [0, 2, 255]
    assert dataset.metainfo['palette'] == [[9, 9, 9], [1, 2, 3], [4, 5, 6]]


def test_step_without_images_is_an_error_that_shows_the_way_on(voc):
    with pytest.raises(InputError) as error:
        len(view(voc, 2))
    text = str(error.value)
    assert 'step 2 of voc_15-1 (overlapped) has no training image' in text
    assert 'sheep' in text and 'skip_empty_steps=True' in text
    assert len(view(voc, 2, skip_empty=True)) == 0


def test_step_that_has_nothing_to_train_may_be_empty(voc):
    assert len(view(voc, 0, name='voc_1-1')) == 0
    assert len(view(voc, 0, 'test', name='voc_1-1')) == 5


def test_wrong_arguments_are_refused(voc):
    with pytest.raises(InputError, match='split'):
        view(voc, split='val')
    with pytest.raises(InputError, match='step'):
        view(voc, 6)
    with pytest.raises(InputError, match='seed'):
        view(voc, seed=-1)
    with pytest.raises(InputError, match='PackSegInputs'):
        view(voc, pipeline=LOAD)
    with pytest.raises(InputError, match='type'):
        view(dict(data_root='x'))
    with pytest.raises(InputError, match='MultiImageMixDataset'):
        view(dict(type='MultiImageMixDataset', dataset=voc, pipeline=[]))
    with pytest.raises(InputError, match=r'metainfo\.classes'):
        view(dict(voc, metainfo=dict(classes=('cat', 'background'))))


def test_wrong_data_is_refused(voc, tmp_path):
    with pytest.raises(InputError, match=r'PascalVOCDataset .* missing'):
        view(dict(voc, data_root=str(tmp_path / 'nowhere')))
    empty = tmp_path / 'voc/ImageSets/Segmentation/none.txt'
    empty.write_text('')
    with pytest.raises(InputError, match=r'none\.txt names no image'):
        len(view(dict(voc, ann_file=str(empty))))
    no_masks = dict(voc, data_prefix=dict(img_path='JPEGImages'))
    with pytest.raises(InputError, match='no mask'):
        len(view(no_masks))
    save_mask(tmp_path / 'voc/SegmentationClass/empty.png', draw_mask([0, 77]))
    with pytest.raises(InputError, match=r'(?s)voc_15-1 does not know: \[77\].*empty\.png: \[77\]'):
        len(view(voc))


def test_missing_image_folder_is_refused(tmp_path):
    config = ade_tree(tmp_path, {'a': [0, 1]})
    config['data_prefix'] = dict(img_path='images/no', seg_map_path='annotations/training')
    with pytest.raises(InputError, match='ADE20KDataset'):
        len(view(config, name='ade20k_100-50'))


def test_only_the_chosen_images_travel_to_workers(tmp_path):
    contents = {f'{number:04d}': [0, 1 if number < 3 else 20] for number in range(300)}
    config = voc_tree(tmp_path, contents)
    dataset = view(config)
    assert len(dataset) == 3 and len(dataset.images_of_step(5)) == 297
    sent = pickle.dumps(dataset)
    assert b'0002' in sent and b'0200' not in sent
    copy = pickle.loads(sent)
    assert torch.equal(copy[SampleKey(1, 5)]['inputs'], dataset[SampleKey(1, 5)]['inputs'])
    assert copy.images_of_step(5) == dataset.images_of_step(5)


def test_time_augmentation_maps_labels_too(voc):
    pipeline = [
        LOAD[0],
        dict(
            type='TestTimeAug',
            transforms=[
                [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)],
                [LOAD[1]],
                [PACK],
            ],
        ),
    ]
    test = view(voc, 1, 'test', pipeline=pipeline)
    samples = test[test.image_names.index('later')]['data_samples']
    assert len(samples) == 2
    for sample in samples:
        assert sorted(np.unique(sample.gt_sem_seg.data)) == [0, 16, 255]
        assert sample.cil_domain == 0


def test_it_is_registered_and_indexes_beside_the_data(voc, tmp_path):
    config = dict(
        type='IncrementalDataset', dataset=voc, protocol=dict(name='voc_15-1'), step=0,
        split='train', cache_dirs=[str(tmp_path / 'work')],
    )  # fmt: skip
    assert len(DATASETS.build(config)) == 2
    assert list((tmp_path / 'voc/.mmseg_cil').glob('index_*.npz'))
    assert not (tmp_path / 'work').exists()
