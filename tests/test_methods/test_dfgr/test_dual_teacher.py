"""Distillation from two teachers: limits, the best variance, and the double targets."""

import pytest
import torch

from mmseg_cil.errors import InputError
from mmseg_cil.methods.dfgr.dual_teacher import (
    INITIAL_VARIANCE,
    double_distillation,
    double_targets,
    variance_parameter,
    variances,
    variational_loss,
)


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_variances_begin_where_they_are_told_and_stay_positive():
    start = torch.full((3,), variance_parameter(), dtype=torch.float64)
    assert variances(start).tolist() == pytest.approx([INITIAL_VARIANCE] * 3)
    assert variances(torch.tensor([-1e4])).item() == pytest.approx(1e-5)


def test_with_variance_1_it_is_half_the_squared_error():
    student, teacher = drawn(2, 4, 3, 3), drawn(2, 4, 3, 3, seed=1)
    expected = 0.5 * torch.nn.functional.mse_loss(student, teacher)
    found = variational_loss(student, teacher, torch.ones(4, dtype=torch.float64))
    torch.testing.assert_close(found, expected)


def test_the_best_variance_is_the_mean_squared_residual():
    student, teacher = drawn(2, 4, 3, 3), 2 * drawn(2, 4, 3, 3, seed=1)
    best = (student - teacher).square().mean((0, 2, 3)).requires_grad_()
    least = variational_loss(student, teacher, best)
    least.backward()
    assert best.grad.abs().max() < 1e-12
    for factor in (0.8, 1.25):
        assert variational_loss(student, teacher, best.detach() * factor) > least


def test_without_images_it_is_zero_and_has_gradients():
    spread = torch.ones(4, requires_grad=True)
    loss = variational_loss(torch.zeros(0, 4, 3, 3), torch.zeros(0, 4, 3, 3), spread)
    loss.backward()
    assert loss == 0 and spread.grad.abs().sum() == 0


def test_double_targets_have_no_mean_and_are_the_best_student():
    old, new = drawn(3, 4, 5, 5) + 2, drawn(3, 2, 5, 5, seed=1) - 3
    targets = double_targets(old, new)
    assert targets.shape == (3, 6, 5, 5)
    assert targets.mean((0, 2, 3)).abs().max() < 1e-12
    torch.testing.assert_close(
        targets[:, :4] - old, (targets[:, :4] - old)[:1, :, :1, :1].expand_as(old)
    )
    assert double_distillation(targets, old, new) == 0


def test_unequal_shapes_are_refused():
    # One channel against two, or one row against three, would be broadcast.
    student, ones = drawn(2, 2, 3, 3), torch.ones(2, dtype=torch.float64)
    for teacher in (student[:, :1], student[:, :, :1], student[:1]):
        with pytest.raises(InputError, match='differ in shape'):
            variational_loss(student, teacher, ones)
        with pytest.raises(InputError, match='differ in shape'):
            double_distillation(student[:, :1], teacher, teacher)
    with pytest.raises(InputError, match='as many variances'):
        variational_loss(student, student, ones[:1])
