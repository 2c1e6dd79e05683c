"""The learning rate from which gradient descent diverges on a quadratic function."""

from __future__ import annotations

import math


def diverging_rate(curvature: float, momentum: float = 0.0, nesterov: bool = False) -> float:
    r"""Return the learning rate from which SGD with momentum m diverges on a quadratic function.

    Along a direction with second derivative h an iteration is linear. The matrix of the
    iteration has an eigenvalue below -1 if the learning rate exceeds :math:`2 (1 + m) / h`
    (heavy ball) or the lower limit :math:`2 (1 + m) / ((1 + 2 m) h)` (Nesterov's momentum as
    in PyTorch): the determinant of the matrix is :math:`m` or :math:`m (1 - \eta h)`, and -1 is
    an eigenvalue if the trace of the matrix is minus one minus the determinant.

    Args:
        curvature: h, the largest second derivative.
        momentum: m, without dampening.
        nesterov: Whether the momentum is Nesterov's.

    Returns:
        The learning rate; infinite without curvature.
    """
    if curvature <= 0:
        return math.inf
    return 2 * (1 + momentum) / ((1 + 2 * momentum if nesterov else 1.0) * curvature)
