"""VDFD's penalty on what later steps do to the outputs of earlier ones."""

from __future__ import annotations

import torch
from torch import Tensor

QUADRATICS = ('paper', 'official')
ACCUMULATIONS = ('sum', 'official_class_incremental')


def quadratic_form(changes: Tensor,
                   factors: Tensor | None = None,
                   eps: float = 0.0,
                   form: str = 'paper') -> Tensor:
    r"""The cost of a predicted change of the outputs, :math:`\delta^T \Sigma^{-1} \delta`.

    :math:`\delta = G^T (w - w^*)` is the change to first order, and
    :math:`\Sigma^{-1} = P P^T + \epsilon I`.

    Source: "Variational Data-Free Knowledge Distillation for Continual Learning",
    TPAMI 2023 (form 'paper'); XiaorongLi-95/VDFD ``agents/vdfd.py``,
    ``reg_loss``, where epsilon is in the log-determinant only (form 'official').
    Without P, Sigma is the identity: DFD (Pattern Recognition 2023).

    Args:
        changes: ``(T, C, K)``: of every step, node and cell; 0 where a step has no
            such node. The cells of a node share its covariance and are
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
    mixed = torch.einsum('tcd,tck->tdk', factors, changes).square().sum(dim=(1, 2))
    return mixed + eps * squares if form == 'paper' else mixed


def accumulate(quadratics: Tensor, log_dets: Tensor, accumulation: str = 'sum') -> Tensor:
    """The penalty over all earlier steps.

    'sum' is that of the paper and of the official task-incremental code.
    'official_class_incremental' is what the class-incremental code computes, from
    which its published logs come: the sum is overwritten, so that only the last
    earlier step counts, and its quadratic form is multiplied by the squared
    number of earlier steps.

    Args:
        quadratics: ``(T,)``, earliest step first, T at least 1.
        log_dets: ``(T,)``.
        accumulation: One of the two.

    Returns:
        Scalar.
    """
    if accumulation == 'official_class_incremental':
        return len(quadratics)**2 * quadratics[-1] + log_dets[-1]
    return quadratics.sum() + log_dets.sum()
