"""Arithmetic of two parallel convolutions, each followed by a norm."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

#: Below the first bound the first branch alone, below the second the second alone, else the mean.
DROP_BOUNDS = (0.33, 0.66)


class Norm(NamedTuple):
    """A batch norm in evaluation: ``scale * (x - mean) / sqrt(var + eps) + shift``.

    Attributes:
        scale: ``(C,)``. Of an InPlace-ABN, as in the official code, |weight| + eps.
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
    """Share of the first branch in each channel; the second has the rest.

    Source: zhangchbin/RCIL ``modules/residual.py``, ``forward``.

    Args:
        draws: ``(C,)``, uniform in [0, 1).

    Returns:
        ``(C,)`` of 1, 0 and 0.5.
    """
    first, second = DROP_BOUNDS
    return torch.where(draws < first, 1.0, torch.where(draws < second, 0.0, 0.5))


def fold_norm(weight: Tensor, bias: Tensor | None, norm: Norm) -> tuple[Tensor, Tensor]:
    """One convolution that equals a convolution followed by a norm.

    Source: zhangchbin/RCIL ``run.py``, ``merge``, less its factor 1/2.

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
    """One convolution that equals the weighted sum of two.

    Args:
        first: Kernel and bias.
        second: Kernel and bias of the same shapes.
        share: Share of the first, ``(C,)`` or one number; the second has the rest.

    Returns:
        Kernel and bias.
    """
    per_kernel = share[:, None, None, None] if isinstance(share, Tensor) else share
    return (
        per_kernel * first[0] + (1 - per_kernel) * second[0],
        share * first[1] + (1 - share) * second[1],
    )


def as_norm(bias: Tensor, first: Norm, second: Norm, eps: float) -> Norm:
    """The norm that adds ``bias`` and nothing else to the merged convolution.

    A plain network has no bias before its norm, so the norm must hold it. Of
    the many that do, this one has the mean that the merged convolution has,
    and a deviation as if the branches were perfectly correlated (they begin as
    copies): whoever trains the plain network on, with statistics of the
    batch, then starts from about the same function. The official code puts
    mean 0, deviation 1 and scale 1, which would not do that; where statistics
    stay fixed, both are the same.

    Args:
        bias: ``(C,)`` of the merged convolution (see :func:`mix`, share 0.5).
        first: The first branch's norm; ``shift`` and ``scale`` are mean and
            deviation of its output.
        second: The second's.
        eps: Epsilon of the norm that results.

    Returns:
        The norm, with a variance and a scale above 0.
    """
    shift = 0.5 * (first.shift + second.shift)
    var = (0.5 * (first.scale.abs() + second.scale.abs())) ** 2
    return Norm(torch.sqrt(var + eps), shift, shift - bias, var, eps)
