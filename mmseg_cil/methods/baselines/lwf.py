"""Ordinary distillation of class probabilities, as LwF and ILT use it."""

from __future__ import annotations

from torch import Tensor

from mmseg_cil.losses.distillation_loss import DistillationLoss
from mmseg_cil.losses.pixel_logits import PixelLogits
from mmseg_cil.losses.precision import at_least_float32
from mmseg_cil.registry import MODELS
from mmseg_cil.utils.values import check_number


def knowledge_distillation(
    student_logits: Tensor,
    teacher_logits: Tensor,
    alpha: float = 1.0,
    over_all: bool = False,
    class_mean: bool = True,
) -> Tensor:
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


def shared_knowledge_distillation(
    pixels: PixelLogits,
    teacher_logits: Tensor,
    alpha: float = 1.0,
    over_all: bool = False,
    class_mean: bool = True,
) -> Tensor:
    """:func:`knowledge_distillation` from the log-sum-exps that losses share.

    Args:
        pixels: The student's logits over C classes, with cuts at 1 and O.
        teacher_logits: ``(N, O, h, w)``, of the height and width of the
            classifier's output.
        alpha: See :func:`knowledge_distillation`, as the others.
        over_all: The student's softmax is over all its C classes.
        class_mean: Divide by O.

    Returns:
        ``(N, H, W)`` loss per pixel, at least float32.
    """
    num_old = teacher_logits.shape[1]
    agreement, target = pixels.agreement(teacher_logits, alpha)
    normaliser = pixels.logsumexp(0, None if over_all else num_old)
    loss = normaliser - target * pixels.logsumexp(0, 1) - agreement
    return loss / num_old if class_mean else loss


@MODELS.register_module()
class KnowledgeDistillationLoss(DistillationLoss):
    """Registered form of :func:`knowledge_distillation`, for a ``LogitDistiller``.

    The mean is over all pixels, those with an ignored label too, as in the
    official code; a distiller may choose others.

    Args:
        loss_weight: Factor of the loss. Defaults to 100.0, that of LwF and ILT.
        alpha: Multiplies the teacher's logits. Defaults to 1.0.
        over_all: See :func:`knowledge_distillation`. Defaults to False.
        class_mean: See :func:`knowledge_distillation`. Defaults to True.
        loss_name: Name in the log. Defaults to 'loss_kd'.
    """

    def __init__(
        self,
        loss_weight: float = 100.0,
        alpha: float = 1.0,
        over_all: bool = False,
        class_mean: bool = True,
        loss_name: str = 'loss_kd',
    ) -> None:
        super().__init__(loss_weight, loss_name)
        check_number(self, 'alpha', alpha, above=True)
        self.alpha = alpha
        self.over_all = over_all
        self.class_mean = class_mean

    def per_pixel(self, pixels: PixelLogits, teacher_logits: Tensor) -> Tensor:
        """See :meth:`DistillationLoss.per_pixel`."""
        return shared_knowledge_distillation(
            pixels, teacher_logits, self.alpha, self.over_all, self.class_mean
        )
