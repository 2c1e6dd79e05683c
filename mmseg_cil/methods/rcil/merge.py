"""Arithmetic of two parallel convolutions, each followed by a norm."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

#: A draw below the first bound selects the first branch alone, a draw from there to below the
#: second bound the second branch alone, and a greater draw the mean of both.
DROP_BOUNDS = (0.33, 0.66)


class Norm(NamedTuple):
    """A batch norm in evaluation: ``scale * (x - mean) / sqrt(var + eps) + shift``.

    Attributes:
        scale: ``(C,)``. For an InPlace-ABN, which the official code uses, |weight| + eps.
        shift: ``(C,)``.
        mean: ``(C,)``.
        var: ``(C,)``, not negative.
        eps: Added to the variance.
    """

    scale: Tensor
    shift: Tensor
    mean: Tensor
    var: Tensor
    eps: float


def drop_shares(draws: Tensor) -> Tensor:
    """Return the share of the first branch in each channel; the second branch has the rest.

    Source: zhangchbin/RCIL ``modules/residual.py``, ``forward``.

    Args:
        draws: ``(C,)``, uniform in [0, 1).

    Returns:
        ``(C,)`` with values 1, 0 and 0.5.
    """
    first, second = DROP_BOUNDS
    return torch.where(draws < first, 1.0, torch.where(draws < second, 0.0, 0.5))


def fold_norm(weight: Tensor, bias: Tensor | None, norm: Norm) -> tuple[Tensor, Tensor]:
    """Return the convolution that equals a convolution followed by a norm.

    Source: zhangchbin/RCIL ``run.py``, ``merge``, without its factor 1/2.

    Args:
        weight: ``(C, D, kh, kw)``.
        bias: ``(C,)`` or None.
        norm: Norm of the C channels.

    Returns:
        Kernel ``(C, D, kh, kw)`` and bias ``(C,)``.
    """
    factor = norm.scale / torch.sqrt(norm.var + norm.eps)
    centre = norm.mean if bias is None else norm.mean - bias
    return weight * factor[:, None, None, None], norm.shift - centre * factor


def mix(
    first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor], share: Tensor | float
) -> tuple[Tensor, Tensor]:
    """Return the convolution that equals the weighted sum of two convolutions.

    Args:
        first: Kernel and bias.
        second: Kernel and bias of the same shapes.
        share: Share of the first, ``(C,)`` or one number; the second convolution has the rest.

    Returns:
        Kernel and bias.
    """
    per_kernel = share[:, None, None, None] if isinstance(share, Tensor) else share
    return (
        per_kernel * first[0] + (1 - per_kernel) * second[0],
        share * first[1] + (1 - share) * second[1],
    )


def as_norm(bias: Tensor, first: Norm, second: Norm, eps: float) -> Norm:
    """Return the norm that adds ``bias`` to the merged convolution and changes nothing else.

    A plain network has no bias before its norm, so the norm must hold the bias. Many
    norms with this effect exist. The one returned has the mean of the merged
    convolution, and a deviation as if the branches were perfectly correlated (they begin
    as copies). Further training of the plain network with statistics of the batch
    therefore starts from about the same function. The official code sets mean 0,
    deviation 1 and scale 1, which would not have this effect; with fixed statistics,
    both norms are the same function.

    Args:
        bias: ``(C,)`` of the merged convolution (see :func:`mix`, share 0.5).
        first: The first branch's norm; ``shift`` and ``scale`` are mean and
            deviation of the norm's output.
        second: The second branch's norm.
        eps: Epsilon of the returned norm.

    Returns:
        The norm, with a variance and a scale above 0.
    """
    shift = 0.5 * (first.shift + second.shift)
    var = (0.5 * (first.scale.abs() + second.scale.abs())) ** 2
    return Norm(torch.sqrt(var + eps), shift, shift - bias, var, eps)
