"""Shares of the confusion matrix that tell forgetting from confusion."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmseg_cil.evaluation.step_scores import Counts


def confusion_shares(
    confusion: Counts, class_steps: Sequence[int], step: int, has_background: bool
) -> dict[str, dict[str, float] | None]:
    """Return as what the pixels of old and of new classes are predicted.

    A forgotten class is predicted as background; a class that a new one resembles is predicted as
    new. The background itself is in neither group.

    Args:
        confusion: int64 (C, C) [true, predicted], model ids.
        class_steps: (C,) the step that brought each model id.
        step: The step just finished; its classes are the new ones.
        has_background: Whether model id 0 is the background.

    Returns:
        For ``'old'`` and ``'new'`` the shares ``'right'`` (the class itself), ``'background'``,
        ``'old'`` and ``'new'`` (another class of these), of sum 1; None where no pixel is of
        such a class.

    Example:
        >>> matrix = np.array([[9, 0, 0], [3, 6, 1], [2, 0, 2]])  # background, old, new
        >>> confusion_shares(matrix, [0, 0, 1], 1, True)['old']
        {'right': 0.6, 'background': 0.3, 'old': 0.0, 'new': 0.1}
    """
    steps = np.asarray(class_steps)
    foreground = np.arange(len(steps)) >= int(has_background)
    groups = {'old': foreground & (steps < step), 'new': foreground & (steps == step)}
    result: dict[str, dict[str, float] | None] = {}
    for name, chosen in groups.items():
        rows = confusion[chosen]
        total = int(rows.sum())
        if not total:
            result[name] = None
            continue
        right = int(confusion.diagonal()[chosen].sum())
        shares = {'right': right / total}
        shares['background'] = int(rows[:, ~foreground].sum()) / total
        for other, columns in groups.items():
            inside = int(rows[:, columns].sum()) - (right if other == name else 0)
            shares[other] = inside / total
        result[name] = shares
    return result
