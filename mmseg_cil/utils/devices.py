"""Operations for a device that do not make the CPU wait."""

from __future__ import annotations

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the CPU on another device; the copy is queued with the device's work.

    A plain ``to`` from ordinary memory lets the CPU wait until the device has
    done all its work. From page-locked memory the copy is queued like other work;
    PyTorch keeps the page-locked memory until the copy is done.

    Args:
        tensor: The tensor; it should be small, because page-locked memory is scarce.
        device: The target device; if it is the CPU, nothing is copied.
    """
    if device.type == 'cuda' and tensor.device.type == 'cpu':
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def one_hot_maps(labels: Tensor, num_classes: int) -> Tensor:
    """Return maps of ones and zeros without waiting for the labels, as ``one_hot`` would.

    PyTorch's ``one_hot`` reads the labels back, and so waits for the device.

    Args:
        labels: ``(N, H, W)`` integers; labels outside ``[0, num_classes)`` are in no map.
        num_classes: C, the number of maps.

    Returns:
        ``(N, C, H, W)`` float32.
    """
    classes = torch.arange(num_classes, device=labels.device).view(-1, 1, 1)
    return (labels.unsqueeze(1) == classes).float()
