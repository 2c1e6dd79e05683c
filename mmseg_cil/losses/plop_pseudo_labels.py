"""Pseudo-labels of PLOP: what the teacher, where it is sure, says of the background."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from mmseg_cil.errors import InputError
from mmseg_cil.losses.pixel_statistics import Grid, predictions
from mmseg_cil.losses.precision import at_least_float32

NUM_BINS = 100
MEDIANS = ('true', 'official')


def scaled_entropy(teacher_logits: Tensor) -> Tensor:
    r"""Entropy per pixel as the official code scales it.

    :math:`-\frac{1}{O \log O} \sum_c p_c \log p_c`: a *mean* over the O classes
    besides the division by the greatest entropy, so it lies in [0, 1/O].

    Source: arthurdouillard/CVPR2021_PLOP ``train.py``, ``entropy``.

    Args:
        teacher_logits: ``(N, O, H, W)``. Half precision is computed in float32.

    Returns:
        ``(N, H, W)``; zero where O is 1.
    """
    logs = at_least_float32(teacher_logits).log_softmax(dim=1)
    num_old = logs.shape[1]
    if num_old == 1:
        return torch.zeros_like(logs[:, 0])
    # Below the least number p is 0 and so is p log p, whatever the logarithm says.
    products = logs.exp() * logs.clamp(min=torch.finfo(logs.dtype).min)
    return -products.mean(dim=1) / math.log(num_old)


def uncertainty(teacher_logits: Tensor, num_classes: int) -> Tensor:
    """What is held against the thresholds: :func:`scaled_entropy` over ``log(num_classes)``.

    Args:
        teacher_logits: ``(N, O, H, W)``.
        num_classes: Classes seen at this step, new ones included.

    Returns:
        ``(N, H, W)``.
    """
    return scaled_entropy(teacher_logits) / math.log(max(num_classes, 2))


def predicted_with_uncertainty(teacher_logits: Tensor, num_classes: int,
                               grid: Grid) -> tuple[Tensor, Tensor]:
    """The class that the teacher predicts and its :func:`uncertainty`, from logits of any size.

    Args:
        teacher_logits: ``(N, O, h, w)``.
        num_classes: Classes seen at this step, new ones included.
        grid: Size of the labels and the way to it.

    Returns:
        Both ``(N, H, W)``.
    """
    num_old = teacher_logits.shape[1]
    classes, entropy = predictions(teacher_logits, grid)
    divisor = num_old * math.log(max(num_old, 2)) * math.log(max(num_classes, 2))
    return classes, entropy / divisor


def uncertainty_histograms(teacher_logits: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Counts the pixels labelled background by predicted class and uncertainty.

    Args:
        teacher_logits: ``(N, O, H, W)`` at the labels' size.
        labels: ``(N, H, W)`` model ids; only pixels with label 0 count.
        num_classes: C, classes seen at this step.

    Returns:
        ``(C, 100)`` int64, bins of [0, 1]; sums of several batches or processes
        are the histograms of all.
    """
    background = labels == 0
    classes, values = predicted_with_uncertainty(
        teacher_logits, num_classes, Grid((labels.shape[1], labels.shape[2])))
    bins = (values[background] * NUM_BINS).long().clamp(min=0, max=NUM_BINS - 1)
    classes = classes[background]
    counts = torch.bincount(classes * NUM_BINS + bins, minlength=num_classes * NUM_BINS)
    return counts.view(num_classes, NUM_BINS)


def thresholds_from_histograms(histograms: Tensor,
                               base: float = 0.001,
                               median: str = 'true') -> Tensor:
    """A threshold for every class: the median uncertainty, at least ``base``.

    'true' interpolates within the bin in which half of the pixels are reached.
    'official' is arthurdouillard/CVPR2021_PLOP ``train.py``, ``find_median``:
    there the running sum adds the *index* of a bin instead of its count, so
    that results depend on the number of pixels, can be infinite or negative, or
    fall to ``base``.

    Args:
        histograms: ``(C, bins)`` counts over [0, 1].
        base: The least threshold, and that of a class without pixels.
        median: 'true' or 'official'.

    Returns:
        ``(C,)`` float32, on the CPU.

    Raises:
        InputError: ``median`` is neither.
    """
    if median not in MEDIANS:
        raise InputError(f'the median of the thresholds must be one of {MEDIANS}, got {median!r}')
    find = _median if median == 'true' else _official_median
    values = [find(counts) if sum(counts) else base for counts in histograms.tolist()]
    return torch.tensor([max(value, base) for value in values], dtype=torch.float32)


