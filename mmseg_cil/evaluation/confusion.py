"""The confusion matrix, and the scores that follow from it alone."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mmseg_cil.errors import InputError

Absent: TypeAlias = Literal['skip', 'union', 'zero']
FloatArray: TypeAlias = npt.NDArray[np.float64]

# On these devices bincount reads the smallest and the largest value back to size its output, and
# so waits for all queued work. The size is known here, so the counts are scattered instead.
SIZED_BY_READING_BACK = ('cuda', 'npu', 'mlu', 'musa', 'xpu')

ABSENT_CHOICES: tuple[Absent, ...] = ('skip', 'union', 'zero')


def pair_counts(pred: Tensor, target: Tensor, num_classes: int, ignore_index: int = 255) -> Tensor:
    """Count the (true, predicted) pairs of an image without waiting for the device.

    Pixels that cannot be counted go to two further bins, so that no operation
    depends on a value that only the device knows: neither a mask of varying
    size nor a check is read back.

    Args:
        pred: Predicted model ids, any shape, any integer type.
        target: True model ids, same shape, same device; ``ignore_index`` where
            a pixel does not count.
        num_classes: C, the number of model outputs.
        ignore_index: The label of pixels that do not count.

    Returns:
        int64 (C * C + 2,): the row-major confusion matrix [true, predicted],
        then the number of ignored pixels, then the number of pixels whose
        label or prediction is outside 0..C-1 (0 for sound input).
    """
    pred, target = pred.reshape(-1).long(), target.reshape(-1).long()
    ignored, wrong = num_classes**2, num_classes**2 + 1
    outside = (target < 0) | (target >= num_classes) | (pred < 0) | (pred >= num_classes)
    pairs = torch.where(outside, wrong, target * num_classes + pred)
    pairs = torch.where(target == ignore_index, ignored, pairs)
    if pairs.device.type not in SIZED_BY_READING_BACK:
        return torch.bincount(pairs, minlength=wrong + 1)
    counts = torch.zeros(wrong + 1, dtype=torch.int64, device=pairs.device)
    return counts.scatter_add_(0, pairs, torch.ones_like(pairs))


def confusion_matrix(
    pred: Tensor, target: Tensor, num_classes: int, ignore_index: int = 255
) -> Tensor:
    """Count how often each class was predicted as each other class.

    The layout is that of MiB (``metrics/stream_metrics.py``) and scikit-learn:
    rows are the truth, columns the prediction.

    Args:
        pred: Predicted model ids, any shape, any integer type.
        target: True model ids, same shape; ``ignore_index`` where a pixel does
            not count.
        num_classes: C, the number of model outputs.
        ignore_index: The label of pixels that do not count.

    Returns:
        int64 (C, C) on the device of ``pred``; element [t, p] is the number of
        pixels of class t predicted as p.

    Raises:
        InputError: The shapes differ, or an id is neither in 0..C-1 nor ignored.
    """
    if pred.shape != target.shape:
        raise InputError(
            f'prediction and label differ in shape: {tuple(pred.shape)} and '
            f'{tuple(target.shape)}; both must have one id a pixel of the same image'
        )
    counts = pair_counts(pred, target.to(pred.device), num_classes, ignore_index)
    require_known_ids(int(counts[-1]), num_classes, ignore_index)
    return counts[:-2].reshape(num_classes, num_classes)


def require_known_ids(outside: int, num_classes: int, ignore_index: int) -> None:
    """Refuse a count of pixels whose label or prediction is not a class.

    Args:
        outside: Number of such pixels (the last element of :func:`pair_counts`).
        num_classes: C, the number of model outputs.
        ignore_index: The label of pixels that do not count.

    Raises:
        InputError: ``outside`` is not zero.
    """
    if outside:
        raise InputError(
            f'{outside} pixels have a label or a prediction outside 0..{num_classes - 1} '
            f'(and not {ignore_index}, which is ignored): the labels are not mapped to the '
            f'outputs of this step, or the model has another number of outputs'
        )


def iou_from_confusion(confusion: Any, eps: float = 0.0, absent: Absent = 'skip') -> FloatArray:
    """Return the intersection over union of every class.

    IoU_c = n_cc / (sum_p n_cp + sum_t n_tc - n_cc + eps).

    Args:
        confusion: Integer (C, C) [true, predicted], tensor or array.
        eps: Added to the denominator. The default is 0; MiB and its descendants use
            1e-6 (``metrics/stream_metrics.py``), which changes the 7th digit.
        absent: The IoU of a class without a true pixel. ``'skip'``: undefined, as
            in MiB; false positives of the class still count against the others.
            ``'union'``: undefined only if the class is not predicted either, else 0,
            as in MMSegmentation's ``IoUMetric``. ``'zero'``: always 0.

    Returns:
        float64 (C,) in [0, 1]; NaN where undefined.

    Raises:
        InputError: ``absent`` is none of the three choices.

    Example:
        >>> iou_from_confusion(np.array([[3, 1], [1, 3]])).tolist()
        [0.6, 0.6]
    """
    if absent not in ABSENT_CHOICES:
        raise InputError(
            f'absent is {absent!r}; choose one of ' + ', '.join(map(repr, ABSENT_CHOICES))
        )
    counts = _as_counts(confusion)
    hits, truth = np.diag(counts), counts.sum(axis=1)
    union = truth + counts.sum(axis=0) - hits
    iou = _divide(hits, union, eps)
    if absent == 'zero':
        return np.where(truth > 0, iou, 0.0)
    return np.where(truth > 0 if absent == 'skip' else union > 0, iou, np.nan)


def accuracy_from_confusion(confusion: Any, eps: float = 0.0) -> FloatArray:
    """Return the share of every class's true pixels that were found (the class's recall).

    Args:
        confusion: Integer (C, C) [true, predicted], tensor or array.
        eps: Added to the denominator (see :func:`iou_from_confusion`).

    Returns:
        float64 (C,) in [0, 1]; NaN for a class without a true pixel.
    """
    counts = _as_counts(confusion)
    truth = counts.sum(axis=1)
    return np.where(truth > 0, _divide(np.diag(counts), truth, eps), np.nan)


def overall_accuracy(confusion: Any) -> float:
    """Return the share of all counted pixels that are right; NaN where none is counted."""
    counts = _as_counts(confusion)
    total = counts.sum()
    return float(np.trace(counts) / total) if total else float('nan')


def frequency_weighted_iou(confusion: Any, eps: float = 0.0) -> float:
    """Return the mean IoU weighted by each class's share of the true pixels.

    Args:
        confusion: Integer (C, C) [true, predicted], tensor or array.
        eps: Added to the IoU's denominator.

    Returns:
        The weighted mean; NaN where no pixel is counted.
    """
    counts = _as_counts(confusion)
    if not counts.sum():
        return float('nan')
    share = counts.sum(axis=1) / counts.sum()
    present = share > 0
    return float((share[present] * iou_from_confusion(counts, eps)[present]).sum())


def mean_defined(values: Any) -> float:
    """Return the mean of the defined values (not NaN); NaN where no value is defined."""
    array = np.asarray(values, dtype=np.float64)
    array = array[~np.isnan(array)]
    return float(np.mean(array)) if array.size else float('nan')


def _as_counts(confusion: Any) -> npt.NDArray[np.int64]:
    if isinstance(confusion, Tensor):
        confusion = confusion.cpu().numpy()
    return np.asarray(confusion, dtype=np.int64)


def _divide(
    numerator: npt.NDArray[np.int64], denominator: npt.NDArray[np.int64], eps: float
) -> Any:
    with np.errstate(divide='ignore', invalid='ignore'):
        return numerator / (denominator + eps)
