"""The view of a step that replays: which images, with which labels, how often."""

import itertools
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from dataset_fakes import cityscapes_tree, draw_mask, voc_tree
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from torch.utils.data import DataLoader

from mmseg_cil.datasets import IncrementalDataset, SampleKey
from mmseg_cil.errors import InputError
from mmseg_cil.hooks.step_images import step_batches
from mmseg_cil.memory.memory import ExemplarMemory
from mmseg_cil.memory.replay_sampler import ReplaySampler

STEPS = [['background', 'aeroplane', 'bicycle'], ['bird'], ['boat']]
#: Mask ids 1..4 are the classes above, 5 comes never.
CONTENTS = {
    'plane': [0, 1],
    'bike_bird': [0, 2, 3],
    'plane_boat': [0, 1, 4],
    'bird': [0, 3],
    'bird_boat': [0, 3, 4],
    'boat': [0, 4, 5],
    'plane_bike_bird_boat': [0, 1, 2, 3, 4],
}


@pytest.fixture
def data(tmp_path):
    init_default_scope('mmseg_cil')
    return voc_tree(tmp_path / 'voc', CONTENTS)


def protocol(setting='overlapped', **changes):
    return dict(name='mine', dataset='voc', steps=STEPS, setting=setting, **changes)


def view_of(data, tmp_path, stored, step, labels='at_replay', setting='overlapped', **changes):
    """A view of a step that replays the images in ``stored``: step by name."""
    plain = IncrementalDataset(data, protocol(setting, **changes), step, 'train')
    memory = ExemplarMemory(
        plain.protocol.training_fingerprint(), {}, step - 1, {'all': tuple(stored)}, dict(stored)
    )
    memory.save(tmp_path / 'exemplars.json')
    return IncrementalDataset(
        data,
        protocol(setting, **changes),
        step,
        'train',
        exemplars=dict(file=str(tmp_path / 'exemplars.json'), labels=labels),
    )


def test_few_images_keep_the_exemplars_that_are_asked_for(data, tmp_path):
    view = view_of(data, tmp_path, {'plane': 0, 'bike_bird': 0, 'bird_boat': 1}, 2)
    own, replayed = view.image_names[: view.num_own], view.image_names[view.num_own :]
    assert len(own) > 1 and len(replayed) == 3
    path = view.get_data_info(view.num_own + 1)['img_path']
    few = view.few_images(1, [path])
    assert few.image_names == [own[0], replayed[1]] and few.num_own == 1
    expected = view.get_data_info(view.num_own + 1)
    info = few.get_data_info(1)
    assert np.array_equal(info.pop('label_table'), expected.pop('label_table'))
    assert {**info, 'sample_idx': 0} == {**expected, 'sample_idx': 0}
    assert view.few_images(1).image_names == own[:1]
    last = view.get_data_info(len(own) - 1)['img_path']
    assert view.few_images(1, [last]).image_names == [own[0], own[-1]]
    assert len(view) == len(own) + 3


def sample_of(view, name):
    return view[view.image_names.index(name)]['data_samples']


def expected(name, label_of):
    """The mask as it should be labelled; what ``label_of`` leaves out is background."""
    table = np.zeros(256, np.uint8)
    table[255] = 255
    for mask_id, label in label_of.items():
        table[mask_id] = label
    return table[draw_mask(CONTENTS[name])]


def assert_labels(view, name, label_of, hidden=()):
    sample = sample_of(view, name)
    np.testing.assert_array_equal(sample.gt_sem_seg.data[0].numpy(), expected(name, label_of))
    assert sample.metainfo.get('cil_hidden') == hidden


def test_exemplars_show_all_classes_known_at_replay(data, tmp_path):
    view = view_of(data, tmp_path, {'plane': 0, 'bike_bird': 0, 'plane_boat': 0}, 2)
    # The step's own are bird_boat, boat and plane_bike_bird_boat, and plane_boat, which
    # comes as an exemplar.
    assert view.image_names == [
        'bird_boat',
        'boat',
        'plane_bike_bird_boat',
        'plane',
        'bike_bird',
        'plane_boat',
    ]
    assert view.num_own == 3 and len(view.images_of_step()) == 4
    everything = {1: 1, 2: 2, 3: 3, 4: 4}
    for name in ('plane', 'bike_bird', 'plane_boat'):
        assert_labels(view, name, everything)
    for name in ('bird_boat', 'boat', 'plane_bike_bird_boat'):
        assert_labels(view, name, {4: 4}, hidden=None)


def passed(view, **options):
    """Names of the images in a hook's pass over a step, and the labels they show."""
    runner = SimpleNamespace(
        seed=0, train_dataloader=DataLoader(view, batch_size=2, collate_fn=pseudo_collate)
    )
    samples = [
        sample for batch in step_batches(runner, **options) for sample in batch['data_samples']
    ]
    return [Path(sample.img_path).stem for sample in samples], samples


