"""Training a generator from a thin segmentor: what it learns, two processes against one."""

import pytest
import torch
from mmengine.dist import get_rank
from mmengine.registry import init_default_scope
from torch.nn.parallel import DistributedDataParallel

from mmseg_cil.errors import InputError
from mmseg_cil.methods.dfgr.generator_training import GeneratorTraining
from mmseg_cil.methods.dfgr.layouts import LayoutDataset
from mmseg_cil.testing.networks import base_step, network, snapshot
from mmseg_cil.testing.processes import in_two_processes

GENERATOR = dict(type='LayoutGenerator', num_classes=3, size=(32, 32), noise_size=8, channels=8)


def training(path, **options):
    init_default_scope('mmseg_cil')
    torch.manual_seed(0)
    model = GeneratorTraining(network(), snapshot(path, 3), GENERATOR, **options)
    model.init_weights()
    return model


def rows(first, last, step=1):
    data = LayoutDataset(3, True, (32, 32), 8, seed=0, step=1)
    listed = [data[place] for place in range(first, last, step)]
    return [torch.stack([sample[key] for sample in listed]) for key in ('noise', 'layout')]


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp('segmentor') / 'step_00.pth'
    base_step(network(), path)
    return path


def test_only_the_generator_is_trained_and_saved(checkpoint):
    model = training(checkpoint)
    assert all(key.startswith('generator.') for key in model.state_dict())
    before = {key: value.clone() for key, value in model.teacher.network.state_dict().items()}
    losses = model(*rows(0, 4))
    sum(value for key, value in losses.items() if 'loss' in key).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert all(parameter.grad is None for parameter in model.teacher.network.parameters())
    # Running statistics are read, not moved.
    for key, value in model.teacher.network.state_dict().items():
        assert torch.equal(value, before[key]), key


@pytest.mark.walk
def test_it_learns_to_be_taken_for_the_layout(checkpoint):
    model = training(checkpoint)
    optimizer = torch.optim.Adam(model.generator.parameters(), lr=5e-3)
    first = None
    for iteration in range(60):
        losses = model(*rows(4 * iteration, 4 * iteration + 4))
        first = first or {key: float(value.detach()) for key, value in losses.items()}
        optimizer.zero_grad()
        sum(value for key, value in losses.items() if 'loss' in key).backward()
        optimizer.step()
    with torch.no_grad():
        last = {key: float(value) for key, value in model(*rows(1000, 1016)).items()}
    assert last['loss_layout'] < 0.8 * first['loss_layout']
    assert last['loss_statistics'] < 0.5 * first['loss_statistics']


def test_a_weight_scales_its_part_and_no_other(checkpoint):
    batch = rows(0, 2)
    plain, heavy = (
        training(checkpoint, weights=weights)(*batch) for weights in (None, dict(statistics=3.0))
    )
    assert heavy['loss_statistics'].item() == pytest.approx(3 * plain['loss_statistics'].item())
    assert heavy['loss_layout'].item() == pytest.approx(plain['loss_layout'].item())
    with pytest.raises(InputError, match='no loss weights'):
        training(checkpoint, weights=dict(colour=1.0))


def test_a_transformer_is_refused(checkpoint):
    init_default_scope('mmseg_cil')
    config = network('SegformerHead', norm_cfg=dict(type='GN', num_groups=2))
    with pytest.raises(InputError, match='MixVisionTransformer'):
        GeneratorTraining(config, snapshot(checkpoint, 3), GENERATOR)


def gradients(model, batch):
    losses = model(*batch)
    sum(value for key, value in losses.items() if 'loss' in key).backward()
    return {key: parameter.grad for key, parameter in model.named_parameters()}, losses


def one_of_two(path, folder):
    found, losses = gradients(DistributedDataParallel(training(path)), rows(get_rank(), 4, 2))
    own = {key.removeprefix('module.'): value for key, value in found.items()}
    told = {key: float(value.detach()) for key, value in losses.items()}
    torch.save((own, told), folder / f'{get_rank()}.pth')


@pytest.mark.walk
def test_two_processes_have_the_gradients_of_one(checkpoint, tmp_path):
    expected, losses = gradients(training(checkpoint), rows(0, 4))
    in_two_processes(one_of_two, checkpoint, tmp_path, log=tmp_path / 'log')
    found = [torch.load(tmp_path / f'{rank}.pth') for rank in range(2)]
    # The gradients of biases before a norm are nothing but rounding.
    least = 1e-4 * max(value.abs().max().item() for value in expected.values())
    for own, told in found:
        for key in ('loss_statistics', 'loss_balance', 'follows'):
            assert told[key] == pytest.approx(losses[key].item(), rel=1e-4)
        for key, value in expected.items():
            torch.testing.assert_close(own[key], value, rtol=1e-3, atol=least)
