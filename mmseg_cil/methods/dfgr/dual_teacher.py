"""Distillation from two teachers whose classes are disjoint.

Choi, El-Khamy and Lee, "Dual-Teacher Class-Incremental Learning With Data-Free
Generative Replay", CVPR workshops 2021 (arXiv 2106.09835), distil from an old
and a new teacher; their loss is not published. Ours is the Gaussian form of
variational information distillation: Ahn et al., "Variational Information
Distillation for Knowledge Transfer", CVPR 2019, equation 6, as
HobbitLong/RepDistiller ``distiller_zoo/VID.py`` computes it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from mmseg_cil.errors import InputError
from mmseg_cil.losses.precision import at_least_float32

#: RepDistiller's values: the number added to every variance, and the variance at the start.
EPS, INITIAL_VARIANCE = 1e-5, 5.0


def variance_parameter(variance: float = INITIAL_VARIANCE, eps: float = EPS) -> float:
    """Return the parameter for which :func:`variances` gives ``variance``."""
    return math.log(math.expm1(variance - eps))


def variances(parameters: Tensor, eps: float = EPS) -> Tensor:
    """Return ``softplus(parameters) + eps``, which is positive for all parameters."""
    return functional.softplus(parameters) + eps


def variational_loss(student: Tensor, teacher: Tensor, variance: Tensor) -> Tensor:
    r"""Compute the negative log-likelihood of the teacher's logits, up to a constant.

    .. math:: \frac12 \left( \frac{(m - z)^2}{v_c} + \log v_c \right)

    With v = 1 the loss is half the squared error. As a function of v the loss is least
    where v is the channel's mean squared residual.

    Args:
        student: ``(N, C, H, W)`` logits m.
        teacher: ``(N, C, H, W)`` logits z.
        variance: ``(C,)``.

    Returns:
        Scalar: the mean over all elements; 0 if there is no element.

    Raises:
        InputError: The shapes are not equal. Without this check, broadcasting would
            compare one channel of a network with all channels of the other.
    """
    _check_shapes(student, teacher)
    if variance.shape != student.shape[1:2]:
        raise InputError(
            f'{student.shape[1]} channels need as many variances, got {tuple(variance.shape)}'
        )
    student, teacher = at_least_float32(student), at_least_float32(teacher)
    spread = variance.to(student.dtype)  # (C,)
    if not student.numel():
        return 0 * (student.sum() + spread.sum())
    # (C,): mean squared residual of each channel.
    residual = (student - teacher).square().mean(dim=(0, 2, 3))
    return 0.5 * (residual / spread + spread.log()).mean()


def double_targets(old: Tensor, new: Tensor) -> Tensor:
    """Concatenate the logits of two teachers and subtract each channel's mean.

    Source: Zhang et al., "Class-incremental Learning via Deep Model
    Consolidation", WACV 2020, equation 4, which takes the mean over classes;
    mmasana/FACIL ``src/approach/dmc.py`` takes the mean over the batch. Here the mean
    is over all pixels of the batch.

    Args:
        old: ``(N, O, H, W)``.
        new: ``(N, K, H, W)``.

    Returns:
        ``(N, O + K, H, W)``, at least float32, of mean 0 over N, H and W.
    """
    # (N, O + K, H, W), and its mean (1, O + K, 1, 1).
    targets = torch.cat([at_least_float32(old), at_least_float32(new)], dim=1)
    return targets - targets.mean(dim=(0, 2, 3), keepdim=True)


def double_distillation(student: Tensor, old: Tensor, new: Tensor) -> Tensor:
    """Compute the mean squared distance of the student's logits from :func:`double_targets`.

    Args:
        student: ``(N, O + K, H, W)``.
        old: ``(N, O, H, W)``.
        new: ``(N, K, H, W)``.

    Returns:
        Scalar: the mean over all elements.

    Raises:
        InputError: The number of the student's channels is not O + K, or its maps
            have another size.
    """
    targets = double_targets(old, new)
    _check_shapes(student, targets)
    return functional.mse_loss(at_least_float32(student), targets)


def _check_shapes(student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape:
        raise InputError(
            f'logits of student {tuple(student.shape)} and teacher '
            f'{tuple(teacher.shape)} differ in shape: give those of the same classes '
            'for the same images'
        )
