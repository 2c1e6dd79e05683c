"""The unbiased knowledge distillation of MiB."""

from __future__ import annotations

import torch
from torch import Tensor

from mmseg_cil.losses.distillation_loss import DistillationLoss
from mmseg_cil.losses.pixel_logits import PixelLogits
from mmseg_cil.registry import MODELS
from mmseg_cil.utils.step_context import StepContext
from mmseg_cil.utils.values import check_number


def shared_unbiased_knowledge_distillation(
    pixels: PixelLogits, teacher_logits: Tensor, alpha: float = 1.0, has_background: bool = True
) -> Tensor:
    """Compute :func:`unbiased_knowledge_distillation` from the log-sum-exps that losses share.

    Args:
        pixels: The student's logits over C classes, with cuts at 1 and O.
        teacher_logits: ``(N, O, h, w)``, of the height and width of the
            classifier's output.
        alpha: Multiplies the teacher's logits (only), before its softmax.
        has_background: Class 0 is the background, which the new classes were part of. Without
            a background, the old classes are compared among themselves.

    Returns:
        ``(N, H, W)`` loss per pixel, at least float32.
    """
    num_old = teacher_logits.shape[1]
    # All maps here are (N, H, W). With the teacher's softmax q and the student's logits z: the sum
    # of q_c z_c over the old classes c > 0, and q_0.
    agreement, target = pixels.agreement(teacher_logits, alpha)
    if not has_background and pixels.num_classes > num_old:
        first = pixels.logsumexp(0, 1)  # z_0
        return (pixels.logsumexp(0, num_old) - target * first - agreement) / num_old
    background = pixels.logsumexp(0, 1)  # z_0
    if pixels.num_classes > num_old:
        # log(exp(z_0) + sum of exp(z_c) over the new classes c).
        background = torch.logaddexp(background, pixels.logsumexp(num_old))
    return (pixels.logsumexp() - target * background - agreement) / num_old


@MODELS.register_module()
class UnbiasedKnowledgeDistillationLoss(DistillationLoss):
    """``reference.unbiased_knowledge_distillation`` over shared pixels, for a ``LogitDistiller``.

    The mean is over all pixels, those with an ignored label included, as in MiB.

    Without a background no old class has ever covered the new classes, so no output of the teacher
    tells anything about them. Then the probabilities among the old classes alone are compared (our
    choice; the paper always has a background), and the loss does not depend on the new rows.

    Args:
        loss_weight: Factor of the loss. Defaults to 10.0, as in MiB.
        alpha: Multiplies the teacher's logits. Defaults to 1.0.
        loss_name: Name in the log. Defaults to 'loss_unkd'.
    """

    def __init__(
        self, loss_weight: float = 10.0, alpha: float = 1.0, loss_name: str = 'loss_unkd'
    ) -> None:
        super().__init__(loss_weight, loss_name)
        check_number(self, 'alpha', alpha, above=True)
        self.alpha = alpha
        self._has_background = True

    def set_step(self, step: StepContext) -> None:
        """Take the step, which says whether there is a background."""
        self._has_background = step.has_background

    def per_pixel(self, pixels: PixelLogits, teacher_logits: Tensor) -> Tensor:
        """See :meth:`DistillationLoss.per_pixel`."""
        return shared_unbiased_knowledge_distillation(
            pixels, teacher_logits, self.alpha, self._has_background
        )
