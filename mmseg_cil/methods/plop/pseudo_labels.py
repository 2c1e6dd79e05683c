"""Pseudo-labels of PLOP: labels of the background by the teacher, at pixels where it is sure."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mmseg_cil.errors import InputError
from mmseg_cil.losses.pixel_statistics import Grid, predictions

MEDIANS = ('true', 'official')
#: Number of bins of a histogram, for each kind of median.
NUM_BINS = {'true': 1000, 'official': 100}
#: The true median's bins are of equal width in this root of the uncertainty, so that they are
#: narrow where teachers are sure: 2 % of the uncertainty at 0.001, 0.5 % at 0.5.
_ROOT = 4


def official_scale(num_old: int, num_classes: int) -> float:
    r"""Return the ratio of our uncertainty to the official code's, :math:`O \log C`.

    The official code divides the entropy by the greatest entropy too, but computes the
    entropy as a *mean* over the O classes, and divides it by :math:`\log C` once more. The
    official uncertainty is therefore at most :math:`1 / (O \log C)`: 0.022 for 16 and 17
    classes, 0.002 for 101 and 151.

    Source: arthurdouillard/CVPR2021_PLOP ``train.py``, ``entropy`` and ``max_entropy``.

    Args:
        num_old: O, number of classes of the teacher.
        num_classes: C, number of classes seen at this step, new classes included.
    """
    return num_old * math.log(max(num_classes, 2))


def predicted_with_uncertainty(teacher_logits: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Return the teacher's predicted class and :func:`uncertainty`, from logits of any size.

    Args:
        teacher_logits: ``(N, O, h, w)``.
        grid: Size of the labels, and how logits are enlarged to it.

    Returns:
        Classes and uncertainties, both ``(N, H, W)``.
    """
    classes, entropy = predictions(teacher_logits, grid)
    return classes, entropy / math.log(max(teacher_logits.shape[1], 2))


def uncertainty_histograms(
    teacher_logits: Tensor, labels: Tensor, num_classes: int, median: str = 'true'
) -> Tensor:
    """Count the pixels labelled background by predicted class and uncertainty.

    For the true median a bin is a 1000th of the fourth root of the uncertainty (our
    choice). For the official median a bin is a 100th of the uncertainty on the official
    scale (:func:`official_scale`), and only the first few bins can be reached.

    Args:
        teacher_logits: ``(N, O, H, W)`` at the labels' size.
        labels: ``(N, H, W)`` model ids; only pixels with label 0 count.
        num_classes: C, number of classes seen at this step.
        median: 'true' or 'official'.

    Returns:
        ``(C, bins)`` int64; sums of several batches or processes are the
        histograms of all.

    Raises:
        InputError: ``median`` is neither 'true' nor 'official'.
    """
    bins = NUM_BINS[_checked(median)]
    background = labels == 0
    classes, values = predicted_with_uncertainty(
        teacher_logits, Grid((labels.shape[1], labels.shape[2]))
    )
    if median == 'official':
        values = values / official_scale(teacher_logits.shape[1], num_classes)
    else:
        values = values.clamp(min=0) ** (1 / _ROOT)
    places = (values[background] * bins).long().clamp(min=0, max=bins - 1)
    counts = torch.bincount(classes[background] * bins + places, minlength=num_classes * bins)
    return counts.view(num_classes, bins)


def thresholds_from_histograms(
    histograms: Tensor, num_old: int, base: float = 0.001, median: str = 'true'
) -> Tensor:
    """Return a threshold for every class: the median uncertainty, at least ``base``.

    'true' interpolates within the bin in which half of the pixels are reached, and
    ``base`` is a fraction of the greatest entropy. 'official' is arthurdouillard/
    CVPR2021_PLOP ``train.py``, ``find_median``: its running sum adds the *index* of
    a bin instead of the bin's count, so that results depend on the number of pixels, can be
    infinite or negative, or fall to ``base``; medians and ``base`` are on the official
    scale. The official histogram has so few reachable bins that, with many classes, all
    thresholds are above the greatest uncertainty, and no pixel is rejected.

    Args:
        histograms: ``(C, bins)`` of :func:`uncertainty_histograms` for this ``median``.
        num_old: O, number of classes of the teacher.
        base: The least threshold, and the threshold of a class without pixels.
        median: 'true' or 'official'.

    Returns:
        ``(C,)`` float32, on the CPU, on the scale of :func:`uncertainty`.

    Raises:
        InputError: ``median`` is neither 'true' nor 'official'.
    """
    official = _checked(median) == 'official'
    find = _official_median if official else _true_median
    values = [max(find(counts), base) if sum(counts) else base for counts in histograms.tolist()]
    scale = official_scale(num_old, len(values)) if official else 1.0
    return torch.tensor(values, dtype=torch.float32) * scale


def _checked(median: str) -> str:
    if median not in MEDIANS:
        raise InputError(f'the median of the thresholds must be one of {MEDIANS}, got {median!r}')
    return median


def _true_median(counts: list[int]) -> float:
    return float(_median(counts) ** _ROOT)


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
        # index is not always ``place``: 29 / 100 * 100 is below 29. The original does the same.
        index = int(place / size * size)
        if running <= half <= running + counts[index]:
            break
        running += place / size * size
    else:
        place = size - 1
    rest = half - running
    share = rest / counts[index] if counts[index] else math.copysign(math.inf, rest)
    return place / size + share / size


def pseudo_labels(
    labels: Tensor,
    teacher_logits: Tensor,
    thresholds: Tensor,
    factor_without_background: float = 1.0,
    min_factor: float = 0.0,
    candidates: Tensor | None = None,
    align_corners: bool = False,
) -> tuple[Tensor, Tensor]:
    """Label the background by the teacher, and weight images by the share that got a label.

    Pixels labelled with an old class or background get the teacher's predicted class if
    the teacher's uncertainty is below the threshold of this class; otherwise these pixels
    are ignored (255). The adaptive factor of an image is the share of these pixels
    that got a label.

    Source: Douillard et al., CVPR 2021, equations 7 to 9; arthurdouillard/
    CVPR2021_PLOP ``train.py``. For an image without pixels labelled with an old class or
    background the share is 0/0, in the official code first NaN and then 0, which drops the
    image. An image of this kind has labels at all pixels, so by our choice its factor is 1.

    Args:
        labels: ``(N, H, W)`` model ids; 255 stays 255.
        teacher_logits: ``(N, O, h, w)``; they are enlarged to the labels' size.
        thresholds: ``(C,)``, on the scale of :func:`uncertainty`.
        factor_without_background: Factor of images that have no pixel labelled
            with an old class or background. 0 in the official code.
        min_factor: If positive, the least factor.
        candidates: bool ``(N, H, W)``: the pixels that may get a pseudo-label.
            None: the pixels labelled with an old class or background.
        align_corners: How the logits are enlarged.

    Returns:
        Labels ``(N, H, W)``, and factors ``(N, 1, 1)`` in [0, 1].
    """
    known = labels < teacher_logits.shape[1] if candidates is None else candidates
    predicted, unsure = predicted_with_uncertainty(
        teacher_logits, Grid((labels.shape[1], labels.shape[2]), align_corners)
    )
    sure = unsure < thresholds[predicted]
    result = torch.where(known, predicted.masked_fill(~sure, 255), labels)
    total = known.sum(dim=(1, 2), keepdim=True)
    labelled = (known & sure).sum(dim=(1, 2), keepdim=True)
    factor = labelled / (total + 1e-6)
    factor = torch.where(total > 0, factor, torch.full_like(factor, factor_without_background))
    return result, factor.clamp(min=min_factor) if min_factor > 0 else factor
