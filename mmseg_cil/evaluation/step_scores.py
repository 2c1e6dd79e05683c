"""The entry of one step in ``metrics.json``, computed from its confusion matrices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from mmseg_cil.errors import InputError
from mmseg_cil.evaluation.confusion import (
    ABSENT_CHOICES,
    Absent,
    FloatArray,
    accuracy_from_confusion,
    frequency_weighted_iou,
    iou_from_confusion,
    mean_defined,
    overall_accuracy,
)
from mmseg_cil.utils.harmonic import with_harmonic

Old: TypeAlias = Literal['previous', 'base']
Counts: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ScoreSettings:
    """The choices in which papers differ when they turn a confusion matrix into a number.

    Attributes:
        old: ``'previous'``: old classes (or domains) are those of all earlier steps,
            new ones those of this step. ``'base'``: old ones are those of step 0, new
            ones those of all later steps, as in the tables of PLOP and RCIL.
        background_in_means: Whether the background counts in ``mIoU`` and in
            ``groups``. The mIoU with and without background are stored besides.
        absent: The IoU of a class without a true pixel, see
            :func:`~mmseg_cil.evaluation.confusion.iou_from_confusion`.
        eps: Added to the denominators of IoU and accuracy.
    """

    old: Old = 'previous'
    background_in_means: bool = True
    absent: Absent = 'skip'
    eps: float = 0.0

    def __post_init__(self) -> None:
        if self.old not in ('previous', 'base'):
            raise InputError(f"old is {self.old!r}; choose 'previous' or 'base'")
        if self.absent not in ABSENT_CHOICES:
            choices = ', '.join(map(repr, ABSENT_CHOICES))
            raise InputError(f'absent is {self.absent!r}; choose one of {choices}')
        if self.eps < 0:
            raise InputError(f'eps is {self.eps}; it is added to denominators and must be >= 0')


def part_origins(origins: Sequence[int], step: int, old: Old) -> dict[str, set[int]]:
    """Return the steps whose classes (or domains) make up all, old, new, base and later.

    Args:
        origins: The steps that added classes (or domains) so far.
        step: k, the step just finished.
        old: See :class:`ScoreSettings`.

    Returns:
        The set of steps of each part. At step 0 the parts old and later are empty
        and the part new is step 0, whatever the argument ``old``.
    """
    every = set(origins)
    base = every & {0}
    former = {j for j in every if j < step} if old == 'previous' else base
    if step == 0:
        former = set()
    return {
        'all': every,
        'old': former,
        'new': every - former,
        'base': base,
        'later': every - base,
    }


def step_entry(
    confusion: Counts,
    images: Sequence[int],
    class_steps: Sequence[int],
    step: int,
    names: Sequence[str],
    has_background: bool,
    settings: ScoreSettings,
    introduced: Sequence[Sequence[str]] | None = None,
) -> dict[str, Any]:
    """Return the entry of one step in ``metrics.json``.

    With one confusion matrix the parts old, new, base, later and the groups are
    means over the *classes* that the respective steps added. With several matrices
    (a walk over domains, one matrix a step) a part is the mIoU of all classes on
    the images of the *domains* of the respective steps, with pixels pooled before
    the division, and group j is the mIoU on the domains of step j.

    The key ``'hIoU'`` beside the parts is the harmonic mean of old and new, with the background as
    in these parts: where it counts, it is a class of step 0, and so an old one after step 0.

    Args:
        confusion: int64 (D, C, C) [true, predicted], model ids. D = 1, or
            step + 1 in a walk over domains.
        images: (D,) number of images of each matrix.
        class_steps: (C,) the step that added each model id.
        step: k, the step just finished.
        names: (C,) class names by model id.
        has_background: Whether model id 0 is the background.
        settings: The choices in which papers differ.
        introduced: Names of the classes or domains that each of the steps 0..k added.
            None: the classes of ``class_steps``, or ``'domain j'`` in a walk over domains.

    Returns:
        The entry; NaN is written as None. ``groups`` has step + 1 values.
    """
    by_domain = len(confusion) > 1
    pooled = confusion.sum(axis=0)
    if introduced is None:
        introduced = _introduced(names, class_steps, step, by_domain)
    return {
        'step': step,
        'seen': list(names),
        'introduced': [list(group) for group in introduced],
        'IoU': _named(names, iou_from_confusion(pooled, settings.eps, settings.absent)),
        'accuracy': _named(names, accuracy_from_confusion(pooled, settings.eps)),
        **_means(confusion, class_steps, step, has_background, settings),
        **_totals(pooled, settings.eps),
        'images': int(sum(images)),
        'images_by_domain': [int(n) for n in images] if by_domain else None,
        'settings': {**asdict(settings), 'background': names[0] if has_background else None},
    }


def _totals(pooled: Counts, eps: float) -> dict[str, float | None]:
    """Return the scores over all classes together: accuracies and weighted IoU."""
    return {
        'mean_accuracy': none_if_nan(mean_defined(accuracy_from_confusion(pooled, eps))),
        'overall_accuracy': none_if_nan(overall_accuracy(pooled)),
        'frequency_weighted_IoU': none_if_nan(frequency_weighted_iou(pooled, eps)),
    }


def _means(
    confusion: Counts,
    class_steps: Sequence[int],
    step: int,
    has_background: bool,
    settings: ScoreSettings,
) -> dict[str, Any]:
    """Return the mIoU of every part and group, and hIoU; arguments as in :func:`step_entry`."""

    def mean(wanted: set[int], background: bool) -> float | None:
        kept = range(0 if background or not has_background else 1, len(class_steps))
        return _part_mean(confusion, class_steps, wanted, kept, settings)

    origins = list(range(step + 1)) if len(confusion) > 1 else list(class_steps)
    parts = part_origins(origins, step, settings.old)
    with_background = with_harmonic({part: mean(wanted, True) for part, wanted in parts.items()})
    without_background = with_harmonic({p: mean(wanted, False) for p, wanted in parts.items()})
    means = with_background if settings.background_in_means else without_background
    return {
        'mIoU': dict(means),
        'mIoU_with_background': with_background,
        'mIoU_without_background': without_background,
        'groups': [mean({j}, settings.background_in_means) for j in range(step + 1)],
    }


def none_if_nan(value: float) -> float | None:
    """Return None for NaN, which JSON does not have, and any other value as a float."""
    return None if np.isnan(value) else float(value)


def _part_mean(
    confusion: Counts,
    class_steps: Sequence[int],
    wanted: set[int],
    kept: Sequence[int],
    settings: ScoreSettings,
) -> float | None:
    """Return the mIoU of the wanted steps' classes or domains; None without wanted steps."""
    if not wanted:
        return None
    if len(confusion) > 1:
        chosen, classes = confusion[sorted(wanted)].sum(axis=0), list(kept)
    else:
        chosen, classes = confusion[0], [c for c in kept if class_steps[c] in wanted]
    iou: FloatArray = iou_from_confusion(chosen, settings.eps, settings.absent)
    return none_if_nan(mean_defined(iou[classes]))


def _named(names: Sequence[str], values: FloatArray) -> dict[str, float | None]:
    return {name: none_if_nan(value) for name, value in zip(names, values, strict=True)}


def _introduced(
    names: Sequence[str], class_steps: Sequence[int], step: int, by_domain: bool
) -> list[list[str]]:
    if by_domain:
        return [[f'domain {j}'] for j in range(step + 1)]
    return [
        [name for name, origin in zip(names, class_steps, strict=True) if origin == j]
        for j in range(step + 1)
    ]
