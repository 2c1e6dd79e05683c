"""The limit of the learning rate is where PyTorch's own SGD turns from shrinking to growing."""

import math

import pytest
import torch

from mmseg_cil.methods.vdfd.stability import diverging_rate

MOMENTA = [(0.0, False), (0.9, False), (0.9, True), (0.5, True)]


@pytest.mark.parametrize(('momentum', 'nesterov'), MOMENTA)
def test_sgd_diverges_from_that_rate_on(momentum, nesterov):
    curvature = 3.0
    limit = diverging_rate(curvature, momentum, nesterov)

    def distance_after(rate):
        at = torch.ones(1, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.SGD([at], lr=rate, momentum=momentum, nesterov=nesterov)
        for _ in range(1500):
            optimizer.zero_grad()
            (0.5 * curvature * at.square()).sum().backward()
            optimizer.step()
        return float(at.detach().abs())

    assert distance_after(0.98 * limit) < 1e-3
    assert distance_after(1.02 * limit) > 1e3


def test_the_limits_of_the_usual_momentum():
    assert diverging_rate(1.0, 0.9) == pytest.approx(3.8)
    assert diverging_rate(1.0, 0.9, nesterov=True) == pytest.approx(1.357, abs=1e-3)
    assert diverging_rate(1.0) == diverging_rate(1.0, nesterov=True) == 2.0
    assert diverging_rate(0.0, 0.9) == math.inf
