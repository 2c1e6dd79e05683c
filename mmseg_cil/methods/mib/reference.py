"""MiB as the paper states it: to be read and tested against, not trained with.

Stored numbers of the official code, where there is some, pin these forms, and tests compare the
forms that train with them: those are in ``unbiased_cross_entropy``, ``unbiased_distillation``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mmseg_cil.losses.precision import at_least_float32


def unbiased_cross_entropy(
    logits: Tensor, labels: Tensor, num_hidden: int, ignore_index: int = 255
) -> Tensor:
    r"""Cross-entropy per pixel in which the background stands for all hidden classes.

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
        num_hidden: Classes that hide in the background, itself included. With
            0 or 1 this is the ordinary cross-entropy.
        ignore_index: Label whose pixels have zero loss.

    Returns:
        ``(N, H, W)`` loss per pixel, in nats, at least float32.
    """
    logits = at_least_float32(logits)
    num_hidden = max(num_hidden, 1)
    # (N, H, W): log of the summed exponentials of all that the label 0 may stand for.
    background = logits[:, :num_hidden].logsumexp(dim=1)
    normaliser = background
    if num_hidden < logits.shape[1]:
        normaliser = torch.logaddexp(background, logits[:, num_hidden:].logsumexp(dim=1))
    ignored = labels == ignore_index
    hidden = labels < num_hidden
    # A gather needs valid ids everywhere; where the result is not used, 0 is as good as any.
    index = labels.masked_fill(ignored | hidden, 0).unsqueeze(1).long()
    own = logits.gather(1, index).squeeze(1)
    return (normaliser - torch.where(hidden, background, own)).masked_fill(ignored, 0.0)


def unbiased_knowledge_distillation(
    student_logits: Tensor,
    teacher_logits: Tensor,
    alpha: float = 1.0,
    has_background: bool = True,
) -> Tensor:
    r"""Distillation per pixel in which the teacher's background teaches background and new classes.

    To the teacher, a pixel of a new class was background. Its background
    probability is therefore compared with the student's probability of
    background *or* any new class; every other old class with itself:

    .. math:: -\frac{1}{O} \Big[ q_0 \log(p_0 + \sum_{c \ge O} p_c)
              + \sum_{0 < c < O} q_c \log p_c \Big]

    Without new classes (a domain-incremental walk) it is the ordinary
    distillation loss. Without a background (our choice, the paper always has one)
    it is that loss too, between the old classes alone.

    Source: Cermelli et al., CVPR 2020, equations 7 and 8; the factor 1/O (a
    mean over the old classes, not a sum) is that of the official computation,
    fcdl94/MiB ``utils/loss.py``, ``UnbiasedKnowledgeDistillationLoss``.

    Args:
        student_logits: ``(N, C, H, W)``, C >= O, background at 0.
        teacher_logits: ``(N, O, H, W)`` over the classes that the teacher knows.
            Half precision, of either, is computed in float32.
        alpha: Multiplies the teacher's logits (only), before its softmax.
        has_background: Whether class 0 is the background.

    Returns:
        ``(N, H, W)`` loss per pixel, at least float32. Its least value is the
        entropy of the teacher's prediction divided by O.
    """
    student_logits = at_least_float32(student_logits)
    teacher_logits = at_least_float32(teacher_logits)
    num_old = teacher_logits.shape[1]
    if not has_background:
        student_logits = student_logits[:, :num_old]
    # (N, O, H, W): what the teacher says of the old classes.
    targets = (teacher_logits * alpha).softmax(dim=1)
    normaliser = student_logits.logsumexp(dim=1)
    # (N, H, W): to the teacher, new classes were background.
    background = student_logits[:, 0]
    if student_logits.shape[1] > num_old:
        background = torch.logaddexp(background, student_logits[:, num_old:].logsumexp(dim=1))
    # The targets sum to one, so the normaliser leaves the sum over classes.
    agreement = targets[:, 0] * background
    if num_old > 1:
        agreement = agreement + (targets[:, 1:] * student_logits[:, 1:num_old]).sum(dim=1)
    return (normaliser - agreement) / num_old
