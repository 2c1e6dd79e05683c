"""The divergence over unions of segments against that of the classes themselves."""

from itertools import combinations

import pytest
import torch
from torch.nn import functional

from mmseg_cil.losses.pixel_statistics import Grid
from mmseg_cil.methods.dkd import group_divergence
from mmseg_cil.methods.dkd.group_divergence import mean_group_divergence, soft_difference

SIZES = (3, 1, 4)
GROUPS = [group for count in (1, 2, 3) for group in combinations(range(3), count)]
MEMBERS = torch.tensor([[segment in group for segment in range(3)] for group in GROUPS])


def logits(seed, spread=3.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(2, sum(SIZES), 5, 7, generator=generator, dtype=dtype)


def plain(student, teacher, groups=GROUPS):
    blocks = list(zip(student.split(SIZES, 1), teacher.split(SIZES, 1), strict=True))
    total = 0
    for group in groups:
        new, old = (
            torch.cat(parts, 1).log_softmax(1)
            for parts in zip(*(blocks[i] for i in group), strict=True)
        )
        total = total + (old.exp() * (old - new)).sum(1)
    return total / len(groups)


def by_segments(student, teacher, members=MEMBERS, grid=None):
    grid = grid or Grid(tuple(student.shape[2:]))
    news, olds, differences = [], [], []
    for new, old in zip(student.split(SIZES, 1), teacher.split(SIZES, 1), strict=True):
        logsumexp, difference = soft_difference(new, old, grid)
        news.append(grid.enlarge(new).logsumexp(1))
        olds.append(logsumexp)
        differences.append(difference)
    return mean_group_divergence(
        *(torch.stack(values, 1) for values in (news, olds, differences)), members
    )


@pytest.mark.parametrize('small_passes', [False, True])
def test_values_and_gradients_are_those_of_the_formula(monkeypatch, small_passes):
    if small_passes:
        monkeypatch.setitem(group_divergence._PASS, 'cpu', 16)
        monkeypatch.setitem(group_divergence.Grid.blocks.__globals__['_BLOCK'], 'cpu', 1)
    student, teacher = logits(0).requires_grad_(), logits(1)
    weight = torch.rand(2, 5, 7, dtype=torch.float64)
    found, expected = by_segments(student, teacher), plain(student, teacher)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        *(
            torch.autograd.grad((divergence * weight).sum(), student)[0]
            for divergence in (found, expected)
        )
    )


def test_at_another_size_it_is_that_of_the_enlarged_logits():
    student, teacher = logits(0).requires_grad_(), logits(1)
    grid = Grid((13, 16))
    large = [
        functional.interpolate(tensor, grid.size, mode='bilinear') for tensor in (student, teacher)
    ]
    found, expected = by_segments(student, teacher, grid=grid), plain(*large)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        *(
            torch.autograd.grad(divergence.square().sum(), student)[0]
            for divergence in (found, expected)
        )
    )


def test_the_derivatives_are_those_of_finite_differences():
    student, teacher = logits(0, 1.0)[:1, :, :1, :2].requires_grad_(), logits(1)[:1, :, :1, :2]
    assert torch.autograd.gradcheck(lambda leaf: by_segments(leaf, teacher), student)


def test_the_chain_rule():
    """KL(all) = KL(masses of a partition) + sum of the parts' KL, weighed by the teacher."""
    student, teacher = logits(2), logits(3)
    whole = by_segments(student, teacher, torch.tensor([[True, True, True]]))
    new, old = (
        torch.stack([part.logsumexp(1) for part in tensor.split(SIZES, 1)], 1).log_softmax(1)
        for tensor in (student, teacher)
    )
    parts = torch.stack(
        [by_segments(student, teacher, torch.eye(3).bool()[i : i + 1]) for i in range(3)], 1
    )
    torch.testing.assert_close(whole, (old.exp() * (old - new)).sum(1) + (old.exp() * parts).sum(1))


def test_groups_far_less_likely_than_others_keep_their_divergence():
    """Their probabilities among all classes are 0 in float32; inside the group they are not."""
    offsets = torch.tensor([0.0] * 3 + [-400.0] + [-600.0] * 4).view(1, -1, 1, 1)
    student, teacher = (logits(seed, 3.0, torch.float32) for seed in (0, 1))
    near, far = student.requires_grad_(), (student.detach() + offsets).requires_grad_()
    alone = torch.tensor([[False, False, True]])
    found = by_segments(far, teacher + offsets, alone)
    expected = by_segments(near, teacher, alone)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        torch.autograd.grad(found.sum(), far)[0],
        torch.autograd.grad(expected.sum(), near)[0],
        atol=1e-4,
        rtol=1e-3,
    )


def test_beyond_the_range_it_stays_finite():
    offsets = torch.tensor([0.0] * 3 + [-3e4] * 5).view(1, -1, 1, 1)
    student = (logits(0, 3.0, torch.float32) + offsets).requires_grad_()
    found = by_segments(student, logits(1, 3.0, torch.float32) - offsets)
    (gradient,) = torch.autograd.grad(found.sum(), student)
    assert found.isfinite().all() and gradient.isfinite().all()