def test_a_pass_over_the_step_sees_no_image_of_earlier_steps(data, tmp_path):
    """VDFD's gradients and imprinting are of the step's images, whatever a memory replays."""
    stored = {'plane': 0, 'bike_bird': 0, 'plane_boat': 0}
    view = view_of(data, tmp_path, stored, 2)
    plain = IncrementalDataset(data, protocol(), 2, 'train')
    names, samples = passed(view, max_images=None)
    # One of them comes as an exemplar, and shows the new class there too.
    assert sorted(names) == sorted(plain.image_names) == sorted(view.images_of_step())
    assert 'plane_boat' in names and all(4 in sample.gt_sem_seg.data for sample in samples)
    names, _ = passed(view, max_images=2)
    assert len(names) == 2 and set(names) <= set(plain.image_names)
    assert passed(plain, max_images=None)[0] == plain.image_names
    # All images of the step may be exemplars.
    view = view_of(data, tmp_path, dict.fromkeys([*plain.image_names, 'plane'], 0), 2)
    assert view.num_own == 0
    assert sorted(passed(view, max_images=None)[0]) == sorted(plain.image_names)


def test_a_label_of_the_future_is_never_shown(data, tmp_path):
    view = view_of(data, tmp_path, {'plane_boat': 0, 'bike_bird': 0}, 1)
    assert_labels(view, 'plane_boat', {1: 1, 2: 2, 3: 3})
    assert_labels(view, 'bike_bird', {1: 1, 2: 2, 3: 3})


def test_exemplars_show_the_classes_known_at_storage(data, tmp_path):
    view = view_of(
        data,
        tmp_path,
        {'plane_bike_bird_boat': 0, 'bike_bird': 0, 'bird': 1},
        2,
        labels='at_storage',
    )
    # One of the step's own images shows the new class as well, whenever it was stored.
    assert_labels(view, 'plane_bike_bird_boat', {1: 1, 2: 2, 4: 4}, hidden=(3,))
    assert_labels(view, 'bike_bird', {1: 1, 2: 2}, hidden=(3, 4))
    assert_labels(view, 'bird', {1: 1, 2: 2, 3: 3}, hidden=(4,))


def test_what_exemplars_show_was_shown_by_some_step_before(data, tmp_path):
    """In the setting overlapped a memory adds no label to those of all steps so far."""
    for step in (1, 2):
        names = [name for name in CONTENTS if name != 'boat']
        view = view_of(data, tmp_path, dict.fromkeys(names, 0), step)
        shown = {name: np.zeros((24, 32), np.uint8) for name in CONTENTS}
        for earlier in range(step + 1):
            plain = IncrementalDataset(data, protocol(), earlier, 'train')
            for name in plain.image_names:
                labels = sample_of(plain, name).gt_sem_seg.data[0].numpy()
                shown[name] = np.maximum(shown[name], labels)
        for name in names:
            if shown[name].any():
                replayed = sample_of(view, name).gt_sem_seg.data[0].numpy()
                np.testing.assert_array_equal(replayed, shown[name])


def test_a_sequential_walk_hides_nothing(data, tmp_path):
    view = view_of(data, tmp_path, {'plane': 0}, 1, setting='sequential')
    assert_labels(view, 'plane', {1: 1, 2: 2, 3: 3})
    assert_labels(view, 'bird', {1: 1, 2: 2, 3: 3}, hidden=None)


def test_void_as_background_is_so_on_exemplars_too(data, tmp_path):
    view = view_of(data, tmp_path, {'plane': 0}, 1, policy=dict(void_train='background'))
    assert 255 not in sample_of(view, 'plane').gt_sem_seg.data


def test_augmentation_depends_on_the_position_alone(data, tmp_path):
    data['pipeline'].insert(2, dict(type='RandomCrop', crop_size=(12, 12)))
    view = view_of(data, tmp_path, {'plane': 0, 'bike_bird': 0}, 1)
    index = view.image_names.index('bike_bird')
    first, again, other = (view[SampleKey(index, place)]['inputs'] for place in (5, 5, 6))
    assert first.equal(again) and not first.equal(other)


def test_repeated_datasets_repeat_exemplars(data, tmp_path):
    view = view_of(dict(type='RepeatDataset', dataset=data, times=2), tmp_path, {'plane': 0}, 1)
    assert view.image_names[view.num_own :] == ['plane', 'plane']
    view = view_of(dict(type='RepeatDataset', dataset=data, times=2), tmp_path, {'bird': 0}, 1)
    # A pass over the step's images sees each once, also one that comes as an exemplar.
    assert sorted(view.image_names[i] for i in view.step_indices()) == sorted(
        set(view.images_of_step())
    )


