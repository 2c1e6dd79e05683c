"""Losses by which a generator of images learns from a frozen network alone.

Choi, El-Khamy and Lee, "Dual-Teacher Class-Incremental Learning With Data-Free
Generative Replay", CVPR workshops 2021 (arXiv 2106.09835), train a generator
from a pre-trained classifier without data; neither its losses nor code are
published. The terms here come from public analogues (the docstring of each term
names its source). We adapted them to segmentation: the label becomes a layout,
cross-entropy and entropies are per pixel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.dist import all_reduce
from torch import Tensor
from torch.nn import functional

from mmseg_cil.losses.precision import at_least_float32


class _MeanOverProcesses(torch.autograd.Function):
    """The mean of a tensor over all processes; its gradient reaches every process."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        result = value.clone()
        all_reduce(result, 'mean')
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        result = gradient.clone()
        all_reduce(result, 'mean')
        return result


def mean_over_processes(value: Tensor) -> Tensor:
    """Compute the mean of equally shaped tensors over all processes, differentiably.

    If the loss on every process is a function of this mean and DistributedDataParallel
    averages the gradients, parameters get the gradient that a single process would
    compute on the whole batch.
    """
    result: Tensor = _MeanOverProcesses.apply(value)
    return result


def batch_moments(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Compute mean and variance of every channel over the batches of all processes.

    Args:
        maps: ``(N, D, H, W)``; N, H and W are equal on all processes. Half
            precision is computed in float32.

    Returns:
        Mean and (biased) variance ``(D,)``, equal on all processes.
    """
    maps = at_least_float32(maps)
    mean = mean_over_processes(maps.mean(dim=(0, 2, 3)))
    # Deviations from the mean of all processes: E[x^2] - E[x]^2, a difference of two large
    # numbers, would lose digits.
    variance = (maps - mean[None, :, None, None]).square().mean(dim=(0, 2, 3))
    return mean, mean_over_processes(variance)


def normal_divergence(
    mean: Tensor, variance: Tensor, batch_mean: Tensor, batch_variance: Tensor, eps: float = 1e-8
) -> Tensor:
    r"""Compute the KL divergence of a batch's normal distribution from the running statistics'.

    .. math:: \mathrm{KL}(\mathcal N(\mu, \sigma^2) \,\|\, \mathcal N(\mu_b, \sigma_b^2)) =
        \log\frac{\sigma_b}{\sigma} - \frac12 \left(1 -
        \frac{\sigma^2 + (\mu - \mu_b)^2}{\sigma_b^2}\right)

    Source of the form and of the order of the arguments: GT-RIPL/AlwaysBeDreaming-DFCIL
    ``learners/datafree_helper.py``, ``DeepInversionFeatureHook``.

    Args:
        mean: Running mean, of any shape; the other arguments have the same shape.
        variance: Running variance.
        batch_mean: Mean of the batch.
        batch_variance: Variance of the batch.
        eps: Added to both variances.

    Returns:
        The divergence of each element, >= 0; 0 and stationary where the moments agree.
    """
    variance, batch_variance = variance + eps, batch_variance + eps
    ratio = (variance + (mean - batch_mean).square()) / batch_variance
    return 0.5 * (batch_variance.log() - variance.log() - 1 + ratio)


def statistics_loss(divergences: Sequence[Tensor]) -> Tensor:
    """Average divergences over channels, then over layers; 0 without layers.

    Args:
        divergences: ``(D_i,)`` of every layer, from :func:`normal_divergence`.
    """
    if not divergences:
        return torch.zeros(())
    return torch.stack([divergence.mean() for divergence in divergences]).mean()


def class_balance(mean_probabilities: Tensor) -> Tensor:
    r"""Compute the mean prediction's distance from uniform, :math:`1 - H(\bar p) / \log K`.

    Source: GT-RIPL/AlwaysBeDreaming-DFCIL ``learners/datafree_helper.py``,
    ``Teacher.get_images``, where the mean prediction is over a batch of images; here it
    is over all pixels.

    Args:
        mean_probabilities: ``(K,)``, sums to 1.

    Returns:
        Scalar: 0 for the uniform distribution, 1 for a single class; 0 for K = 1.
    """
    count = len(mean_probabilities)
    if count < 2:
        return mean_probabilities.sum() * 0
    return 1 - torch.special.entr(mean_probabilities).sum() / math.log(count)


def mean_entropy(logits: Tensor) -> Tensor:
    """Compute the mean entropy of the predictions, in units of its greatest value log K.

    Args:
        logits: ``(N, K, H, W)``.

    Returns:
        Scalar in 0..1; 0 for K = 1.
    """
    if logits.shape[1] < 2:
        return logits.sum() * 0
    logarithms = logits.log_softmax(dim=1)
    entropy = -(logarithms.exp() * logarithms).sum(dim=1)
    return entropy.mean() / math.log(logits.shape[1])


def mean_probability(logits: Tensor) -> Tensor:
    """Compute the mean softmax ``(K,)`` over the pixels ``(N, K, H, W)`` of all processes."""
    return mean_over_processes(logits.softmax(dim=1).mean(dim=(0, 2, 3)))


def total_variation(images: Tensor) -> Tensor:
    """Compute the mean absolute difference of neighbouring pixels, of rows plus of columns.

    Args:
        images: ``(N, D, H, W)``, H and W at least 2.
    """
    images = at_least_float32(images)
    return images.diff(dim=3).abs().mean() + images.diff(dim=2).abs().mean()


def layout_cross_entropy(logits: Tensor, layouts: Tensor) -> Tensor:
    """Compute the mean cross-entropy over pixels of the prediction with the layout's class.

    Args:
        logits: ``(N, K, H, W)``.
        layouts: ``(N, H, W)`` integer classes in ``[0, K)``; 255 is ignored.
    """
    valid = layouts != 255
    losses = functional.cross_entropy(logits, layouts.long(), ignore_index=255, reduction='none')
    return losses.sum() / valid.sum().clamp(min=1)


def followed(logits: Tensor, layouts: Tensor) -> Tensor:
    """Compute the fraction of pixels whose greatest logit belongs to the layout's class.

    The fraction is over the pixels of all processes.

    Args:
        logits: ``(N, K, H, W)``.
        layouts: ``(N, H, W)``, without ignored pixels.
    """
    with torch.no_grad():
        return mean_over_processes((logits.argmax(dim=1) == layouts).float().mean())
