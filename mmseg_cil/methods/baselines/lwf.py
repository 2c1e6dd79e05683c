"""Ordinary distillation of class probabilities, as LwF and ILT use it."""

from __future__ import annotations

from torch import Tensor

from mmseg_cil.losses.distillation_loss import DistillationLoss
from mmseg_cil.losses.pixel_logits import PixelLogits
from mmseg_cil.registry import MODELS
from mmseg_cil.utils.values import check_number


def shared_knowledge_distillation(
    pixels: PixelLogits,
    teacher_logits: Tensor,
    alpha: float = 1.0,
    over_all: bool = False,
    class_mean: bool = True,
) -> Tensor:
    """Compute :func:`knowledge_distillation` from the log-sum-exps that losses share.

    Args:
        pixels: The student's logits over C classes, with cuts at 1 and O.
        teacher_logits: ``(N, O, h, w)``, of the height and width of the
            classifier's output.
        alpha: See :func:`knowledge_distillation`, also for the arguments below.
        over_all: The student's softmax is over all its C classes.
        class_mean: Divide the loss by O.

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
    """``reference.knowledge_distillation`` over shared pixels, for a ``LogitDistiller``.

    The mean is over all pixels, those with an ignored label included, as in the
    official code; a distiller may choose other pixels.

    Args:
        loss_weight: Factor of the loss. Defaults to 100.0, as for LwF and ILT.
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
