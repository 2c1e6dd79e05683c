"""The one loss of iCaRL: old classes learn from the teacher, new ones from the labels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from mmseg_cil.contracts import NetworkOutput
from mmseg_cil.losses.decode_loss import DecodeLoss
from mmseg_cil.losses.pixel_logits import PixelLogits
from mmseg_cil.losses.precision import at_least_float32
from mmseg_cil.methods.baselines.lwf_mc import sigmoid_cross_entropy, sigmoid_distillation
from mmseg_cil.registry import MODELS
from mmseg_cil.utils.devices import one_hot_maps
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
    logits = at_least_float32(student_logits)
    soft = at_least_float32(teacher_logits).sigmoid().to(logits)
    first, num_old = (1 if background_from_labels else 0), soft.shape[1]
    targets = one_hot_maps(labels, logits.shape[1]).to(logits)
    targets[:, first:num_old] = soft[:, first:]
    each = binary_cross_entropy_with_logits(logits, targets, reduction='none')
    if ignored_are_negatives:
        return each.sum(dim=1)
    of_labels = each[:, :first].sum(dim=1) + each[:, num_old:].sum(dim=1)
    return each[:, first:num_old].sum(dim=1) + of_labels.masked_fill(labels == ignore_index, 0.0)


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
        logits, labels = pixels.upsampled, pixels.labels
        if self._teacher is None or self._step is None:
            return sigmoid_cross_entropy(logits, labels, pixels.ignore_index), pixels.ignored
        teacher = pixels.grid.enlarge(at_least_float32(self._teacher.logits))
        if self._step.num_new:
            loss = icarl_loss(
                logits,
                teacher,
                labels,
                self.background_from_labels,
                pixels.ignore_index,
                self.ignored_are_negatives,
            )
        else:
            loss = sigmoid_cross_entropy(
                logits, labels, pixels.ignore_index
            ) + sigmoid_distillation(logits, teacher)
        return loss, torch.zeros_like(pixels.ignored)
