"""Ordinary distillation of class probabilities, as LwF and ILT use it."""

from __future__ import annotations

from torch import Tensor, nn

from mmseg_cil.losses.precision import at_least_float32
from mmseg_cil.registry import MODELS


def knowledge_distillation(student_logits: Tensor,
                           teacher_logits: Tensor,
                           alpha: float = 1.0,
                           over_all: bool = False,
                           class_mean: bool = True) -> Tensor:
    r"""Cross-entropy per pixel between the teacher's prediction and the student's.

    .. math:: -\frac{1}{O} \sum_{c < O} q_c \log p_c, \quad
              q = \mathrm{softmax}(\alpha t), \; p = \mathrm{softmax}(z_{0..O-1})

    The student's probabilities are over the old classes alone: what it says of
    the new ones has neither loss nor gradient.

    Source: Li and Hoiem, "Learning without Forgetting", ECCV 2016, equation 2;
    the factor 1/O (a mean over the old classes, not a sum) and ``alpha`` on the
    teacher's side only are those of the official segmentation baselines,
    fcdl94/MiB ``utils/loss.py``, ``KnowledgeDistillationLoss``.

    Args:
        student_logits: ``(N, C, H, W)``, C >= O, the old classes first.
        teacher_logits: ``(N, O, H, W)`` over the classes that the teacher knows.
            Half precision, of either, is computed in float32.
        alpha: Multiplies the teacher's logits (only), before its softmax.
        over_all: The student's softmax is over all its C classes, so that the
            probability of new classes is pushed down (ILT's original code).
        class_mean: Divide by O.

    Returns:
        ``(N, H, W)`` loss per pixel, at least float32. Its least value is the
        entropy of the teacher's prediction (divided by O).
    """
    student_logits = at_least_float32(student_logits)
    teacher_logits = at_least_float32(teacher_logits)
    num_old = teacher_logits.shape[1]
    targets = (teacher_logits * alpha).softmax(dim=1)
    old = student_logits[:, :num_old]
    # The targets sum to one, so the normaliser leaves the sum over classes.
    loss = (student_logits if over_all else old).logsumexp(dim=1) - (targets * old).sum(dim=1)
    return loss / num_old if class_mean else loss


@MODELS.register_module()
class KnowledgeDistillationLoss(nn.Module):
    """Registered form of :func:`knowledge_distillation`, for a ``LogitDistiller``.

    The mean is over all pixels, those with an ignored label too, as in the
    official code.

    Args:
        loss_weight: Factor of the loss. Defaults to 100.0, that of LwF and ILT.
        alpha: Multiplies the teacher's logits. Defaults to 1.0.
        over_all: See :func:`knowledge_distillation`. Defaults to False.
        class_mean: See :func:`knowledge_distillation`. Defaults to True.
        loss_name: Name in the log. Defaults to 'loss_kd'.
    """

    def __init__(self,
                 loss_weight: float = 100.0,
                 alpha: float = 1.0,
                 over_all: bool = False,
                 class_mean: bool = True,
                 loss_name: str = 'loss_kd') -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.alpha = alpha
        self.over_all = over_all
        self.class_mean = class_mean
        self.loss_name = loss_name

    def forward(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """``loss_weight`` times the mean of the loss over all pixels (a scalar).

        Args:
            student_logits: ``(N, C, H, W)``.
            teacher_logits: ``(N, O, H, W)``, O <= C.
        """
        loss = knowledge_distillation(student_logits, teacher_logits, self.alpha, self.over_all,
                                      self.class_mean)
        return self.loss_weight * loss.mean()
