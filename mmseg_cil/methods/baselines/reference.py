"""LwF as the paper states it, for reading and for tests; training does not use it.

Where official code exists, tests compare these forms with stored numbers of that code. Other
tests compare the forms used in training, which are in ``lwf``, with these forms.
"""

from __future__ import annotations

from torch import Tensor

from mmseg_cil.losses.precision import at_least_float32


def knowledge_distillation(
    student_logits: Tensor,
    teacher_logits: Tensor,
    alpha: float = 1.0,
    over_all: bool = False,
    class_mean: bool = True,
) -> Tensor:
    r"""Compute the cross-entropy per pixel between the teacher's prediction and the student's.

    .. math:: -\frac{1}{O} \sum_{c < O} q_c \log p_c, \quad
              q = \mathrm{softmax}(\alpha t), \; p = \mathrm{softmax}(z_{0..O-1})

    The student's probabilities are over the old classes alone: the student's logits of
    the new classes have neither loss nor gradient.

    Source: Li and Hoiem, "Learning without Forgetting", ECCV 2016, equation 2;
    the factor 1/O (a mean over the old classes, not a sum) and ``alpha`` on the
    teacher's side only come from the official segmentation baselines,
    fcdl94/MiB ``utils/loss.py``, ``KnowledgeDistillationLoss``.

    Args:
        student_logits: ``(N, C, H, W)``, C >= O, the old classes first.
        teacher_logits: ``(N, O, H, W)`` over the classes that the teacher knows.
            Half precision of student or teacher is computed in float32.
        alpha: Multiplies the teacher's logits (only), before its softmax.
        over_all: The student's softmax is over all its C classes, so that the
            probability of new classes is pushed down (ILT's original code).
        class_mean: Divide the loss by O.

    Returns:
        ``(N, H, W)`` loss per pixel, at least float32. The least value of the loss is
        the entropy of the teacher's prediction (divided by O).
    """
    student_logits = at_least_float32(student_logits)
    teacher_logits = at_least_float32(teacher_logits)
    num_old = teacher_logits.shape[1]
    # (N, O, H, W): the teacher's probabilities of the old classes.
    targets = (teacher_logits * alpha).softmax(dim=1)
    old = student_logits[:, :num_old]
    # The targets sum to one, so the normaliser can be taken out of the sum over classes.
    loss = (student_logits if over_all else old).logsumexp(dim=1) - (targets * old).sum(dim=1)
    return loss / num_old if class_mean else loss