def test_cities_replay_with_their_labels_and_domain(tmp_path):
    init_default_scope('mmseg_cil')
    train = cityscapes_tree(
        tmp_path / 'city',
        'train',
        {
            f'{city}/{city}_{i:06d}_000019': [i % 3, 7]
            for city in ('aachen', 'hamburg', 'zurich')
            for i in range(5)
        },
    )
    config = dict(name='cityscapes_domain_11-5')
    plain = [IncrementalDataset(train, config, step, 'train') for step in (0, 1)]
    name = plain[0].image_names[0]
    ExemplarMemory(
        plain[0].protocol.training_fingerprint(), {}, 0, {'domains of step 0': (name,)}, {name: 0}
    ).save(tmp_path / 'exemplars.json')
    view = IncrementalDataset(
        train,
        config,
        1,
        'train',
        exemplars=dict(file=str(tmp_path / 'exemplars.json'), labels='at_storage'),
    )
    assert view.image_names == [*plain[1].image_names, name]
    sample, before = sample_of(view, name), sample_of(plain[0], name)
    assert sample.gt_sem_seg.data.equal(before.gt_sem_seg.data)
    assert sample.metainfo['cil_domain'] == 0 and sample.metainfo['cil_hidden'] == ()
    assert view[0]['data_samples'].metainfo['cil_domain'] == 1


def test_an_image_that_vanished_is_named(data, tmp_path):
    view = view_of(data, tmp_path, {'plane': 0, 'gone': 0}, 1)
    with pytest.raises(InputError, match=r"1 of the 2 exemplars .* such as 'gone'"):
        view.full_init()


def test_the_memory_of_another_protocol_is_refused(data, tmp_path):
    view_of(data, tmp_path, {'plane': 0}, 1)
    other = IncrementalDataset(
        data,
        protocol('disjoint'),
        1,
        'train',
        exemplars=dict(file=str(tmp_path / 'exemplars.json'), labels='at_replay'),
    )
    with pytest.raises(InputError, match='another protocol'):
        len(other)


def test_a_damaged_memory_is_refused(data, tmp_path):
    view = view_of(data, tmp_path, {'plane': 0}, 1)
    content = json.loads((tmp_path / 'exemplars.json').read_text())
    (tmp_path / 'exemplars.json').write_text(json.dumps(content)[:-9])
    with pytest.raises(InputError, match='damaged'):
        view.full_init()


def test_two_images_of_one_name_cannot_be_kept_by_name(data, tmp_path):
    second = voc_tree(tmp_path / 'second', CONTENTS)
    view = IncrementalDataset([data, second], protocol(), 0, 'train')
    with pytest.raises(InputError, match="two images are called 'plane'"):
        view.check_names()


class Images:
    """As many own images and exemplars as asked for."""

    def __init__(self, own, exemplars):
        self.num_own, self.size = own, own + exemplars

    def __len__(self):
        return self.size


def test_a_ratio_is_the_share_of_exemplars_and_all_are_drawn_alike():
    sampler = ReplaySampler(Images(20, 5), ratio=0.4, seed=1)
    keys = list(itertools.islice(iter(sampler), 20000))
    assert [key.position for key in keys] == list(range(20000))
    counts = np.bincount([key.index for key in keys], minlength=25)
    assert counts[20:].sum() / 20000 == pytest.approx(0.4, abs=0.02)
    assert np.ptp(counts[:20]) <= 1 and np.ptp(counts[20:]) <= 1


def test_a_ratio_keeps_to_one_stream_over_ranks_and_resumes():
    keys = list(itertools.islice(iter(ReplaySampler(Images(7, 3), 0.5, seed=2)), 60))
    ranks = []
    for rank in range(2):
        sampler = ReplaySampler(Images(7, 3), 0.5, seed=2)
        sampler.rank, sampler.world_size = rank, 2
        sampler.indices = sampler._indices_of_rank()
        ranks.append(list(itertools.islice(iter(sampler), 30)))
    assert [key for pair in zip(*ranks, strict=True) for key in pair] == keys
    resumed = ReplaySampler(Images(7, 3), 0.5, seed=2)
    resumed.skip(25)
    assert list(itertools.islice(iter(resumed), 35)) == keys[25:]


@pytest.mark.parametrize('own, exemplars', [(6, 0), (0, 6)])
def test_where_one_kind_is_missing_the_other_is_drawn(own, exemplars):
    keys = list(itertools.islice(iter(ReplaySampler(Images(own, exemplars), 0.5, seed=2)), 12))
    assert sorted(key.index for key in keys) == sorted([*range(6)] * 2)
