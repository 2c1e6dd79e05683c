"""M2KD, one snapshot after the other, for reading and for tests; training does not use it.

No formula is public. Tests compare the forms used in training, which are in ``loss``, with these
forms.
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
    r"""Compute the divergence per pixel of the student's prediction from a snapshot's.

    .. math:: T^2 \sum_{c < O} q_c (\log q_c - \log p_c), \quad
              q = \mathrm{softmax}(t / T)

    p is the student's softmax at temperature T over groups of classes, one group for
    each class of the snapshot. The snapshot saw all classes that it did not know as
    background, so the group of its background holds the student's background and all
    classes from O on (as their log-sum-exp). Any other group is one class. Without
    ``merge_later`` every group is one class, and later classes are left out.

    With T = 1, ``merge_later`` and later classes the divergence is O times the unbiased
    distillation loss minus the entropy of q. With T = 1 and without ``merge_later`` it
    is O times LwF's distillation loss minus this entropy. The entropy has no gradient.

    Source: the matching term of Zhou et al., "M2KD: Multi-model and Multi-level
    Knowledge Distillation for Incremental Learning", arXiv 1904.01769, which is
    for classification. The form (softmax over the snapshot's classes, factor
    T^2) is a design choice, because no formula was accessible. The treatment of the
    background is a design choice too: that of Cermelli et al., CVPR 2020, for each
    snapshot.

    Args:
        student_logits: ``(N, C, H, W)``, C >= O, the snapshot's classes first;
            the background at 0 with ``merge_later``.
        teacher_logits: ``(N, O, H, W)``. Half precision of student or teacher is
            computed in float32.
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
    r"""Compute M2KD's L_MMD per pixel, the mean of the losses of all snapshots.

    .. math:: \frac{1}{t - 1} \sum_{k < t} L_k

    L_k is :func:`matching_distillation` on the background and the classes that
    are new at step k (C_k). Earlier foreground classes are left out of the logits of
    snapshot and student: snapshot k teaches how likely its own classes are relative to
    each other and to its background. Every snapshot thus teaches the background, except
    for the parts of it that are classes of a later step; the first snapshot also teaches
    all its classes. The choice of the classes that a snapshot teaches is ours.

    This function has all of L_MMD in one place, on enlarged logits. An ``M2KDDistiller``
    computes the same from the maps that losses share, and for any loss.

    Args:
        student_logits: ``(N, C, H, W)``.
        teachers: For each snapshot its logits ``(N, O_k, H, W)`` and the first class that
            it teaches: O_(k-1), or 0 if it teaches all classes that it knows.
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
