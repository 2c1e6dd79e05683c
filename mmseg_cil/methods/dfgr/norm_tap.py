"""Comparison of a batch's statistics with the running statistics of a network's norms."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmseg_cil.methods.dfgr.generator_losses import batch_moments, normal_divergence


def batch_norms(network: nn.Module) -> list[_BatchNorm]:
    """Return the batch norms of a network that keep running statistics."""
    return [
        module
        for module in network.modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    ]


@contextmanager
def tap_statistics(network: nn.Module) -> Iterator[list[Tensor]]:
    """Compare the input of every batch norm that runs with its running statistics.

    Maps of one pixel (the pooled branch of an ASPP head) are skipped: a batch has
    too few such pixels for a variance. The norm's own ``eps`` is added to the
    variances.

    Yields:
        A list of divergences ``(D_i,)``, one per norm, filled while the network runs.
    """
    divergences: list[Tensor] = []

    def compare(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(module, _BatchNorm)
        maps = inputs[0]
        if maps.dim() == 4 and maps.shape[2] * maps.shape[3] > 1:
            assert module.running_mean is not None and module.running_var is not None
            divergences.append(
                normal_divergence(
                    module.running_mean, module.running_var, *batch_moments(maps), module.eps
                )
            )

    handles = [batch_norm.register_forward_pre_hook(compare) for batch_norm in batch_norms(network)]
    try:
        yield divergences
    finally:
        for handle in handles:
            handle.remove()
