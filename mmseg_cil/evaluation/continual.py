"""Metrics of a whole walk: average mIoU, forgetting, backward transfer, intransigence.

All metrics but the average read one matrix ``scores`` (K, N): row i is the i-th
recorded step, column j one class (or one domain), and the value its IoU (or mIoU)
after that step, in [0, 1]; NaN where the class was not seen yet or its value is
undefined. ``learned[j]`` is the row at which class j was learned, or a negative
number where that row is not recorded.

The sources define these metrics for tasks and accuracy. Here a class (or a domain)
replaces the task, the IoU replaces the accuracy, and undefined values are left out
of the mean. Both are choices of this toolkit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Matrix = npt.ArrayLike


def average_miou(miou: Sequence[float]) -> float:
    """Return the mean over the steps of the mIoU of all seen classes (incremental average).

    The metric follows the average incremental accuracy of iCaRL (Rebuffi et al. 2017,
    section 4.1); PLOP (Douillard et al. 2021) reports it as "avg". The first step counts.

    Args:
        miou: mIoU of all seen classes after each step; NaN is left out.

    Returns:
        The mean; NaN where no step has a value.
    """
    return _mean(np.asarray(miou, dtype=np.float64))


def forgetting(scores: Matrix, learned: Sequence[int]) -> float:
    """Return the mean drop of the classes from their best earlier score.

    The definition is that of Chaudhry et al. 2018 (Riemannian Walk, ECCV), section
    3.1, with IoU: f_j = max over i < K-1 of a_ij, minus a_(K-1)j; the mean is taken
    over the classes learned before the last step. It is negative where the classes
    got better.

    Args:
        scores: (K, N), see the module.
        learned: (N,) rows, see the module.

    Returns:
        Mean of f_j over the classes with a last value and an earlier value; NaN
        where there is no such class, as after a single step.

    Example:
        >>> # A class with 60, 50 and 45 % IoU after three steps, another learnt in the last.
        >>> nan = float('nan')
        >>> round(forgetting([[0.60, nan], [0.50, nan], [0.45, 0.2]], [0, 2]), 2)
        0.15
    """
    matrix, rows = _check(scores, learned)
    drops = [
        _max(matrix[:-1, j]) - matrix[-1, j]
        for j, row in enumerate(rows)
        if row < len(matrix) - 1 and len(matrix) > 1
    ]
    return _mean(np.asarray(drops))


def backward_transfer(scores: Matrix, learned: Sequence[int]) -> float:
    """Return BWT, the change of the classes since they were learned; negative is forgetting.

    The definition is eq. 3 of Lopez-Paz & Ranzato 2017 (Gradient Episodic Memory), with
    IoU: the mean over the classes learned before the last step of a_(K-1)j - a_(l_j)j.

    Args:
        scores: (K, N), see the module.
        learned: (N,) rows, see the module.

    Returns:
        The mean over the classes that have both values; NaN where no class has both.

    Example:
        >>> nan = float('nan')
        >>> round(backward_transfer([[0.60, nan], [0.50, nan], [0.45, 0.2]], [0, 2]), 2)
        -0.15
    """
    matrix, rows = _check(scores, learned)
    changes = [
        matrix[-1, j] - matrix[row, j] for j, row in enumerate(rows) if 0 <= row < len(matrix) - 1
    ]
    return _mean(np.asarray(changes))


def intransigence(scores: Matrix, learned: Sequence[int], reference: Sequence[float]) -> float:
    """Return how far the classes fell short of a model trained on all classes at once.

    The definition is that of Chaudhry et al. 2018, section 3.2: I_k = a*_k - a_kk, here
    averaged over all classes. Their reference of step k is trained on steps 0..k; the
    reference here is one joint model of all classes, as segmentation papers report it.

    Args:
        scores: (K, N), see the module.
        learned: (N,) rows, see the module.
        reference: (N,) the joint model's scores; NaN where undefined.

    Returns:
        The mean over the classes that have both values; NaN where no class has both.
    """
    matrix, rows = _check(scores, learned)
    gaps = [reference[j] - matrix[row, j] for j, row in enumerate(rows) if 0 <= row < len(matrix)]
    return _mean(np.asarray(gaps))


def _check(scores: Matrix, learned: Sequence[int]) -> tuple[npt.NDArray[np.float64], list[int]]:
    matrix = np.asarray(scores, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[1] != len(learned):
        raise ValueError(
            f'scores must be (steps, {len(learned)}), one column a class; got {matrix.shape}'
        )
    return matrix, list(learned)


def _max(values: npt.NDArray[np.float64]) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.max()) if defined.size else float('nan')


def _mean(values: npt.NDArray[np.float64]) -> float:
    defined = values[~np.isnan(values)]
    return float(np.mean(defined)) if defined.size else float('nan')
