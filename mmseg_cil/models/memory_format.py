"""The order in memory of a network's kernels, of its images, and of what an optimizer keeps."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


def keep_channels_last(network: nn.Module) -> None:
    """Store the kernels of a network with the channels last in memory, in place.

    Shapes, values and names stay, and weights that are loaded later are copied into this order.
    Convolutions then return maps in the same order, if their inputs have it too (:func:`arranged`).

    Args:
        network: A network, before an optimizer or a distributed wrapper knows its parameters.
    """
    for parameter in network.parameters():
        if parameter.dim() == 4:
            # A new tensor, for PyTorch leaves the strides of kernels of one pixel as they are, and
            # those of their gradients would be others.
            last = torch.empty_like(parameter.data, memory_format=torch.channels_last)
            parameter.data = last.copy_(parameter.data)


@contextlib.contextmanager
def plain_order(network: nn.Module) -> Iterator[None]:
    """Store the kernels of a network as PyTorch does by default within the block.

    Random kernels are drawn number by number as they lie in memory: another order would give a
    network other initial weights.

    Args:
        network: A network after :func:`keep_channels_last`.
    """
    for parameter in network.parameters():
        parameter.data = parameter.data.contiguous()
    try:
        yield
    finally:
        keep_channels_last(network)


def arranged(inputs: Tensor) -> Tensor:
    """Return images ``(N, 3, H, W)`` with the channels last in memory."""
    return inputs.contiguous(memory_format=torch.channels_last)


def in_plain_order(value: Tensor) -> Tensor:
    """Return a tensor as PyTorch stores it by default, itself where it is stored so."""
    usual = torch.empty(value.shape, device='meta').stride()
    return value if value.stride() == usual else value.clone(memory_format=torch.contiguous_format)


def arrange_state(optimizer: Optimizer) -> None:
    """Store what an optimizer keeps of each parameter in the parameter's order in memory.

    PyTorch's fused optimizers on CPUs go through parameter, gradient and state number by number as
    they lie in memory, and do not check that the orders agree. A state that was saved in another
    order than the network has now, as on another setting of ``channels_last``, would be mixed up.

    Args:
        optimizer: An optimizer whose state has been loaded.
    """
    for parameter, kept in optimizer.state.items():
        for name, value in kept.items() if isinstance(kept, dict) else ():
            if (
                isinstance(value, Tensor)
                and value.shape == parameter.shape
                and value.stride() != parameter.stride()
            ):
                kept[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
