"""Sigmoid losses of LwF-MC, which result tables of papers also call iCaRL."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from mmseg_cil.losses.decode_loss import DecodeLoss
from mmseg_cil.losses.distillation_loss import DistillationLoss
from mmseg_cil.losses.pixel_logits import PixelLogits
from mmseg_cil.losses.precision import at_least_float32
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
    logits = at_least_float32(logits)
    ignored = labels == ignore_index
    own = logits.gather(1, labels.masked_fill(ignored, 0).unsqueeze(1).long()).squeeze(1)
    # -log(1 - sigmoid(z)) is softplus(z), and -log(sigmoid(z)) is softplus(z) - z.
    return (softplus(logits).sum(dim=1) - own).masked_fill(ignored, 0.0)


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
    teacher_logits = at_least_float32(teacher_logits)
    old = at_least_float32(student_logits)[:, : teacher_logits.shape[1]]
    return binary_cross_entropy_with_logits(
        old, teacher_logits.sigmoid().to(old), reduction='none'
    ).sum(dim=1)


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
        assert pixels.labels is not None
        loss = sigmoid_cross_entropy(pixels.upsampled, pixels.labels, pixels.ignore_index)
        return loss, pixels.ignored


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
        teacher = pixels.grid.enlarge(at_least_float32(teacher_logits))
        return sigmoid_distillation(pixels.upsampled, teacher)
