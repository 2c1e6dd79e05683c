"""LGKD as the paper states it, for reading and for tests; training does not use it.

Tests compare these forms with stored numbers of the official code, and the form used in training,
which is in ``label_guided``, with these forms.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mmseg_cil.losses.precision import at_least_float32


def label_guided_targets(teacher_logits: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    r"""Return the probabilities of all classes that the student is compared with.

    With the teacher's softmax q over O classes and the label y of a cell, the target is

    * q, with zeros for the new classes, if y is the background or an old class;
    * q with the background's probability moved to y, if y is a new class (:math:`y \ge O`):
      the teacher saw new classes as background, and the label says which one it saw here.

    Source: Yang et al., "Label-Guided Knowledge Distillation for Continual Semantic Segmentation
    on 2D Images and 3D Point Clouds", ICCV 2023; the official computation is Ze-Yang/LGKD
    ``utils/loss.py``, ``LabelGuidedKnowledgeDistillationLoss``.

    Args:
        teacher_logits: ``(N, O, h, w)``, background at 0. Half precision is computed in float32.
        labels: ``(N, h, w)`` integer model ids in ``[0, C)``, or 255, whose target is that of
            the background.
        num_classes: C >= O, the number of the student's classes.

    Returns:
        ``(N, C, h, w)``, at least float32; the sum over classes is 1.

    Example:
        >>> teacher = torch.tensor([2.0, 1.0, 1.0]).log().view(1, 3, 1, 1)
        >>> label = torch.zeros(1, 1, 1, dtype=torch.long)  # background
        >>> label_guided_targets(teacher, label, num_classes=5).flatten().tolist()
        [0.5, 0.25, 0.25, 0.0, 0.0]
        >>> label_guided_targets(teacher, label + 4, num_classes=5).flatten().tolist()
        [0.0, 0.25, 0.25, 0.0, 0.5]
    """
    probabilities = at_least_float32(teacher_logits).softmax(dim=1)
    num_old = probabilities.shape[1]
    new = (labels >= num_old) & (labels != 255)
    # (N, h, w): the class that gets the background's probability; the background keeps its own.
    receiver = labels.masked_fill(~new, 0).long()
    padding = probabilities.new_zeros(len(labels), num_classes - num_old, *labels.shape[1:])
    targets = torch.cat([torch.zeros_like(probabilities[:, :1]), probabilities[:, 1:], padding], 1)
    return targets.scatter(1, receiver.unsqueeze(1), probabilities[:, :1])


def label_guided_distillation(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    old_weight: float = 1.0,
    new_weight: float = 1.0,
) -> Tensor:
    r"""Compute the weighted cross-entropy per cell between student and label-guided targets.

    .. math:: -w_y \sum_c t_c \log p_c

    with the targets t of :func:`label_guided_targets`, the student's softmax p over *all* classes,
    and a weight for cells with a new class and another for all others. The loss of a batch is
    the mean over the cells that have a label; there is no factor 1/O, which MiB's has.

    Source: as :func:`label_guided_targets`. The official code compares the classifier's own
    outputs, with labels that are reduced by nearest neighbour to a sixteenth (``train.py``).

    Args:
        student_logits: ``(N, C, h, w)``, C >= O, background at 0.
        teacher_logits: ``(N, O, h, w)``. Half precision of student or teacher is computed in
            float32.
        labels: ``(N, h, w)`` integer model ids in ``[0, C)``, or 255.
        old_weight: Weight of cells whose label is the background or an old class
            (``--prev_kd``).
        new_weight: Weight of cells whose label is a new class (``--novel_kd``).

    Returns:
        ``(N, h, w)`` loss per cell, in nats, at least float32; zero where the label is 255.

    Example:
        >>> # The teacher saw background, the label says it is the new class, the student agrees.
        >>> teacher = torch.tensor([100.0, 0.0]).view(1, 2, 1, 1)
        >>> student = torch.tensor([0.0, 0.0, 100.0]).view(1, 3, 1, 1)
        >>> label = torch.full((1, 1, 1), 2)
        >>> round(label_guided_distillation(student, teacher, label).item(), 6)
        0.0
        >>> # Where the label is the background, the student is wrong by 100 nats.
        >>> label_guided_distillation(student, teacher, 0 * label).item()
        100.0
    """
    targets = label_guided_targets(teacher_logits, labels, student_logits.shape[1])
    logs = at_least_float32(student_logits).log_softmax(dim=1)
    # A class without a share adds nothing, even if the student rules it out.
    loss = -torch.where(targets > 0, targets * logs, torch.zeros_like(logs)).sum(dim=1)
    loss = torch.where(labels >= teacher_logits.shape[1], new_weight * loss, old_weight * loss)
    return loss.masked_fill(labels == 255, 0.0)
