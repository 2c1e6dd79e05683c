"""The unbiased knowledge distillation of MiB."""

from __future__ import annotations

import torch
from torch import Tensor

from mmseg_cil.errors import InputError
from mmseg_cil.losses.distillation_loss import DistillationLoss
from mmseg_cil.losses.pixel_logits import PixelLogits
from mmseg_cil.registry import MODELS
from mmseg_cil.utils.step_context import StepContext
from mmseg_cil.utils.values import check_number


def shared_unbiased_knowledge_distillation(
    pixels: PixelLogits, teacher_logits: Tensor, alpha: float = 1.0
) -> Tensor:
    """:func:`unbiased_knowledge_distillation` from the log-sum-exps that losses share.

    Args:
        pixels: The student's logits over C classes, with cuts at 1 and O.
        teacher_logits: ``(N, O, h, w)``, of the height and width of the
            classifier's output.
        alpha: Multiplies the teacher's logits (only), before its softmax.

    Returns:
        ``(N, H, W)`` loss per pixel, at least float32.
    """
    num_old = teacher_logits.shape[1]
    agreement, target = pixels.agreement(teacher_logits, alpha)
    background = pixels.logsumexp(0, 1)
    if pixels.num_classes > num_old:
        background = torch.logaddexp(background, pixels.logsumexp(num_old))
    return (pixels.logsumexp() - target * background - agreement) / num_old


@MODELS.register_module()
class UnbiasedKnowledgeDistillationLoss(DistillationLoss):
    """Compute ``reference.unbiased_knowledge_distillation`` over shared pixels.

    It is for a ``LogitDistiller``.

    The mean is over all pixels, those with an ignored label too, as in MiB.

    Args:
        loss_weight: Factor of the loss. Defaults to 10.0, MiB's.
        alpha: Multiplies the teacher's logits. Defaults to 1.0.
        loss_name: Name in the log. Defaults to 'loss_unkd'.
    """

    def __init__(
        self, loss_weight: float = 10.0, alpha: float = 1.0, loss_name: str = 'loss_unkd'
    ) -> None:
        super().__init__(loss_weight, loss_name)
        check_number(self, 'alpha', alpha, above=True)
        self.alpha = alpha

    def set_step(self, step: StepContext) -> None:
        """Told by the segmentor which classes there are.

        Raises:
            InputError: Classes are new and there is no background they were part of.
        """
        if step.index > 0 and step.num_new and not step.has_background:
            raise InputError(
                f'{type(self).__name__} takes the new classes for former background, and the '
                'classes of this protocol have no background: use an ordinary distillation loss'
            )

    def per_pixel(self, pixels: PixelLogits, teacher_logits: Tensor) -> Tensor:
        """See :meth:`DistillationLoss.per_pixel`."""
        return shared_unbiased_knowledge_distillation(pixels, teacher_logits, self.alpha)
