"""Losses of the generator: closed forms, limits, and two processes against one."""

import math

import pytest
import torch
import torch.distributed as dist
from torch.distributions import Normal, kl_divergence

from mmseg_cil.methods.dfgr.generator_losses import (
    batch_moments,
    class_balance,
    followed,
    layout_cross_entropy,
    mean_entropy,
    mean_probability,
    normal_divergence,
    statistics_loss,
    total_variation,
)
from mmseg_cil.testing.processes import in_two_processes


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_divergence_is_that_of_two_normal_distributions():
    mean, other = drawn(5), drawn(5, seed=1)
    variance, spread = drawn(5, seed=2).exp(), drawn(5, seed=3).exp()
    expected = kl_divergence(Normal(mean, variance.sqrt()), Normal(other, spread.sqrt()))
    found = normal_divergence(mean, variance, other, spread, eps=0.0)
    torch.testing.assert_close(found, expected)
    swapped = normal_divergence(other, spread, mean, variance, eps=0.0)
    assert not torch.allclose(found, swapped)


def test_it_is_zero_and_stationary_where_the_batch_has_the_running_statistics():
    maps = drawn(3, 4, 5, 6).requires_grad_()
    with torch.no_grad():
        mean, variance = batch_moments(maps)
    torch.testing.assert_close(mean, maps.detach().mean((0, 2, 3)))
    torch.testing.assert_close(variance, maps.detach().var((0, 2, 3), unbiased=False))
    loss = statistics_loss([normal_divergence(mean, variance, *batch_moments(maps))])
    assert loss.item() == pytest.approx(0, abs=1e-12)
    loss.backward()
    assert maps.grad.abs().max() < 1e-12
    moved = statistics_loss([normal_divergence(mean, variance, *batch_moments(maps * 1.1 + 0.1))])
    assert moved > 1e-3


def test_layers_count_alike_however_many_channels_they_have():
    wide, narrow = torch.ones(8), torch.full((2,), 3.0)
    assert statistics_loss([wide, narrow]) == 2.0
    assert statistics_loss([]) == 0


def test_balance_is_0_for_all_classes_alike_and_1_for_a_single_one():
    assert class_balance(torch.full((7,), 1 / 7)).item() == pytest.approx(0, abs=1e-6)
    assert class_balance(torch.eye(7)[2]).item() == 1
    assert class_balance(torch.ones(1)).item() == 0
    two = class_balance(torch.tensor([0.25, 0.75], dtype=torch.float64)).item()
    entropy = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert two == pytest.approx(1 - entropy / math.log(2))


def test_confidence_and_smoothness_have_their_limits():
    assert mean_entropy(torch.zeros(2, 5, 3, 3)).item() == pytest.approx(1)
    sure = 100.0 * torch.nn.functional.one_hot(torch.arange(8).view(2, 2, 2) % 5, 5)
    assert mean_entropy(sure.permute(0, 3, 1, 2)).item() == pytest.approx(0, abs=1e-6)
    assert total_variation(torch.full((2, 3, 4, 4), 7.0)) == 0
    ramp = torch.arange(4.0).expand(1, 1, 4, 4)
    assert total_variation(ramp) == 1
    assert total_variation(ramp.transpose(2, 3)) == 1


def test_cross_entropy_reads_the_layout_and_not_what_is_ignored():
    logits, layout = drawn(2, 4, 3, 3), torch.randint(0, 4, (2, 3, 3))
    expected = torch.nn.functional.cross_entropy(logits, layout)
    torch.testing.assert_close(layout_cross_entropy(logits, layout.byte()), expected)
    layout[0] = 255
    expected = torch.nn.functional.cross_entropy(logits[1:], layout[1:])
    torch.testing.assert_close(layout_cross_entropy(logits, layout), expected)
    assert followed(logits, logits.argmax(1)) == 1


def gradients(maps, logits, weight):
    """The statistics' loss and the balance of a batch, and what they do to a shared weight."""
    mean, variance = torch.tensor([0.3, -0.2, 0.5]), torch.tensor([0.5, 1.0, 2.0])
    weight = weight.clone().requires_grad_()
    statistics = normal_divergence(mean, variance, *batch_moments(maps * weight[:, None, None]))
    balance = class_balance(mean_probability(logits * weight[:, None, None]))
    loss = statistics_loss([statistics]) + balance
    loss.backward()
    return loss.detach(), weight.grad


def one_of_two(path, folder):
    maps, logits, weight = torch.load(path)
    rank = dist.get_rank()
    loss, gradient = gradients(maps[rank::2], logits[rank::2], weight)
    # As DistributedDataParallel does.
    dist.all_reduce(gradient)
    torch.save((loss, gradient / 2), folder / f'{rank}.pth')


@pytest.mark.walk
def test_two_processes_have_the_moments_and_gradients_of_one(tmp_path):
    maps, logits = drawn(4, 3, 5, 5).float(), drawn(4, 3, 5, 5, seed=1).float()
    weight = torch.tensor([0.7, 1.2, 2.0])
    expected, gradient = gradients(maps, logits, weight)
    torch.save((maps, logits, weight), tmp_path / 'inputs.pth')
    in_two_processes(one_of_two, tmp_path / 'inputs.pth', tmp_path, log=tmp_path / 'log')
    for rank in range(2):
        loss, own = torch.load(tmp_path / f'{rank}.pth')
        torch.testing.assert_close(loss, expected)
        torch.testing.assert_close(own, gradient)
