"""Sigmoid losses of LwF-MC, which result tables of papers also call iCaRL."""

from __future__ import annotations

from torch import Tensor

from mmseg_cil.losses.decode_loss import DecodeLoss
from mmseg_cil.losses.distillation_loss import DistillationLoss
from mmseg_cil.losses.pixel_logits import PixelLogits
from mmseg_cil.registry import MODELS


def sigmoid_cross_entropy(logits: Tensor, labels: Tensor, ignore_index: int = 255) -> Tensor:
    """Compute the binary cross-entropy per pixel, summed over the classes; 0 at ignored pixels.

    Source: fcdl94/MiB ``utils/loss.py``, ``BCEWithLogitsLossWithIgnoreIndex``.

    Args:
        logits: ``(N, C, H, W)``. Half precision is computed in float32.
        labels: ``(N, H, W)`` integer model ids in ``[0, C)``, or ``ignore_index``.
        ignore_index: Label whose pixels have zero loss.

    Returns:
        ``(N, H, W)``, at least float32.
    """
    return shared_sigmoid_cross_entropy(PixelLogits(logits, labels, ignore_index=ignore_index))


def shared_sigmoid_cross_entropy(pixels: PixelLogits) -> Tensor:
    """Compute :func:`sigmoid_cross_entropy` from logits of any size.

    Args:
        pixels: Logits and labels.

    Returns:
        ``(N, H, W)``, at least float32.
    """
    # -log(1 - sigmoid(z)) is softplus(z), and -log(sigmoid(z)) is softplus(z) - z.
    total, own = pixels.sigmoids_of_labels()
    return (total - own).masked_fill(pixels.ignored, 0.0)


def sigmoid_distillation(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Compute the binary cross-entropy per pixel with the teacher's sigmoids as targets.

    The cross-entropy is summed over the teacher's O classes. The mean of this sum over
    pixels is O times the mean over pixels and classes; the official code states it as
    the latter.

    Source: fcdl94/MiB ``train.py``, ``l_icarl`` of the combined form; Rebuffi et
    al., "iCaRL", CVPR 2017, algorithm 3, second sum.

    Args:
        student_logits: ``(N, C, H, W)``, C >= O, the old classes first.
        teacher_logits: ``(N, O, H, W)``. Half precision is computed in float32.

    Returns:
        ``(N, H, W)``, at least float32.
    """
    return shared_sigmoid_distillation(PixelLogits(student_logits), teacher_logits)


def shared_sigmoid_distillation(pixels: PixelLogits, teacher_logits: Tensor) -> Tensor:
    """Compute :func:`sigmoid_distillation` from logits of any size.

    Args:
        pixels: The student's logits over C classes.
        teacher_logits: ``(N, O, h, w)``, enlarged to the pixels.

    Returns:
        ``(N, H, W)``, at least float32.
    """
    return pixels.sigmoid_sum(0, teacher_logits.shape[1], teacher_logits)


@MODELS.register_module()
class SigmoidCrossEntropyLoss(DecodeLoss):
    """Registered form of :func:`sigmoid_cross_entropy`, for ``loss_decode`` of any head.

    The loss is the same at every step: pixels that the step's labels call background are
    learnt as background, so pixels of old classes are learnt as negatives of their class.

    Args:
        loss_weight: Factor of the loss. Defaults to 1.0.
        avg_non_ignore: The mean is over the pixels that are not ignored; by
            default the mean is over all pixels, as in the official training loop.
        loss_name: Name in the log. Defaults to 'loss_bce'.
    """

    def __init__(
        self, loss_weight: float = 1.0, avg_non_ignore: bool = False, loss_name: str = 'loss_bce'
    ) -> None:
        super().__init__(loss_weight, avg_non_ignore, loss_name)

    def per_pixel(self, pixels: PixelLogits) -> tuple[Tensor, Tensor]:
        """See :meth:`DecodeLoss.per_pixel`."""
        return shared_sigmoid_cross_entropy(pixels), pixels.ignored


@MODELS.register_module()
class SigmoidDistillationLoss(DistillationLoss):
    """Registered form of :func:`sigmoid_distillation`, for a ``LogitDistiller``.

    The mean is over all pixels, those with an ignored label included.

    Args:
        loss_weight: Factor of the loss ("importance"). Defaults to 10.0.
        loss_name: Name in the log. Defaults to 'loss_sigmoid_kd'.
    """

    def __init__(self, loss_weight: float = 10.0, loss_name: str = 'loss_sigmoid_kd') -> None:
        super().__init__(loss_weight, loss_name)

    def per_pixel(self, pixels: PixelLogits, teacher_logits: Tensor) -> Tensor:
        """See :meth:`DistillationLoss.per_pixel`."""
        return shared_sigmoid_distillation(pixels, teacher_logits)
