"""Fixtures that the tests of VDFD share."""

import pytest
import torch
from drawn_gradients import Network, body, gradients_of, move


@pytest.fixture
def walked():
    """Return a network after two steps, and the gradients that both kept."""
    torch.manual_seed(0)
    network = Network()
    steps = [gradients_of(body(network), (0, 1, 2), seed=0)]
    move(network, 1)
    steps.append(gradients_of(body(network), (3, 4), seed=1))
    return network, steps
