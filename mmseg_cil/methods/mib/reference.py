"""MiB as the paper states it, for reading and for tests; training does not use it.

Tests compare these forms with stored numbers of the official code. Other tests compare the forms
used in training, which are in ``unbiased_cross_entropy`` and ``unbiased_distillation``, with
these forms.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mmseg_cil.losses.precision import at_least_float32


def unbiased_cross_entropy(
    logits: Tensor, labels: Tensor, num_hidden: int, ignore_index: int = 255
) -> Tensor:
    r"""Compute the cross-entropy per pixel in which the background stands for all hidden classes.

    The labels of a step call every pixel of an old class background. The
    probability of the label "background" is therefore that of background *or*
    any old class: :math:`p(\mathrm{bg}) = \sum_{c < \mathrm{num\_hidden}} p_c`.
    Labels below ``num_hidden`` all count as background.

    Source: Cermelli et al., "Modeling the Background for Incremental Learning
    in Semantic Segmentation", CVPR 2020, equation 5; the official computation
    is fcdl94/MiB ``utils/loss.py``, ``UnbiasedCrossEntropy``.

    Args:
        logits: ``(N, C, H, W)`` over all classes seen, background at 0. Half
            precision is computed in float32.
        labels: ``(N, H, W)`` integer model ids in ``[0, C)``, or ``ignore_index``.
        num_hidden: Number of classes that hide in the background, the background
            included. With 0 or 1 the loss is the ordinary cross-entropy.
        ignore_index: Label whose pixels have zero loss.

    Returns:
        ``(N, H, W)`` loss per pixel, in nats, at least float32.

    Example:
        >>> logits = torch.zeros(1, 4, 1, 1)  # background, an old class, two new ones
        >>> label = torch.zeros(1, 1, 1, dtype=torch.long)  # "background"
        >>> # Background or old: half of the probability.
        >>> round(unbiased_cross_entropy(logits, label, num_hidden=2).exp().item(), 4)
        2.0
    """
    logits = at_least_float32(logits)
    num_hidden = max(num_hidden, 1)
    # (N, H, W): log-sum-exp over the classes that the label 0 may stand for.
    background = logits[:, :num_hidden].logsumexp(dim=1)
    normaliser = background
    if num_hidden < logits.shape[1]:
        normaliser = torch.logaddexp(background, logits[:, num_hidden:].logsumexp(dim=1))
    ignored = labels == ignore_index
    hidden = labels < num_hidden
    # A gather needs valid ids everywhere, so 0 is put where the result is not used.
    index = labels.masked_fill(ignored | hidden, 0).unsqueeze(1).long()
    own = logits.gather(1, index).squeeze(1)
    return (normaliser - torch.where(hidden, background, own)).masked_fill(ignored, 0.0)


def unbiased_knowledge_distillation(
    student_logits: Tensor,
    teacher_logits: Tensor,
    alpha: float = 1.0,
    has_background: bool = True,
) -> Tensor:
    r"""Compute the distillation loss per pixel in which the background includes new classes.

    The teacher saw pixels of new classes as background. The teacher's background
    probability is therefore compared with the student's probability of
    background *or* any new class; the probability of every other old class is
    compared with the student's probability of the same class:

    .. math:: -\frac{1}{O} \Big[ q_0 \log(p_0 + \sum_{c \ge O} p_c)
              + \sum_{0 < c < O} q_c \log p_c \Big]

    Without new classes (a domain-incremental walk) the loss is the ordinary
    distillation loss. Without a background (our choice, the paper always has one)
    the loss is the ordinary distillation loss over the old classes alone.

    Source: Cermelli et al., CVPR 2020, equations 7 and 8; the factor 1/O (a
    mean over the old classes, not a sum) comes from the official computation,
    fcdl94/MiB ``utils/loss.py``, ``UnbiasedKnowledgeDistillationLoss``.

    Args:
        student_logits: ``(N, C, H, W)``, C >= O, background at 0.
        teacher_logits: ``(N, O, H, W)`` over the classes that the teacher knows.
            Half precision of student or teacher is computed in float32.
        alpha: Multiplies the teacher's logits (only), before its softmax.
        has_background: Whether class 0 is the background.

    Returns:
        ``(N, H, W)`` loss per pixel, at least float32. The least value of the loss is
        the entropy of the teacher's prediction divided by O.

    Example:
        >>> # Sure of the background; sure of the new class, which was background to the teacher.
        >>> teacher = torch.tensor([100.0, 0.0]).view(1, 2, 1, 1)
        >>> student = torch.tensor([-100.0, -100.0, 100.0]).view(1, 3, 1, 1)
        >>> unbiased_knowledge_distillation(student, teacher).item()
        0.0
    """
    student_logits = at_least_float32(student_logits)
    teacher_logits = at_least_float32(teacher_logits)
    num_old = teacher_logits.shape[1]
    if not has_background:
        student_logits = student_logits[:, :num_old]
    # (N, O, H, W): the teacher's probabilities of the old classes.
    targets = (teacher_logits * alpha).softmax(dim=1)
    normaliser = student_logits.logsumexp(dim=1)
    # (N, H, W): log-sum-exp of background and new classes, which the teacher saw as background.
    background = student_logits[:, 0]
    if student_logits.shape[1] > num_old:
        background = torch.logaddexp(background, student_logits[:, num_old:].logsumexp(dim=1))
    # The targets sum to one, so the normaliser can be taken out of the sum over classes.
    agreement = targets[:, 0] * background
    if num_old > 1:
        agreement = agreement + (targets[:, 1:] * student_logits[:, 1:num_old]).sum(dim=1)
    return (normaliser - agreement) / num_old
