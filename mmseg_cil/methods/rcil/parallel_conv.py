"""Two parallel convolutions in the place of one."""

from __future__ import annotations

import copy
import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmseg_cil.contracts import IterationSeeded
from mmseg_cil.methods.rcil.merge import Norm, as_norm, drop_shares, fold_norm, mix


class ParallelConv(IterationSeeded, nn.Module):
    """Two copies of a convolution and its norm, whose outputs are averaged.

    In training every channel takes the first branch, the second branch, or the mean of
    both, drawn for the whole batch. In evaluation every channel takes the mean. If the norms
    use their stored statistics, the result is linear in the input, and one convolution with
    mixed kernels computes it: the output is the same (up to rounding), with the time and
    memory of one branch.

    Source: Zhang et al., CVPR 2022, section 3.2; zhangchbin/RCIL
    ``modules/residual.py`` and ``modules/deeplab.py``.

    Args:
        conv: The plain network's convolution; it becomes the first branch.
        norm: The batch norm that follows the convolution.
        frozen: The first branch learns neither weights nor statistics.
        number: A number that other convolutions of the network do not have. Draws depend on it,
            on the run's seed, the step and the iteration: they are the same on all processes, and
            again when a checkpointed forward pass is repeated for the gradient. None: each forward
            pass draws from torch's own generator, which is another one on each process.
    """

    def __init__(
        self, conv: nn.Conv2d, norm: nn.Module, frozen: bool, number: int | None = None
    ) -> None:
        super().__init__()
        self.frozen = frozen
        self.number = number
        self._seed: int | None = None
        self.first: Any = nn.Sequential(OrderedDict(conv=conv, norm=norm))
        self.second: Any = copy.deepcopy(self.first)
        if frozen:
            self.first.requires_grad_(False)
        self.train(conv.training)

    def train(self, mode: bool = True) -> ParallelConv:
        """Set the mode as for any module, but keep a frozen branch in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.first.eval()
        return self

    def set_iteration_seed(self, seed: int) -> None:
        """Take the seed of the next draw, the same on all processes."""
        if self.number is not None:
            self._seed = seed + self.number

    def _drawn(self, device: torch.device) -> Tensor:
        """Return a number between 0 and 1 for each channel, ``(C,)``."""
        generator = None
        if self._seed is not None:
            generator = torch.Generator(device)
            generator.manual_seed(self._seed)
        return torch.rand(self.first.conv.out_channels, device=device, generator=generator)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the mixture of both branches' outputs.

        Args:
            inputs: ``(N, D, H, W)``.

        Returns:
            ``(N, C, h, w)``.
        """
        share: Tensor | float = 0.5
        if self.training:
            share = drop_shares(self._drawn(inputs.device))
        if not self.first.norm.training and not self.second.norm.training:
            return self._convolve(inputs, *mix(fold(self.first), fold(self.second), share))
        second = self.second(inputs)
        first = self._convolve(inputs, *fold(self.first)) if self.frozen else self.first(inputs)
        if isinstance(share, Tensor):
            share = share.to(first.dtype)[:, None, None]
        # lerp is exact at the shares 0 and 1.
        return torch.lerp(second, first, share)

    def _convolve(self, inputs: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
        conv = self.first.conv
        return functional.conv2d(
            inputs, kernel, bias, conv.stride, conv.padding, conv.dilation, conv.groups
        )

    @torch.no_grad()
    def merge(self, eps_again: float = 0.0) -> None:
        """Make the first branch alone give the mean of both branches in evaluation.

        Args:
            eps_again: Epsilon of the norm that a merged branch has in the official code, with
                weight ``1 + eps_again`` and variance 1. The norm scales a frozen first branch.
        """
        # Merging is in double precision, so that errors do not add up step after step.
        folded = [fold(branch, torch.float64) for branch in (self.first, self.second)]
        if self.frozen and eps_again:
            scale = (1 + eps_again) / math.sqrt(1 + eps_again)
            folded[0] = folded[0][0] * scale, folded[0][1] * scale
        kernel, bias = mix(folded[0], folded[1], 0.5)
        norms = [norm_of(branch.norm, torch.float64) for branch in (self.first, self.second)]
        conv, norm = self.first.conv, self.first.norm
        merged = as_norm(bias, norms[0], norms[1], norm.eps)
        conv.weight.copy_(kernel)
        norm.weight.copy_(merged.scale)
        norm.bias.copy_(merged.shift)
        norm.running_mean.copy_(merged.mean if conv.bias is None else merged.mean + conv.bias)
        norm.running_var.copy_(merged.var)


def merged_alone(
    state: Mapping[str, Tensor], conv: str, norm: str, eps: float
) -> dict[str, Tensor]:
    """Return a convolution and its norm as :meth:`ParallelConv.merge` leaves two equal branches.

    Args:
        state: Weights by name.
        conv: Name of the convolution.
        norm: Name of the norm.
        eps: Epsilon of the norm.
    """
    scale, offset, centre, var = (
        state[f'{norm}.{key}'].double() for key in ('weight', 'bias', 'running_mean', 'running_var')
    )
    own = Norm(scale, offset, centre, var, eps)
    shift = state.get(f'{conv}.bias')
    weight = state[f'{conv}.weight']
    kernel, bias = fold_norm(weight.double(), None if shift is None else shift.double(), own)
    merged = as_norm(bias, own, own, eps)
    mean = merged.mean if shift is None else merged.mean + shift
    found = {
        f'{conv}.weight': kernel,
        f'{norm}.weight': merged.scale,
        f'{norm}.bias': merged.shift,
        f'{norm}.running_mean': mean,
        f'{norm}.running_var': merged.var,
    }
    return {key: value.to(weight.dtype) for key, value in found.items()}


def norm_of(norm: Any, dtype: torch.dtype | None = None) -> Norm:
    """Return the numbers of a batch norm, in their own format or in ``dtype``."""
    scale, shift, mean, var = (
        tensor.to(dtype or tensor.dtype)
        for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    )
    return Norm(scale, shift, mean, var, norm.eps)


def fold(branch: Any, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
    """Return kernel and bias of a branch whose norm uses its stored statistics."""
    weight, bias = branch.conv.weight, branch.conv.bias
    return fold_norm(
        weight.to(dtype or weight.dtype),
        bias if bias is None else bias.to(dtype or bias.dtype),
        norm_of(branch.norm, dtype),
    )
