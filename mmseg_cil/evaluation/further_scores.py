"""Dice, F-score, precision and recall of a step, where a config asks for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mmseg_cil.evaluation.confusion import FloatArray, accuracy_from_confusion, mean_defined
from mmseg_cil.evaluation.step_scores import Counts, ScoreSettings, none_if_nan, part_origins

#: Metrics of MMSegmentation's ``IoUMetric`` beside ``mIoU``, with the scores of each.
FURTHER = {'mDice': ('Dice',), 'mFscore': ('Fscore', 'Precision', 'Recall')}
#: The single scores.
FURTHER_NAMES = tuple(name for names in FURTHER.values() for name in names)


def further_entry(
    confusion: Counts,
    class_steps: Sequence[int],
    step: int,
    names: Sequence[str],
    has_background: bool,
    settings: ScoreSettings,
    metrics: Sequence[str],
    beta: float = 1.0,
) -> dict[str, Any]:
    """Return the further scores in a step's entry of ``metrics.json``.

    The key ``'Dice'`` holds the Dice score of every class by name, ``'mDice'`` the means over the
    parts that ``'mIoU'`` has, and so on. A class without a true pixel has none of these scores, as
    it has no IoU; a class that is never predicted has no precision.

    Args:
        confusion: int64 (D, C, C) [true, predicted], as in
            :func:`~mmseg_cil.evaluation.step_scores.step_entry`.
        class_steps: (C,) the step that added each model id.
        step: The step.
        names: (C,) class names.
        has_background: Whether model id 0 is the background.
        settings: The choices in which papers differ.
        metrics: Keys of :data:`FURTHER`; other names are passed over.
        beta: Weight of the recall in the F-score.
    """
    by_domain = len(confusion) > 1
    parts = part_origins(range(step + 1) if by_domain else class_steps, step, settings.old)
    first = 0 if settings.background_in_means or not has_background else 1
    result: dict[str, Any] = {}
    for name in (further for metric in metrics for further in FURTHER.get(metric, ())):
        values = _scores(confusion.sum(axis=0), name, settings.eps, beta)
        result[name] = {
            class_name: none_if_nan(value) for class_name, value in zip(names, values, strict=True)
        }
        means: dict[str, float | None] = {}
        for part, wanted in parts.items():
            chosen = confusion[sorted(wanted)].sum(axis=0) if by_domain else confusion[0]
            kept = [c for c in range(first, len(names)) if by_domain or class_steps[c] in wanted]
            means[part] = (
                none_if_nan(mean_defined(_scores(chosen, name, settings.eps, beta)[kept]))
                if wanted
                else None
            )
        result[f'm{name}'] = means
    return result


def _scores(confusion: Counts, name: str, eps: float, beta: float) -> FloatArray:
    """Return one score of every class; NaN where it is undefined."""
    if name == 'Recall':
        return accuracy_from_confusion(confusion, eps)
    hits = np.diag(confusion).astype(np.float64)
    truth, found = confusion.sum(axis=1), confusion.sum(axis=0)
    with np.errstate(divide='ignore', invalid='ignore'):
        if name == 'Precision':
            return np.where((truth > 0) & (found > 0), hits / (found + eps), np.nan)
        # Dice is the F-score with equal weights of precision and recall.
        weight = beta**2 if name == 'Fscore' else 1.0
        score = (1 + weight) * hits / (weight * truth + found + eps)
    return np.where(truth > 0, score, np.nan)