def _median(counts: list[int]) -> float:
    half, below = sum(counts) / 2, 0
    for index, count in enumerate(counts):
        if count and below + count >= half:
            return (index + (half - below) / count) / len(counts)
        below += count
    raise AssertionError('a class without pixels has no median')


def _official_median(counts: list[int]) -> float:
    size, half, running, index = len(counts), sum(counts) / 2, 0.0, 0
    for place in range(size):
        # Not always ``place``: 29 / 100 * 100 is below 29. So it is in the original.
        index = int(place / size * size)
        if running <= half <= running + counts[index]:
            break
        running += place / size * size
    else:
        place = size - 1
    rest = half - running
    share = rest / counts[index] if counts[index] else math.copysign(math.inf, rest)
    return place / size + share / size


def pseudo_labels(labels: Tensor,
                  teacher_logits: Tensor,
                  thresholds: Tensor,
                  num_classes: int,
                  factor_without_background: float = 1.0,
                  min_factor: float = 0.0,
                  candidates: Tensor | None = None,
                  align_corners: bool = False) -> tuple[Tensor, Tensor]:
    """Labels the background by the teacher, and weighs images by how much of it could be.

    Pixels labelled with an old class or background get the teacher's class
    where its uncertainty is below that class's threshold; elsewhere they are
    ignored (255). The adaptive factor of an image is the share of such pixels
    that got a label.

    Source: Douillard et al., CVPR 2021, equations 7 to 9; arthurdouillard/
    CVPR2021_PLOP ``train.py``. For an image without any such pixel the share
    is 0/0, in the official code first NaN and then 0, which drops the image.
    All its labels are given, so by our choice it counts fully.

    Args:
        labels: ``(N, H, W)`` model ids; 255 stays 255.
        teacher_logits: ``(N, O, h, w)``; they are enlarged to the labels' size.
        thresholds: ``(C,)``.
        num_classes: C, classes seen at this step.
        factor_without_background: Factor of images that have no pixel labelled
            with an old class or background. Officially 0.
        min_factor: If positive, the least factor.
        candidates: bool ``(N, H, W)``: the pixels that may get a pseudo-label.
            None: those labelled with an old class or background.
        align_corners: How the logits are enlarged.

    Returns:
        Labels ``(N, H, W)``, and factors ``(N, 1, 1)`` in [0, 1].
    """
    known = labels < teacher_logits.shape[1] if candidates is None else candidates
    predicted, unsure = predicted_with_uncertainty(
        teacher_logits, num_classes, Grid((labels.shape[1], labels.shape[2]), align_corners))
    sure = unsure < thresholds[predicted]
    result = torch.where(known, predicted.masked_fill(~sure, 255), labels)
    total = known.sum(dim=(1, 2), keepdim=True)
    labelled = (known & sure).sum(dim=(1, 2), keepdim=True)
    factor = labelled / (total + 1e-6)
    factor = torch.where(total > 0, factor, torch.full_like(factor, factor_without_background))
    return result, factor.clamp(min=min_factor) if min_factor > 0 else factor


def pseudo_label_cross_entropy(logits: Tensor, labels: Tensor, factors: Tensor) -> Tensor:
    """Cross-entropy per pixel times the factor of the image.

    Args:
        logits: ``(N, C, H, W)``. Half precision is computed in float32.
        labels: ``(N, H, W)`` model ids; 255 is ignored.
        factors: ``(N, 1, 1)``.

    Returns:
        ``(N, H, W)``, zero at ignored pixels.
    """
    loss = functional.cross_entropy(
        at_least_float32(logits), labels.long(), ignore_index=255, reduction='none')
    return loss * factors
