"""From which learning rate on gradient descent diverges on a quadratic function."""

from __future__ import annotations

import math


def diverging_rate(curvature: float, momentum: float = 0.0, nesterov: bool = False) -> float:
    r"""The learning rate from which SGD with momentum m diverges on a quadratic function.

    Along a direction with second derivative h an iteration is linear, and its matrix has an
    eigenvalue below -1 where the learning rate exceeds :math:`2 (1 + m) / h` (heavy ball)
    or :math:`2 (1 + m) / ((1 + 2 m) h)` (Nesterov's momentum as in PyTorch, whose limit is
    the lower one): the matrix has the determinant :math:`m` or :math:`m (1 - \eta h)`, and
    -1 is an eigenvalue where its trace is minus one minus that.

    Args:
        curvature: h, the largest second derivative.
        momentum: m, without dampening.
        nesterov: Whether it is Nesterov's.

    Returns:
        The learning rate; infinite where nothing is curved.
    """
    if curvature <= 0:
        return math.inf
    return 2 * (1 + momentum) / ((1 + 2 * momentum if nesterov else 1.0) * curvature)
