"""M2KD, one snapshot after the other: to be read and tested against, not trained with.

Stored numbers of the official code, where there is some, pin these forms, and tests compare the
forms that train with them: those are in ``loss``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmseg_cil.losses.precision import at_least_float32
from mmseg_cil.methods.m2kd.class_view import class_view
from mmseg_cil.methods.m2kd.loss import mean_over_snapshots


def matching_distillation(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float = 1.0,
    merge_later: bool = True,
) -> Tensor:
    r"""Divergence per pixel of the student's prediction from a snapshot's.

    .. math:: T^2 \sum_{c < O} q_c (\log q_c - \log p_c), \quad
              q = \mathrm{softmax}(t / T)

    p is the student's softmax at temperature T over groups of classes, one for
    each class of the snapshot. To the snapshot, everything it did not know was
    background: the group of its background is the student's background and all
    classes from O on (their log-sum-exp), any other group one class. Without
    ``merge_later`` every group is one class, and later classes are left out.

    With T = 1, ``merge_later`` and later classes it is O times the
    unbiased distillation loss, without ``merge_later`` O times that of LwF, each
    less the entropy of q, which has no gradient.

    Source: the matching term of Zhou et al., "M2KD: Multi-model and Multi-level
    Knowledge Distillation for Incremental Learning", arXiv 1904.01769, which is
    for classification; the form (softmax over the snapshot's classes, factor
    T^2) is a design choice, for no formula could be had, and so is what
    becomes of the background, which is that of Cermelli et al., CVPR 2020, for
    each snapshot.

    Args:
        student_logits: ``(N, C, H, W)``, C >= O, the snapshot's classes first;
            the background at 0 with ``merge_later``.
        teacher_logits: ``(N, O, H, W)``. Half precision, of either, is computed
            in float32.
        temperature: T, positive.
        merge_later: See above.

    Returns:
        ``(N, H, W)`` loss per pixel, at least float32; 0 where the predictions agree.
    """
    student = at_least_float32(student_logits) / temperature
    teacher = at_least_float32(teacher_logits) / temperature
    known = teacher.shape[1]
    # (N, O, H, W): one group of the student for each class that the snapshot knows.
    groups = student[:, :known]
    if merge_later and student.shape[1] > known:
        background = torch.cat([student[:, :1], student[:, known:]], dim=1)
        groups = torch.cat([background.logsumexp(dim=1, keepdim=True), student[:, 1:known]], dim=1)
    targets, log_targets = teacher.softmax(dim=1), teacher.log_softmax(dim=1)
    loss = targets * (log_targets - groups.log_softmax(dim=1))
    return temperature**2 * loss.sum(dim=1)


def multi_model_distillation(
    student_logits: Tensor,
    teachers: Sequence[tuple[Tensor, int]],
    temperature: float = 1.0,
    merge_later: bool = True,
    has_background: bool = True,
) -> Tensor:
    r"""L_MMD of M2KD per pixel: :func:`mean_over_snapshots` of what each teaches.

    .. math:: \frac{1}{t - 1} \sum_{k < t} L_k

    L_k is :func:`matching_distillation` on the background and the classes that
    are new at step k (C_k). Earlier foreground classes are left out on
    both sides: snapshot k says how likely its own classes are relative to each
    other and to its background. The background itself, as far as it is no class
    of a later step, is thereby taught by every snapshot, and by the first with
    all its classes. Which classes a snapshot teaches is a design choice.

    This is the whole in one place, on enlarged logits; an ``M2KDDistiller`` computes the
    same from what losses share, and for any loss.

    Args:
        student_logits: ``(N, C, H, W)``.
        teachers: For each snapshot its logits ``(N, O_k, H, W)`` and its first
            class: O_(k-1), or 0 if it teaches all classes that it knows.
        temperature: T.
        merge_later: See :func:`matching_distillation`.
        has_background: Class 0 is the background.

    Returns:
        ``(N, H, W)`` loss per pixel.
    """
    losses = [
        matching_distillation(
            class_view(student_logits, start, has_background),
            class_view(logits, start, has_background),
            temperature,
            merge_later,
        )
        for logits, start in teachers
    ]
    return mean_over_snapshots(losses)
