"""DKD's adaptive weight of the loss, from a step's class counts and its classifier."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

import torch
from torch import Tensor
from torch.nn import functional

from mmseg_cil.errors import InputError
from mmseg_cil.utils.step_context import StepContext

#: (classifier rows ``(C, D)`` or None if unknown, step) -> factor of the loss, number or scalar.
Weighting = Callable[[Tensor | None, StepContext], Tensor | float]


def constant_weight(rows: Tensor | None, step: StepContext) -> float:
    """Return 1 in every step."""
    return 1.0


def count_weight(rows: Tensor | None, step: StepContext) -> float:
    """Return the share of the old classes among all classes, or 1 if no class is new.

    The more old classes there are, the more knowledge can be lost.
    """
    return step.num_old / step.num_seen if step.num_new else 1.0


def count_and_similarity_weight(rows: Tensor | None, step: StepContext) -> Tensor | float:
    r"""Return the share of the old classes, up to doubled if new classes resemble old ones.

    .. math:: \frac{O}{O + N} (1 + \rho)

    :math:`\rho` is the mean over the N new classes of the greatest cosine
    between their row of the classifier and that of an old class, clipped to
    [0, 1]. If no class is new the weight is 1.

    The rows are the current ones and get no gradient. The background's row is left out
    of the old rows unless it is the only old row: it resembles every new class in a way
    that carries no information, above all where new rows begin as copies of it
    (``classifier_init='balanced'``).

    Source: arXiv 2405.09820 weighs by the count and the similarity of old and
    new classes; its formula is not known to us, so this one is our choice.

    Raises:
        InputError: ``rows`` is None, and there are new classes.
    """
    if not step.num_new:
        return 1.0
    if rows is None:
        raise InputError(
            "the weighting 'counts_and_similarity' needs the rows of the student's "
            'classifier, as a LogitDistiller hands them over: use the loss in one, or '
            "weighting='counts'"
        )
    old, new = rows[: step.num_old], rows[step.num_old : step.num_seen]
    if step.has_background and len(old) > 1:
        old = old[1:]
    with torch.no_grad(), torch.autocast(rows.device.type, enabled=False):
        old, new = (functional.normalize(flat.flatten(1), dim=1) for flat in (old, new))
        similarity = (new @ old.T).amax(dim=1).mean().clamp(0.0, 1.0)
    return count_weight(rows, step) * (1.0 + similarity)


#: Weightings by their name in a config.
WEIGHTINGS: dict[str, Weighting] = {
    'constant': constant_weight,
    'counts': count_weight,
    'counts_and_similarity': count_and_similarity_weight,
}


def find_weighting(name: str | Weighting) -> Weighting:
    """Look a weighting up.

    Args:
        name: A key of :data:`WEIGHTINGS`, the dotted name 'package.module.function' of a
            function of yours, or the function itself.

    Raises:
        InputError: No key or function has this name.
    """
    if callable(name):
        return name
    if name in WEIGHTINGS:
        return WEIGHTINGS[name]
    module, _, function = str(name).rpartition('.')
    try:
        found = getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            f'unknown weighting {name!r} ({error}): use one of {list(WEIGHTINGS)}, '
            "or 'package.module.function' of your own"
        ) from error
    if not callable(found):
        raise InputError(
            f'weighting {name!r} is no function: use one of {list(WEIGHTINGS)}, or '
            "'package.module.function' of your own"
        )
    weighting: Weighting = found
    return weighting
