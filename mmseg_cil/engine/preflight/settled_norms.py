"""Running statistics of norms for a network that has not been trained."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextlib.contextmanager
def settled_norms(network: nn.Module) -> Iterator[None]:
    """Let batch norms take on the statistics of the batch that runs within a ``with`` block.

    The batch must run in training mode. With the norms' initial statistics, the numbers in a deep
    network that is evaluated grow from layer to layer, beyond the range of half precision.

    Args:
        network: Network with the norms.
    """
    norms = [
        norm
        for norm in network.modules()
        if isinstance(norm, _BatchNorm) and norm.running_var is not None
    ]
    former = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    yield
    for norm, momentum in zip(norms, former, strict=True):
        norm.momentum = momentum
        if norm.running_var is not None:
            # A few values can have a tiny variance by chance, and a division by it explodes.
            norm.running_var.clamp_(min=float(norm.running_var.mean()) / 100)
