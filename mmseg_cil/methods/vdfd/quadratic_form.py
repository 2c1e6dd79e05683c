"""VDFD's penalty on changes of earlier steps' outputs by later steps."""

from __future__ import annotations

import torch
from torch import Tensor

QUADRATICS = ('paper', 'official')
ACCUMULATIONS = ('sum', 'mean', 'last', 'official_class_incremental')


def quadratic_form(
    changes: Tensor, factors: Tensor | None = None, eps: float = 0.0, form: str = 'paper'
) -> Tensor:
    r"""Compute the cost of a predicted change of outputs, :math:`\delta^T \Sigma^{-1} \delta`.

    :math:`\delta = G^T (w - w^*)` is the change to first order, and
    :math:`\Sigma^{-1} = P P^T + \epsilon I`.

    Source: "Variational Data-Free Knowledge Distillation for Continual Learning",
    TPAMI 2023 (form 'paper'); XiaorongLi-95/VDFD ``agents/vdfd.py``,
    ``reg_loss``, where epsilon is in the log-determinant only (form 'official').
    Without P, Sigma is the identity: DFD (Pattern Recognition 2023).

    Args:
        changes: ``(T, C, K)`` changes of every step, node and cell; 0 for nodes that a step
            does not have. The cells of a node share the node's covariance and are
            independent of each other, which is our choice.
        factors: P, ``(T, C, d)``, or None.
        eps: Epsilon.
        form: 'paper' or 'official'.

    Returns:
        ``(T,)``, not negative.
    """
    squares = changes.square().sum(dim=(1, 2))
    if factors is None:
        return squares
    # (T, d, K): P^T delta, whose squared norm is delta^T P P^T delta.
    mixed = torch.einsum('tcd,tck->tdk', factors, changes).square().sum(dim=(1, 2))
    return mixed + eps * squares if form == 'paper' else mixed


def damped_quadratic_form(
    changes: Tensor,
    damping: Tensor,
    factors: Tensor | None = None,
    eps: float = 0.0,
    form: str = 'paper',
) -> Tensor:
    r"""Compute the damped cost of a change of the outputs.

    .. math:: \delta^T (\Sigma + D)^{-1} \delta, \qquad D = 2 \eta \lambda\, G^T G

    Times :math:`\lambda` this is the Moreau envelope of the quadratic form in the weights,
    :math:`\min_u \lambda\, q(u) + \|u - w\|^2 / (2 \eta)`. The envelope has the minima of the
    quadratic form and no curvature above :math:`1 / \eta`, so gradient descent with learning
    rates up to :math:`\eta` is stable for quadratic forms of any steepness. Damping is a
    design choice; the publication trains with Adam, whose steps do not grow with the gradient.

    Args:
        changes: See :func:`quadratic_form`.
        damping: D, ``(T, C * K, C * K)`` float64.
        factors: P, ``(T, C, d)``, or None.
        eps: Epsilon.
        form: 'paper' or 'official'.

    Returns:
        ``(T,)``, not negative, in the format of ``changes``.
    """
    steps, nodes, cells = changes.shape
    eye = torch.eye(nodes * cells, dtype=damping.dtype, device=damping.device)
    inverse = eye.expand(steps, -1, -1)
    if factors is not None:
        precise = factors.to(damping)
        inverse = torch.einsum('tcd,ted,kl->tckel', precise, precise, eye[:cells, :cells]).reshape(
            damping.shape
        )
        inverse = inverse + eps * eye if form == 'paper' else inverse
    flat = changes.flatten(1).to(damping).unsqueeze(2)
    # solve_ex does not check the matrix, which would make the CPU wait for the device. The
    # matrix is invertible, because its eigenvalues are 1 or more.
    solved = torch.linalg.solve_ex(eye + damping @ inverse, flat)[0]
    return (flat * (inverse @ solved)).sum(dim=(1, 2)).to(changes.dtype)


def accumulate(quadratics: Tensor, log_dets: Tensor, accumulation: str = 'sum') -> Tensor:
    """Accumulate the penalty over all earlier steps.

    'sum' is the accumulation of the paper and of the official task-incremental code. Its
    stiffness grows with the number of earlier steps.
    'mean' divides that sum by the number of earlier steps, so that the stiffness does not
    grow; our choice, for walks of many steps.
    'last' counts the last earlier step only; our choice, where that step kept gradients of
    all classes seen.
    'official_class_incremental' is that of the official class-incremental code, from
    which the published logs of this code come: the sum is overwritten, so that only the
    last earlier step counts, and the quadratic form of this step is multiplied by the
    squared number of earlier steps.

    Args:
        quadratics: ``(T,)``, earliest step first, T at least 1.
        log_dets: ``(T,)``.
        accumulation: One of :data:`ACCUMULATIONS`.

    Returns:
        Scalar.
    """
    if accumulation == 'official_class_incremental':
        return len(quadratics) ** 2 * quadratics[-1] + log_dets[-1]
    if accumulation == 'last':
        return quadratics[-1] + log_dets[-1]
    if accumulation == 'mean':
        return quadratics.mean() + log_dets.mean()
    return quadratics.sum() + log_dets.sum()
