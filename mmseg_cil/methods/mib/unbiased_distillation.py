"""The unbiased knowledge distillation of MiB."""

from __future__ import annotations

import torch
from torch import Tensor

from mmseg_cil.errors import InputError
from mmseg_cil.losses.distillation_loss import DistillationLoss
from mmseg_cil.losses.pixel_logits import PixelLogits
from mmseg_cil.losses.precision import at_least_float32
from mmseg_cil.registry import MODELS
from mmseg_cil.utils.step_context import StepContext
from mmseg_cil.utils.values import check_number


def unbiased_knowledge_distillation(
    student_logits: Tensor, teacher_logits: Tensor, alpha: float = 1.0
) -> Tensor:
    r"""Distillation per pixel in which the teacher's background teaches background and new classes.

    To the teacher, a pixel of a new class was background. Its background
    probability is therefore compared with the student's probability of
    background *or* any new class; every other old class with itself:

    .. math:: -\frac{1}{O} \Big[ q_0 \log(p_0 + \sum_{c \ge O} p_c)
              + \sum_{0 < c < O} q_c \log p_c \Big]

    Without new classes (a domain-incremental walk) it is the ordinary
    distillation loss.

    Source: Cermelli et al., CVPR 2020, equations 7 and 8; the factor 1/O (a
    mean over the old classes, not a sum) is that of the official computation,
    fcdl94/MiB ``utils/loss.py``, ``UnbiasedKnowledgeDistillationLoss``.

    Args:
        student_logits: ``(N, C, H, W)``, C >= O, background at 0.
        teacher_logits: ``(N, O, H, W)`` over the classes that the teacher knows.
            Half precision, of either, is computed in float32.
        alpha: Multiplies the teacher's logits (only), before its softmax.

    Returns:
        ``(N, H, W)`` loss per pixel, at least float32. Its least value is the
        entropy of the teacher's prediction divided by O.
    """
    student_logits = at_least_float32(student_logits)
    teacher_logits = at_least_float32(teacher_logits)
    num_old = teacher_logits.shape[1]
    targets = (teacher_logits * alpha).softmax(dim=1)
    normaliser = student_logits.logsumexp(dim=1)
    background = student_logits[:, 0]
    if student_logits.shape[1] > num_old:
        background = torch.logaddexp(background, student_logits[:, num_old:].logsumexp(dim=1))
    # The targets sum to one, so the normaliser leaves the sum over classes.
    agreement = targets[:, 0] * background
    if num_old > 1:
        agreement = agreement + (targets[:, 1:] * student_logits[:, 1:num_old]).sum(dim=1)
    return (normaliser - agreement) / num_old


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
    """Registered form of :func:`unbiased_knowledge_distillation`, for a ``LogitDistiller``.

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
