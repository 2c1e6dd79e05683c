"""The pass over a step's images that gives the gradients of its outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from mmseg_cil.methods.vdfd.filters import row_means

WEIGHTINGS = ('images', 'batches')


def gradient_sums(
    outputs: Callable[[Any], tuple[Tensor, Tensor]],
    batches: Iterable[Any],
    parameters: Sequence[Tensor],
    num_outputs: int,
    average: bool = True,
    weighting: str = 'images',
    skip_empty: bool = False,
) -> tuple[Tensor, Tensor]:
    """Compute sums of the outputs' gradients over batches, and the divisors of the sums.

    There is one backward pass per output and batch; each gradient is reduced to its rows at
    once. Sums and divisors of several processes may be added up.

    'images' gives every image (or every pixel, depending on the outputs) the same weight, so
    that the result does not depend on the division of images into batches.
    'batches' is the official computation: means over each batch, averaged over
    batches, which gives the images of a short last batch more weight.

    Source: XiaorongLi-95/VDFD ``task_incremental/agents/vdfd.py``,
    ``calculate_importance``; weights by images are our choice.

    Args:
        outputs: Function from a batch to sums and divisors of the N outputs, each ``(N,)``.
        batches: This process's batches; may be empty.
        parameters: L tensors with F rows in all. A parameter that an output does
            not depend on has the gradient 0.
        num_outputs: N.
        average: Rows are filters; otherwise rows are single weights.
        weighting: 'images' or 'batches'.
        skip_empty: The gradient of an output with divisor 0 is 0 and is not computed.

    Returns:
        Sums ``(F, N)`` and divisors ``(N,)``, float64, on the parameters' device.
    """
    device = parameters[0].device
    size = sum(
        tensor.shape[0] if average and tensor.dim() > 1 else tensor.numel() for tensor in parameters
    )
    total = torch.zeros(size, num_outputs, dtype=torch.float64, device=device)
    divisors = torch.zeros(num_outputs, dtype=torch.float64, device=device)
    for batch in batches:
        sums, counts = outputs(batch)
        if weighting == 'batches':
            sums, counts = sums / counts.clamp(min=1), (counts > 0).to(counts)
        wanted = [index for index, count in enumerate(counts.tolist()) if count or not skip_empty]
        for index in wanted:
            gradients = torch.autograd.grad(
                sums[index], parameters, retain_graph=index != wanted[-1], allow_unused=True
            )
            rows = row_means(
                (
                    torch.zeros_like(parameter) if gradient is None else gradient
                    for gradient, parameter in zip(gradients, parameters, strict=True)
                ),
                average,
            )
            total[:, index] += rows
        divisors += counts.double()
    return total, divisors


def mean_gradients(sums: Tensor, divisors: Tensor) -> Tensor:
    """Return the gradients ``(F, N)`` of the outputs; 0 for an output with divisor 0."""
    return sums / divisors.clamp(min=torch.finfo(divisors.dtype).tiny) * (divisors > 0)
