"""Layouts, the generator, its images beside a batch, and the labels of new classes."""

import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import nn

from mmseg_cil.datasets import SampleKey
from mmseg_cil.errors import InputError
from mmseg_cil.methods.dfgr import generated_replay
from mmseg_cil.methods.dfgr.generated_replay import GeneratedReplay
from mmseg_cil.methods.dfgr.layout_generator import LayoutGenerator
from mmseg_cil.methods.dfgr.layouts import LayoutDataset, draw, random_layout
from mmseg_cil.methods.dfgr.new_data_segmentor import new_labels
from mmseg_cil.methods.dfgr.norm_tap import batch_norms, tap_statistics

MEAN, STD = [110.0, 100.0, 90.0], [60.0, 50.0, 40.0]


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg_cil')


def test_every_class_is_asked_for_alike_and_the_background_most():
    rng = np.random.default_rng(0)
    layouts = [random_layout(range(1, 6), 0, (16, 20), rng) for _ in range(400)]
    assert all(layout.shape == (16, 20) and layout.dtype == np.uint8 for layout in layouts)
    shown = np.array([[(layout == c).any() for c in range(6)] for layout in layouts]).mean(0)
    assert shown[0] > 0.9 and shown[1:].max() < 0.5
    # Each foreground class is in (1 + 2 + 3) / 3 of 5 layouts; some sites have no cell.
    assert shown[1:] == pytest.approx(np.full(5, 0.4), abs=0.09)


def test_without_a_background_only_the_drawn_classes_are_shown():
    rng = np.random.default_rng(0)
    for _ in range(50):
        assert len(np.unique(random_layout(range(4), None, (12, 12), rng, most_classes=2))) <= 2
    assert (random_layout([], 0, (8, 8), rng) == 0).all()


def test_a_layout_depends_on_its_position_alone():
    data = LayoutDataset(5, True, (16, 16), 8, seed=3, step=1)
    first, same = data[SampleKey(7, 4000)], data[SampleKey(2, 4000)]
    other = data[SampleKey(7, 4001)]
    assert all(torch.equal(first[key], same[key]) for key in ('noise', 'layout'))
    assert not torch.equal(first['noise'], other['noise'])
    assert not torch.equal(
        LayoutDataset(5, True, (16, 16), 8, seed=3, step=2)[4000]['noise'], first['noise']
    )


def generator(size=(24, 40), **options):
    torch.manual_seed(0)
    return LayoutGenerator(4, size, MEAN, STD, noise_size=8, channels=8, **options)


def test_images_could_be_photographs_and_know_nothing_of_each_other():
    network = generator()
    with torch.no_grad():
        network.exit.weight.mul_(100)
        noise, layouts = torch.randn(3, 8), torch.randint(0, 4, (3, 24, 40))
        images = network(noise, layouts)
        alone = network(noise[1:2], layouts[1:2])
    assert images.shape == (3, 3, 24, 40)
    pixels = images * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]
    assert pixels.min() > -1e-3 and pixels.max() < 255 + 1e-3 and pixels.std() > 20
    # Weights of 100 carry rounding a hundred times as far.
    torch.testing.assert_close(alone[0], images[1], rtol=0, atol=1e-3)
    back = network.from_bytes(network.to_bytes(images))
    assert ((back - images).abs().amax((0, 2, 3)) <= 0.501 / torch.tensor(STD)).all()


def test_the_layout_shapes_the_image():
    network = generator()
    noise, layouts = torch.randn(1, 8), torch.zeros(1, 24, 40, dtype=torch.uint8)
    other = layouts.clone()
    other[..., 20:] = 2
    changed = (network(noise, layouts) - network(noise, other)).abs().amax((0, 1, 2))
    assert changed[30:].mean() > changed[:10].mean()


def test_a_size_that_cannot_be_is_refused():
    with pytest.raises(InputError, match='at least 16'):
        LayoutGenerator(4, (8, 40))


