"""VDFD's formulas in plain form, for reading and for tests; training does not use them.

Where official code exists, tests compare these forms with stored numbers of that code. Other
tests compare the forms used in training with these forms: those in
``step_classes_cross_entropy``, ``earlier_steps`` with ``reanchoring``, ``dfd_regulariser`` and
``sketches``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmseg_cil.losses.precision import at_least_float32
from mmseg_cil.methods.vdfd.step_classes_cross_entropy import left_out_outputs


def step_classes_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    num_hidden: int,
    ignore_index: int = 255,
    num_classes: int | None = None,
) -> Tensor:
    r"""Compute the cross-entropy per pixel with a softmax over background and new classes.

    .. math:: \log \Big( e^{z_0} + \sum_{c \ge \mathrm{num\_hidden}} e^{z_c} \Big) - z_y

    The loss does not contain the logits of old classes and thus neither lowers nor raises
    these logits: a step whose labels call old classes background says nothing about old
    classes. If classes have outputs for several turns of the image, the sum is over the
    background and the new classes of all turns.

    Source: XiaorongLi-95/VDFD ``class_incremental``, option LA, takes the cross-entropy over
    the logits of the current task. For segmentation, the background belongs to every task,
    which is our choice.

    Args:
        logits: ``(N, C, H, W)`` over all classes seen, background at 0; with self-supervision
            ``(N, 4 C, H, W)``, the image's own turn first. Half precision is computed in
            float32.
        labels: ``(N, H, W)`` integer model ids in ``[0, C)``, or ``ignore_index``.
        num_hidden: Number of classes that hide in the background, the background included.
            With 0 or 1 the loss is the ordinary cross-entropy.
        ignore_index: Label whose pixels have zero loss.
        num_classes: C, if there are more outputs than classes.

    Returns:
        ``(N, H, W)`` loss per pixel, in nats, at least float32; 0 where the label is an old
        class other than the background.
    """
    logits = at_least_float32(logits)
    count = logits.shape[1]
    old = {
        output
        for part in left_out_outputs(num_hidden, count, num_classes or count)
        for output in part
    }
    kept = logits[:, [output for output in range(count) if output not in old]]
    left_out = (labels == ignore_index) | ((labels > 0) & (labels < num_hidden))
    own = logits.gather(1, labels.masked_fill(left_out, 0).unsqueeze(1).long()).squeeze(1)
    return (kept.logsumexp(dim=1) - own).masked_fill(left_out, 0.0)


def reanchored_changes(
    gradients: Tensor,
    weights: Tensor,
    kept: Tensor,
    shifts: Sequence[Tensor] = (),
    fraction: float = 1.0,
) -> Tensor:
    r"""Return the first-order changes of a step's outputs that no initialisation has made.

    .. math:: G_s^T \Big( w - w_s^* - \beta \sum_{k = s + 1}^{t} \Delta_k \Big)

    :math:`\Delta_k` is the move of the rows of old classes by the classifier's initialisation
    when step k began. For MiB's initialisation with :math:`K_k` new classes the move is
    :math:`- \ln(K_k + 1)` at the background's bias. The sum is over all steps after s, the
    current step t included. A design choice; the publication's tasks have classifiers of
    their own.

    Args:
        gradients: :math:`G_s`, ``(W, N)`` over single weights.
        weights: w, ``(W,)``.
        kept: :math:`w_s^*`, ``(W,)``: the weights that step s ended with.
        shifts: :math:`\Delta_k`, each ``(W,)``.
        fraction: :math:`\beta`, the fraction of the shifts that does not count as change.

    Returns:
        ``(N,)``.
    """
    moved = weights - kept
    for shift in shifts:
        moved = moved - fraction * shift
    return gradients.T @ moved


def weight_for_curvature(gradients: Sequence[Tensor], curvature: float) -> float:
    r"""Return the lambda that gives the penalty the curvature c.

    .. math:: \lambda = c \, / \, \lambda_{\max} \Big( 2 \sum_s G_s G_s^T \Big)

    The curvature c is the largest second derivative of the undamped penalty in the weights, with
    the identity as covariance. A design choice.

    Args:
        gradients: :math:`G_s` of every earlier step, each ``(W, N_s)`` over single weights.
        curvature: c.
    """
    hessian = 2 * torch.stack([gradient @ gradient.T for gradient in gradients]).sum(dim=0)
    return curvature / float(torch.linalg.eigvalsh(hessian)[-1])


def second_moment(jacobians: Tensor, shares: Tensor, moved: Tensor, precision: Tensor) -> Tensor:
    r"""Compute the mean cost of the changes of single samples' outputs.

    .. math:: E_x \big[ \delta_x^T \Sigma^{-1} \delta_x \big], \qquad \delta_x = J_x^T (w - w^*)

    The cost of the mean output's change, :math:`\bar\delta^T \Sigma^{-1} \bar\delta`, is smaller
    by the mean cost of the deviations from it. Sketches are random combinations of these
    deviations. A design choice.

    Args:
        jacobians: :math:`J_x` of every sample, ``(X, W, N)``.
        shares: ``(X,)`` shares of the samples, which sum to 1.
        moved: :math:`w - w^*`, ``(W,)``.
        precision: :math:`\Sigma^{-1}`, ``(N, N)``.

    Returns:
        Scalar.
    """
    changes = torch.einsum('xwn,w->xn', jacobians, moved)
    return torch.einsum('x,xn,nm,xm->', shares, changes, precision, changes)


def sketch(jacobians: Tensor, shares: Tensor, signs: Tensor) -> Tensor:
    r"""Return gradients whose quadratic forms add up to the second moment in expectation.

    .. math:: \Big[ \bar J,\; \frac{1}{\sqrt{S}} \sum_x \sqrt{v_x}\, \epsilon_{x,r}
              (J_x - \bar J) \Big]_{r = 1..S}

    Args:
        jacobians: See :func:`second_moment`.
        shares: See :func:`second_moment`.
        signs: :math:`\epsilon`, ``(X, S)``, independent, 1 or -1, with mean 0.

    Returns:
        ``(W, N, 1 + S)``.
    """
    mean = torch.einsum('x,xwn->wn', shares, jacobians)
    weights = shares.sqrt().unsqueeze(1) * signs / signs.shape[1] ** 0.5
    mixed = torch.einsum('xs,xwn->wns', weights, jacobians - mean)
    return torch.cat([mean.unsqueeze(2), mixed], dim=2)
