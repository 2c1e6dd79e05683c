"""DKD over explicit groups of classes, for reading and for tests; training does not use it.

No official code is public. Tests compare the form used in training, which is in ``loss``, with
this form.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmseg_cil.losses.precision import at_least_float32


def dense_knowledge_distillation(
    student_logits: Tensor,
    teacher_logits: Tensor,
    groups: Sequence[Sequence[int]],
    temperature: float = 1.0,
    has_background: bool = True,
) -> Tensor:
    r"""Compute the mean over groups of the divergence per pixel, with the softmax inside the group.

    .. math:: \frac{T^2}{|G|} \sum_{g \in G} KL\big( \mathrm{softmax}(t_g / T) \,\|\,
              \mathrm{softmax}(z_g / T) \big)

    The teacher saw pixels of new classes as background. The student's logit of
    the background therefore stands for background or any new class, as in MiB:
    :math:`T \log(e^{z_0 / T} + \sum_{c \ge O} e^{z_c / T})`.

    This function computes the formula as it is written, with one softmax per group; losses
    use :func:`shared_dense_knowledge_distillation`.

    Source: Shi et al., "Densely Distilling Cumulative Knowledge for Continual
    Learning", arXiv 2405.09820, distils dense groups of the logits. The paper's exact
    formulas are not known to us and there is no code: the divergence, the mean
    over groups, and the treatment of pixels and background are our formulation.

    Args:
        student_logits: ``(N, C, H, W)``, C >= O, the old classes first.
        teacher_logits: ``(N, O, H, W)`` over the classes that the teacher knows.
            Half precision of student or teacher is computed in float32.
        groups: Old classes of each group. A group of a single class has nothing to
            distil and adds 0 to the sum.
        temperature: T.
        has_background: Output 0 is the background. Without a background, the student's
            logits of new classes are in no group.

    Returns:
        ``(N, H, W)`` loss per pixel, in nats, at least float32; 0 where student and
        teacher agree on every group.
    """
    student = at_least_float32(student_logits) / temperature
    teacher = at_least_float32(teacher_logits) / temperature
    num_old = teacher.shape[1]
    if has_background and student.shape[1] > num_old:
        merged = torch.cat([student[:, :1], student[:, num_old:]], dim=1).logsumexp(
            dim=1, keepdim=True
        )
        student = torch.cat([merged, student[:, 1:]], dim=1)
    total = student.new_zeros(student.shape[0], *student.shape[2:])
    for group in groups:
        classes = torch.as_tensor(group, device=student.device)
        new, old = (logits[:, classes].log_softmax(dim=1) for logits in (student, teacher))
        total = total + (old.exp() * (old - new)).sum(dim=1)
    return temperature**2 * total / max(len(groups), 1)