def test_the_statistics_of_what_runs_are_compared():
    network = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(4)
    ).eval()
    assert len(batch_norms(network)) == 2
    maps = torch.randn(2, 3, 6, 6)
    with torch.no_grad():
        inputs = network[0](maps)
        network[1].running_mean.copy_(inputs.mean((0, 2, 3)))
        network[1].running_var.copy_(inputs.var((0, 2, 3), unbiased=False))
    with tap_statistics(network) as divergences:
        network(maps)
    # The map of one pixel is passed over.
    assert len(divergences) == 1 and divergences[0].abs().max() < 1e-5
    with tap_statistics(network) as divergences:
        network(2 * maps)
    assert divergences[0].min() > 0.01
    network(maps)
    assert len(divergences) == 1, 'hooks are gone'


@pytest.fixture
def replay(tmp_path):
    path = tmp_path / 'generator.pth'
    torch.save(dict(state_dict=generator().state_dict()), path)
    config = dict(
        type='LayoutGenerator',
        num_classes=4,
        size=(24, 40),
        mean=MEAN,
        std=STD,
        noise_size=8,
        channels=8,
    )

    def make(**options):
        made = GeneratedReplay(str(path), config, has_background=True, **options)
        made.load()
        made.set_iteration_seed(11)
        return made

    return make


def test_the_images_of_an_iteration_are_the_same_however_many_processes(replay, monkeypatch):
    for cache in (0, 5):
        alone = replay(cache=cache).images(4, torch.device('cpu'))
        parts = []
        for rank in (0, 1):
            monkeypatch.setattr(generated_replay, 'get_rank', lambda rank=rank: rank)
            parts.append(replay(cache=cache).images(2, torch.device('cpu')))
        monkeypatch.undo()
        torch.testing.assert_close(torch.cat(parts), alone, rtol=1e-4, atol=1e-5)
        other = replay(cache=cache)
        other.set_iteration_seed(12)
        assert not torch.allclose(other.images(4, torch.device('cpu')), alone)


def test_a_cache_holds_no_more_than_it_may(replay):
    cached = replay(cache=3)
    found = set()
    for seed in range(20):
        cached.set_iteration_seed(seed)
        found.update(image.sum().item() for image in cached.images(2, torch.device('cpu')))
    assert len(found) == 3
    assert cached._kept.dtype == torch.uint8 and len(cached._kept) == 3


def test_generated_images_come_after_the_real_ones_and_have_no_labels(replay):
    labels = PixelData(data=torch.ones(1, 32, 32, dtype=torch.int64))
    samples = [SegDataSample(gt_sem_seg=labels) for _ in range(4)]
    inputs = torch.randn(4, 3, 32, 32)
    images, extended, count = replay(ratio=0.5).extend(inputs, samples)
    assert count == 2 and images.shape == (6, 3, 32, 32) and len(extended) == 6
    assert torch.equal(images[:4], inputs) and extended[:4] == samples
    assert all((sample.gt_sem_seg.data == 255).all() for sample in extended[4:])
    assert replay(ratio=0.01).count(8) == 1


def test_wrong_settings_and_files_are_told(replay, tmp_path):
    with pytest.raises(InputError, match='ratio must be above 0'):
        replay(ratio=0)
    broken = replay()
    broken.checkpoint = str(tmp_path / 'none.pth')
    with pytest.raises(InputError, match=r'none.pth cannot be used'):
        broken.load()
    torch.save(dict(state_dict={}), tmp_path / 'other.pth')
    broken.checkpoint = str(tmp_path / 'other.pth')
    with pytest.raises(InputError, match=r'other.pth cannot be used'):
        broken.load()


def test_new_classes_follow_the_background():
    labels = torch.tensor([[0, 1, 2], [3, 4, 255]])
    assert new_labels(labels, 3, True).tolist() == [[0, 0, 0], [1, 2, 255]]
    assert new_labels(labels, 3, False).tolist() == [[255, 255, 255], [0, 1, 255]]
    high = torch.tensor([254, 255], dtype=torch.uint8)
    assert new_labels(high, 200, True).tolist() == [55, 255]


def test_noise_is_standard_normal():
    noise = np.stack([draw((5, place), 4, True, (4, 4), 64)[0] for place in range(200)])
    assert abs(noise.mean()) < 0.03 and abs(noise.std() - 1) < 0.03
