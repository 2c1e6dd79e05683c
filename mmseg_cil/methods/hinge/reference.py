"""The hinge in plain form, for reading and for tests; training does not use it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor


def hinge(
    means: Tensor,
    classes: Sequence[int],
    weight: Tensor,
    bias: Tensor,
    num_old: int,
    margin: float = 1.0,
    against: str = 'own',
) -> float:
    r"""Return the mean over earlier classes j of :math:`\max(0, s_j - z_j(m_j) + margin)^2`.

    :math:`s_j` is the log-sum-exp of the logits of the new classes at the mean embedding
    :math:`m_j` of class j, and :math:`z_j(m_j)` the class's own logit there. Or each of them is the
    greatest logit, of the new and of the earlier classes.

    Args:
        means: ``(J, D)`` mean embeddings of J earlier classes.
        classes: J model ids, one per mean.
        weight: ``(C, D)`` rows of all classes.
        bias: ``(C,)``.
        num_old: The first new class's model id.
        margin: Distance by which the earlier logit is to exceed :math:`s_j`.
        against: 'own', or 'greatest' for the greatest logits.

    Example:
        >>> import torch
        >>> # The mean of class 0 scores 1 for it and 0 for the new class: the margin of 1 is met.
        >>> means, rows = torch.tensor([[1.0, 0.0]]), torch.eye(2)
        >>> hinge(means, [0], rows, torch.zeros(2), num_old=1)
        0.0
    """
    total = 0.0
    for mean, j in zip(means, classes, strict=True):
        # Logits of all C classes at the mean embedding of class j.
        logits = [float(row @ mean + shift) for row, shift in zip(weight, bias, strict=True)]
        greatest = max(logits[num_old:])
        # s_j; the greatest logit is taken out, so that no exponential overflows.
        of_new = greatest + math.log(sum(math.exp(logit - greatest) for logit in logits[num_old:]))
        score, kept = (of_new, logits[j]) if against == 'own' else (greatest, max(logits[:num_old]))
        total += max(0.0, score - kept + margin) ** 2
    return total / len(classes)
