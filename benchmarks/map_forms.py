"""The losses of ``benchmarks/losses.py`` that compare feature maps or weights: POD, cube, VDFD."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'benchmarks')]

from loss_cases import Case, Form
from vdfd import drawn_step

from mmseg_cil.methods.plop.reference import local_pod
from mmseg_cil.methods.rcil.reference import channel_distance, spatial_distance
from mmseg_cil.methods.vdfd.earlier_steps import arrange

# Local POD.

#: Name, channels and side of every map that POD and the pooled cube compare.
POD_MAPS = (
    ('stage 1', 256, 128),
    ('stage 2', 512, 64),
    ('stage 3', 1024, 32),
    ('stage 4', 2048, 32),
    ('embedding', 256, 32),
    ('logits', 16, 32),
)


def plain_pod(student: Tensor, teacher: Tensor) -> Tensor:
    """Two embeddings and the norm of their difference."""
    return (local_pod(student**2) - local_pod(teacher**2)).norm(dim=1)


# Pooled cube.


def plain_cube(student: Tensor, teacher: Tensor) -> Tensor:
    """Both maps pooled over squares of six sizes and over channels."""
    return spatial_distance(student, teacher) + channel_distance(student, teacher)


# Maps for either.


def draw_maps(channels: int, side: int) -> Callable[[str, int], tuple[Tensor, ...]]:
    """Feature maps of teacher and a student not far from it."""

    def draw(device: str, batch: int) -> tuple[Tensor, ...]:
        teacher = torch.randn(batch, channels, side, side, device=device)
        return teacher + 0.3 * torch.randn_like(teacher), teacher

    return draw


def map_cases(name: str, plain: Form, fast: Form) -> Callable[[bool], list[Case]]:
    """Return a distance of feature maps, for every map."""

    def cases(quick: bool) -> list[Case]:
        sizes = [
            (where, channels // 16 if quick else channels, side // 4 if quick else side)
            for where, channels, side in POD_MAPS
        ]
        return [
            Case(
                f'{name}, {where}',
                f'{channels}x{side}x{side}',
                draw_maps(channels, side),
                plain,
                fast,
            )
            for where, channels, side in sizes
        ]

    return cases


# VDFD's penalty.


class _Network(nn.Module):
    """A few layers of a backbone, and a classifier, as VDFD reads a segmentor."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(width, width // 4, 1, bias=False),
            nn.Conv2d(width // 4, width // 4, 3, bias=False),
            nn.Conv2d(width // 4, width, 1, bias=False),
        )
        self.decode_head = nn.Module()
        self.decode_head.conv_seg = nn.Conv2d(width // 4, classes, 1)


class _Changes:
    """Gradients of a step's outputs on a device: in full, and as VDFD keeps them.

    Args:
        width: Channels of the backbone.
        classes: Number of outputs.
        device: Where the gradients are.
    """

    def __init__(self, width: int, classes: int, device: torch.device) -> None:
        network = _Network(width, classes).to(device)
        step = drawn_step(network, classes, seed=0)
        before = {name: tensor.detach() for name, tensor in network.named_parameters()}
        self.shapes = {name: before[name].shape for name in step.names}
        self.earlier = arrange([step], network, before)
        names = {id(tensor): name for name, tensor in network.named_parameters()}
        self.order = [names[id(tensor)] for tensor in self.earlier.tensors]
        self.start = torch.cat([before[name].flatten() for name in step.names])
        # A row's gradient holds for each weight of the row.
        parts = zip(step.names, step.dense().split(list(step.rows)), strict=True)
        rows = [
            part.repeat_interleave(before[name][0].numel(), dim=0).float() for name, part in parts
        ]
        self.full = torch.cat(rows).to(device)

    def plain(self, weights: Tensor) -> Tensor:
        """Return the squared changes ``(classes,)`` by the full gradients."""
        return ((weights - self.start) @ self.full).square()

    def fast(self, weights: Tensor) -> Tensor:
        """Return the same from sums of rows."""
        pieces = weights.split([shape.numel() for shape in self.shapes.values()])
        named = {
            name: piece.view(shape)
            for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)
        }
        tensors = [named[name] for name in self.order]
        return replace(self.earlier, tensors=tensors).changes().flatten().square()


def vdfd_case(classes: int, width: int) -> Case:
    """Compare the changes of a step's outputs, for a block of a ResNet with a classifier."""
    on = functools.cache(lambda device: _Changes(width, classes, device))
    size = sum(parameter.numel() for parameter in _Network(width, classes).parameters())

    def draw(device: str, batch: int) -> tuple[Tensor, ...]:
        start = on(torch.zeros(0, device=device).device).start
        return (start + 0.01 * torch.randn_like(start),)

    return Case(
        f'VDFD, {classes}',
        f'{size}x{classes}',
        draw,
        lambda weights: on(weights.device).plain(weights),
        lambda weights: on(weights.device).fast(weights),
    )


def vdfd_cases(quick: bool) -> list[Case]:
    """Return rows for 151 and 21 classes; full gradients of a whole network need gigabytes."""
    return [vdfd_case(classes, 32 if quick else 512) for classes in (151, 21)]
