"""Batch norms with the statistics of one batch."""

import torch
from torch import nn

from mmseg_cil.engine.preflight.settled_norms import settled_norms


def test_a_network_evaluated_afterwards_gives_what_it_gave_in_training():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4))
    batch = 1000 * torch.randn(8, 2, 9, 9) + 500
    with settled_norms(network), torch.no_grad():
        trained = network(batch)
    # The variance divides by n in training and by n - 1 in evaluation.
    assert torch.allclose(network.eval()(batch), trained, rtol=1e-2, atol=1e-2)
    assert network[1].momentum == 0.1


def test_what_does_not_vary_is_not_divided_by_next_to_nothing():
    network = nn.BatchNorm2d(2)
    batch = torch.randn(4, 2, 3, 3)
    batch[:, 1] = 7
    with settled_norms(network):
        network(batch)
    assert network.running_var[1] == network.running_var[0] / 200
