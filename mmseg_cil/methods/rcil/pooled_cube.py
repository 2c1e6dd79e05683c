"""Pooled cube distillation: squared feature maps averaged over squares and over channels."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmseg_cil.errors import InputError
from mmseg_cil.losses.precision import at_least_float32

#: Sides of the squares, in pixels of the feature map.
SIZES = (4, 8, 12, 16, 20, 24)
#: Number of neighbouring channels that are averaged.
CHANNELS = 3


def _norms(maps: Tensor) -> Tensor:
    # Norm of each image's map, (N,), in double precision: a CPU's float32 norm of millions of
    # numbers is accurate only to 1e-4.
    norms = torch.linalg.vector_norm(maps.flatten(1), dim=1, dtype=torch.float64)
    return norms.to(maps.dtype)


def pooled_cube_distance(
    student: Tensor,
    teacher: Tensor,
    spatial: float = 1.0,
    channel: float = 1.0,
    sizes: Sequence[int] = SIZES,
) -> Tensor:
    r"""Compute ``spatial * spatial_distance + channel * channel_distance`` without pooling a map.

    Pooling is linear, so only the difference :math:`d = a^2 - b^2` counts. With
    :math:`R` the 0/1 matrix of an axis that says which window holds which pixel,

    .. math:: \big\| R_H\, d\, R_W^\top \big\|_F^2 = \langle d,\; G_H\, d\, G_W \rangle,
              \qquad G = R^\top R,

    and :math:`2 G_H d G_W` is the gradient of this squared norm: two matrix products
    give value and gradient, whatever the window's side. A sum has as many terms
    as a window has pixels, so no precision is lost, unlike in an integral image.
    The gradient is computed in the forward pass, and only the gradient is kept for
    the backward pass.

    Args:
        student: ``(N, C, H, W)``. Half precision is computed in float32.
        teacher: The same shape; a constant without gradient.
        spatial: Factor of the spatial distance; at 0 it is not computed.
        channel: Factor of the channel distance; at 0 it is not computed.
        sizes: Sides of the windows.

    Returns:
        ``(N,)``. At equal maps the gradient is zero.

    Raises:
        InputError: The shapes differ, or ``sizes`` are not positive.
    """
    if student.shape != teacher.shape:
        raise InputError(
            f'pooled cube: maps of student {tuple(student.shape)} and teacher '
            f'{tuple(teacher.shape)} differ in shape: compare maps of the same stage'
        )
    if not sizes or min(sizes) < 1:
        raise InputError(f'pooled cube: sizes must be positive, got {tuple(sizes)}')
    student, teacher = at_least_float32(student), at_least_float32(teacher).detach()
    distance: Tensor = _CubeDistance.apply(student, teacher, spatial, channel, tuple(sizes))
    return distance


class _CubeDistance(torch.autograd.Function):
    """Value and gradient of :func:`pooled_cube_distance` in one pass."""

    @staticmethod
    def forward(
        ctx: Any,
        student: Tensor,
        teacher: Tensor,
        spatial: float,
        channel: float,
        sizes: tuple[int, ...],
    ) -> Tensor:
        # Autocast would compute the products in half precision.
        with torch.autocast(student.device.type, enabled=False):
            # (N, C, H, W): a^2 - b^2, in a form that is precise where the maps are nearly equal.
            difference = (student - teacher).mul_(student + teacher)
            # (N,) distance and (N, C, H, W) gradient by the difference, filled in place.
            value, gradient = difference.new_zeros(len(student)), torch.zeros_like(difference)
            if spatial:
                _add_spatial(difference, sizes, spatial / len(sizes), value, gradient)
            if channel:
                _add_channel(difference, channel, value, gradient)
            # The derivative of a^2 is 2 a.
            ctx.save_for_backward(gradient.mul_(student).mul_(2.0))
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream[:, None, None, None], None, None, None, None


def _add_spatial(
    difference: Tensor, sizes: tuple[int, ...], factor: float, value: Tensor, gradient: Tensor
) -> None:
    """Add ``factor`` times the sum of the norms to ``value``, the derivative to ``gradient``."""
    height, width = difference.shape[2:]
    kind = difference.dtype, difference.device
    for size in sizes:
        rows = window_overlaps(height, size, *kind)  # G_H, (H, H)
        # G_W, (W, W), over the fourth power of the side, because a window's mean is squared.
        columns = window_overlaps(width, size, *kind) / size**4
        # (N, C, H, W): G_H d G_W, half the gradient of the squared norm.
        product = torch.matmul(rows, torch.matmul(difference, columns))
        _add_norm((product * difference).flatten(1).sum(dim=1), product, factor, value, gradient)


def _add_channel(difference: Tensor, factor: float, value: Tensor, gradient: Tensor) -> None:
    """Add ``factor`` times the norm of the pools over channels, and the derivative of it."""
    # (N, C, H, W): sums of three channels; and half the gradient of the squared norm.
    pooled = _channel_sums(difference)
    product = _channel_sums(pooled).div_(CHANNELS**2)
    squares = (pooled * pooled).flatten(1).sum(dim=1) / CHANNELS**2  # (N,)
    _add_norm(squares, product, factor, value, gradient)


def _channel_sums(maps: Tensor) -> Tensor:
    """Sum every channel and its two neighbours; as a matrix the operation is symmetric."""
    sums = maps.clone()
    sums[:, 1:] += maps[:, :-1]
    sums[:, :-1] += maps[:, 1:]
    return sums


def _add_norm(
    square: Tensor, half_gradient: Tensor, factor: float, value: Tensor, gradient: Tensor
) -> None:
    """Add ``factor`` times a norm to ``value``, and the gradient of it to ``gradient``.

    Args:
        square: ``(N,)`` squared norm.
        half_gradient: ``(N, C, H, W)`` half the gradient of the squared norm.
        factor: Factor of the norm.
        value: ``(N,)``, changed in place.
        gradient: ``(N, C, H, W)``, changed in place.
    """
    norm = square.clamp(min=0).sqrt()  # (N,)
    value.add_(norm, alpha=factor)
    # (N,): the gradient of a norm is half that of its square, over the norm; 0 at a norm of 0.
    slope = torch.where(norm > 0, factor / norm, 0.0)
    gradient.addcmul_(half_gradient, slope[:, None, None, None])


@functools.lru_cache(maxsize=128)
def window_overlaps(length: int, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Count the windows that hold both of every two pixels of an axis.

    Args:
        length: Number of pixels of the axis.
        size: Number of pixels of a window. Windows lie at stride 1 from -(size // 2) on,
            as in a pooling padded by size // 2.
        dtype: Dtype of the result.
        device: Device of the result.

    Returns:
        ``(length, length)``, symmetric.
    """
    # The result is cached, so it must not become an inference tensor.
    with torch.inference_mode(False):
        # First pixels of the windows, (windows, 1), and pixels of the axis, (length,).
        start = torch.arange(length + 2 * (size // 2) - size + 1)[:, None] - size // 2
        pixel = torch.arange(length)
        inside = ((pixel >= start) & (pixel < start + size)).to(dtype)  # R, (windows, length)
        return (inside.T @ inside).to(device)


def pooled_cube_loss(
    students: Sequence[Tensor],
    teachers: Sequence[Tensor],
    spatial_factors: Sequence[float],
    channel_factors: Sequence[float],
    growth: float = 1.0,
    sizes: Sequence[int] = SIZES,
) -> Tensor:
    r"""Return the contribution of every map to the pooled cube loss, which is the sum of them.

    .. math:: \mathrm{growth} \cdot \frac{1}{N} \sum_n \Big( \frac{f_l}{L} D^{spatial}_{l,n}
              + \frac{g_l}{L'} D^{channel}_{l,n} \Big)

    Source: zhangchbin/RCIL ``train.py``: the mean over maps is taken separately for
    each distance, and the channel distance leaves out the logits, so
    :math:`L' = L - 1`.

    Args:
        students: L maps ``(N, C_l, H_l, W_l)``; logits already folded
            (:func:`~mmseg_cil.methods.plop.local_pod.fold_new_classes`).
        teachers: L maps of the same shapes.
        spatial_factors: L factors of the spatial distances.
        channel_factors: Factors of the channel distances of the first L' maps.
        growth: The official ``sqrt(classes seen / new classes)``.
        sizes: See :func:`spatial_distance`.

    Returns:
        ``(L,)``.

    Raises:
        InputError: The numbers of maps and factors do not fit, or
            :func:`pooled_cube_distance` raises it.
    """
    count, pooled_channels = len(students), len(channel_factors)
    if not count == len(teachers) == len(spatial_factors) or pooled_channels > count:
        raise InputError(
            f'pooled cube: {count} maps of the student, {len(teachers)} of the teacher, '
            f'{len(spatial_factors)} spatial and {pooled_channels} channel factors do not fit'
        )
    per_map = [factor / pooled_channels for factor in channel_factors]
    per_map += [0.0] * (count - pooled_channels)
    return growth * torch.stack(
        [
            # The distance is (N,); the mean over images is a scalar per map.
            pooled_cube_distance(student, teacher, spatial / count, channel, sizes).mean()
            for student, teacher, spatial, channel in zip(
                students, teachers, spatial_factors, per_map, strict=True
            )
        ]
    )
