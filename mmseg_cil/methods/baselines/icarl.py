"""The one loss of iCaRL: old classes learn from the teacher, new ones from the labels."""

from __future__ import annotations

import torch
from torch import Tensor

from mmseg_cil.contracts import NetworkOutput
from mmseg_cil.losses.decode_loss import DecodeLoss
from mmseg_cil.losses.pixel_logits import PixelLogits
from mmseg_cil.methods.baselines.lwf_mc import (
    shared_sigmoid_cross_entropy,
    shared_sigmoid_distillation,
)
from mmseg_cil.registry import MODELS
from mmseg_cil.utils.step_context import StepContext


def icarl_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    background_from_labels: bool = False,
    ignore_index: int = 255,
    ignored_are_negatives: bool = False,
) -> Tensor:
    """Compute the binary cross-entropy per pixel with the teacher and the labels as targets.

    The targets of old classes are the teacher's sigmoids, those of new classes come from the
    labels.

    Source: Rebuffi et al., CVPR 2017, algorithm 3; fcdl94/MiB ``utils/loss.py``,
    ``IcarlLoss``.

    Args:
        student_logits: ``(N, C, H, W)``, C >= O, the old classes first.
        teacher_logits: ``(N, O, H, W)``. Half precision is computed in float32.
        labels: ``(N, H, W)`` integer model ids in ``[0, C)``, or ``ignore_index``.
        background_from_labels: Class 0 is learnt from the labels, not from the
            teacher (``bkg`` of the official code).
        ignore_index: Label without a class. Pixels with this label learn from the teacher only.
        ignored_are_negatives: At pixels with the label ``ignore_index``, the classes that learn
            from labels have the target 0 instead of no loss, as in the official code.

    Returns:
        ``(N, H, W)`` sum over the C classes, at least float32.
    """
    pixels = PixelLogits(student_logits, labels, ignore_index=ignore_index)
    return shared_icarl_loss(pixels, teacher_logits, background_from_labels, ignored_are_negatives)


def shared_icarl_loss(
    pixels: PixelLogits,
    teacher_logits: Tensor,
    background_from_labels: bool = False,
    ignored_are_negatives: bool = False,
) -> Tensor:
    """Compute :func:`icarl_loss` from logits of any size.

    Args:
        pixels: The student's logits over C classes, and labels.
        teacher_logits: ``(N, O, h, w)``, enlarged to the pixels.
        background_from_labels: See :func:`icarl_loss`.
        ignored_are_negatives: See :func:`icarl_loss`.

    Returns:
        ``(N, H, W)`` sum over the C classes, at least float32.
    """
    first, num_old = int(background_from_labels), teacher_logits.shape[1]
    # Ranges of classes that learn from labels: new classes, and the background if asked for.
    ranges = [(num_old, pixels.num_classes), *([(0, 1)] if background_from_labels else [])]
    # All maps are (N, H, W).
    of_labels = torch.zeros_like(pixels.ignored, dtype=pixels.precise.dtype)
    for start, stop in ranges:
        total, own = pixels.sigmoids_of_labels(start, stop)
        of_labels = of_labels + total - own.masked_fill(pixels.ignored, 0.0)
    if not ignored_are_negatives:
        of_labels = of_labels.masked_fill(pixels.ignored, 0.0)
    return of_labels + pixels.sigmoid_sum(first, num_old, teacher_logits[:, first:])


@MODELS.register_module()
class ICaRLLoss(DecodeLoss):
    """Registered form of :func:`icarl_loss`, for ``loss_decode`` of any head.

    The segmentor hands the teacher's record of the batch to the loss. Without a teacher the loss
    is :func:`~mmseg_cil.methods.baselines.lwf_mc.sigmoid_cross_entropy`.
    In a step that brings no class (by domain) every class would learn from the teacher and none
    from the labels. In such a step the loss is, by our choice, the sum of that cross-entropy and
    :func:`~mmseg_cil.methods.baselines.lwf_mc.sigmoid_distillation`.

    Args:
        loss_weight: Factor of the loss. Defaults to 1.0.
        background_from_labels: See :func:`icarl_loss`. Defaults to False.
        ignored_are_negatives: See :func:`icarl_loss`. Defaults to False.
        loss_name: Name in the log. Defaults to 'loss_icarl'.
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        background_from_labels: bool = False,
        ignored_are_negatives: bool = False,
        loss_name: str = 'loss_icarl',
    ) -> None:
        super().__init__(loss_weight, avg_non_ignore=False, loss_name=loss_name)
        self.background_from_labels = background_from_labels
        self.ignored_are_negatives = ignored_are_negatives
        self._step: StepContext | None = None
        self._teacher: NetworkOutput | None = None

    def set_step(self, step: StepContext) -> None:
        """Take the step, which says whether classes are new."""
        self._step = step

    def receive_teacher(self, teacher: NetworkOutput | None) -> None:
        """Take the teacher's outputs for the batch; None after the batch."""
        self._teacher = teacher

    def per_pixel(self, pixels: PixelLogits) -> tuple[Tensor, Tensor]:
        """See :meth:`DecodeLoss.per_pixel`; with a teacher no pixel is ignored as a whole."""
        assert pixels.labels is not None
        if self._teacher is None or self._step is None:
            return shared_sigmoid_cross_entropy(pixels), pixels.ignored
        teacher = self._teacher.logits
        if self._step.num_new:
            loss = shared_icarl_loss(
                pixels, teacher, self.background_from_labels, self.ignored_are_negatives
            )
        else:
            loss = shared_sigmoid_cross_entropy(pixels) + shared_sigmoid_distillation(
                pixels, teacher
            )
        return loss, torch.zeros_like(pixels.ignored)
