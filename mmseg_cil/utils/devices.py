"""Work for the device for which nobody waits."""

from __future__ import annotations

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on another device, in order with what is queued there.

    A plain ``to`` from ordinary memory lets the CPU wait until the device has
    done all its work. From page-locked memory the copy is queued too; PyTorch
    keeps that memory until it is done.

    Args:
        tensor: Small, for page-locked memory is scarce.
        device: Where it is wanted; on the CPU nothing is copied.
    """
    if device.type == 'cuda' and tensor.device.type == 'cpu':
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def one_hot_maps(labels: Tensor, num_classes: int) -> Tensor:
    """Maps of ones and zeros; PyTorch's ``one_hot`` looks at the labels, and so waits for them.

    Args:
        labels: ``(N, H, W)`` integers; those outside ``[0, num_classes)`` are in no map.
        num_classes: C.

    Returns:
        ``(N, C, H, W)`` float32.
    """
    classes = torch.arange(num_classes, device=labels.device).view(-1, 1, 1)
    return (labels.unsqueeze(1) == classes).float()
