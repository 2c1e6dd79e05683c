"""The sampler: positions over all ranks, and skipping."""

import itertools

import pytest
from mmengine.dataset import InfiniteSampler
from torch.utils.data import DataLoader

from mmseg_cil.datasets import sampler as sampler_module
from mmseg_cil.datasets.sampler import GlobalPositionSampler, SampleKey
from mmseg_cil.errors import InputError
from mmseg_cil.registry import DATA_SAMPLERS


def make(rank=0, world_size=1, size=7, **kwargs):
    """A sampler as it would be on a rank of several."""
    sampler = GlobalPositionSampler(range(size), seed=5, **kwargs)
    sampler.rank, sampler.world_size = rank, world_size
    return sampler


def first(sampler, count):
    return list(itertools.islice(iter(sampler), count))


def test_order_is_that_of_the_infinite_sampler():
    keys = first(make(), 30)
    plain = list(itertools.islice(iter(InfiniteSampler(range(7), seed=5)), 30))
    assert [key.index for key in keys] == plain
    assert [key.position for key in keys] == list(range(30))


@pytest.mark.parametrize('world_size', [2, 3])
def test_ranks_share_the_batches_of_one_process(world_size):
    batch = 4
    alone = first(make(), 5 * world_size * batch)
    ranks = [first(make(rank, world_size), 5 * batch) for rank in range(world_size)]
    for iteration in range(5):
        part = slice(iteration * batch, (iteration + 1) * batch)
        together = {key for keys in ranks for key in keys[part]}
        start = iteration * world_size * batch
        assert together == set(alone[start : start + world_size * batch])


@pytest.mark.parametrize('parent_skips', [True, False])
def test_skipping_equals_consuming(monkeypatch, parent_skips):
    """MMEngine 0.10.7 has no ``skip``; the maintained fork has."""
    if not parent_skips:
        monkeypatch.delattr(InfiniteSampler, 'skip', raising=False)
    whole = first(make(1, 2), 40)
    skipped = make(1, 2)
    skipped.skip(17)
    assert first(skipped, 23) == whole[17:]
    # The place is counted from the start, wherever the sampler stands.
    skipped.skip(3)
    assert first(skipped, 5) == whole[3:8]
    with pytest.raises(ValueError, match='negative'):
        skipped.skip(-1)


def test_unshuffled_positions_run_through_the_images():
    assert first(make(shuffle=False), 9)[6:] == [(6, 6), (0, 7), (1, 8)]


def test_empty_dataset_does_not_hang():
    with pytest.raises(InputError, match='empty'):
        first(make(size=0), 1)


def test_data_loader_hands_the_keys_to_the_dataset():
    class Echo:
        def __len__(self):
            return 7

        def __getitem__(self, key):
            assert isinstance(key, SampleKey)
            return key.index, key.position

    loader = DataLoader(Echo(), batch_size=3, sampler=make(), num_workers=1, collate_fn=list)
    batches = list(itertools.islice(iter(loader), 2))
    assert [item for batch in batches for item in batch] == first(make(), 6)


def test_it_is_registered():
    built = DATA_SAMPLERS.build(dict(type='GlobalPositionSampler', dataset=range(3), seed=0))
    assert type(built) is sampler_module.GlobalPositionSampler


@pytest.mark.parametrize(('size', 'batch'), [(7, 3), (10, 4), (9, 3), (8, 8), (9, 8)])
def test_passes_end_with_their_last_whole_batch(size, batch):
    used = size // batch * batch
    keys = first(make(size=size, whole_batches=batch), 6 * used)
    plain = [key.index for key in first(make(size=size), 6 * size)]
    for number in range(6):
        seen = [key.index for key in keys[number * used : (number + 1) * used]]
        # The same orders as ever, each without its end: no image comes twice in a pass.
        assert seen == plain[number * size : number * size + used]
        assert len(set(seen)) == used
    assert [key.position for key in keys] == list(range(6 * used))


def test_fewer_images_than_a_batch_go_over_the_end_of_a_pass():
    assert first(make(whole_batches=8), 30) == first(make(), 30)


def test_ranks_share_whole_batches_and_skip_to_them():
    alone = first(make(size=11, whole_batches=4), 24)
    ranks = [first(make(rank, 2, size=11, whole_batches=4), 12) for rank in range(2)]
    assert sorted(key for keys in ranks for key in keys) == sorted(alone)
    skipped = make(1, 2, size=11, whole_batches=4)
    skipped.skip(7)
    assert first(skipped, 5) == ranks[1][7:]
    with pytest.raises(InputError, match='whole_batches'):
        make(whole_batches=-1)
