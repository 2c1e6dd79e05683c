"""What losses that compare student and teacher have in common."""

from __future__ import annotations

from torch import Tensor, nn

from mmseg_cil.contracts import ComparisonLoss
from mmseg_cil.losses.pixel_logits import PixelLogits
from mmseg_cil.utils.values import check_weights


class TwoNetworkLoss(ComparisonLoss, nn.Module):
    """The base of all losses that compare two networks: none of them can be a head's own.

    Args:
        loss_weight: Factor of the loss.
        loss_name: Name in the log.

    Raises:
        InputError: ``loss_weight`` is no number, 0 or more.
    """

    def __init__(self, loss_weight: float, loss_name: str) -> None:
        super().__init__()
        check_weights(self, loss_weight=loss_weight)
        self.loss_weight = loss_weight
        self.loss_name = loss_name


class DistillationLoss(TwoNetworkLoss):
    """Compares logits of student and teacher; a subclass says what it is at a pixel.

    Args:
        loss_weight: Factor of the loss.
        loss_name: Name in the log.

    Raises:
        InputError: ``loss_weight`` is no number, 0 or more.
    """

    def cuts(self) -> tuple[int, ...]:
        """Groups of classes that :meth:`per_pixel` asks for beside the cuts at 1 and O.

        See :class:`~mmseg_cil.losses.pixel_logits.PixelLogits`.
        """
        return ()

    def per_pixel(self, pixels: PixelLogits, teacher_logits: Tensor) -> Tensor:
        """The loss ``(N, H, W)``.

        Args:
            pixels: The student's logits over C classes, with cuts at 1, at O
                and at those of :meth:`cuts`.
            teacher_logits: ``(N, O, h, w)``, of the height and width of the
                student's classifier output, O <= C.
        """
        raise NotImplementedError

    def of_pixels(
        self, pixels: PixelLogits, teacher_logits: Tensor, among: Tensor | None = None
    ) -> Tensor:
        """The loss of a batch.

        Args:
            pixels: As for :meth:`per_pixel`.
            teacher_logits: ``(N, O, h, w)``.
            among: ``(N, H, W)``, bool: the pixels to average over. By default
                all, those with an ignored label too. Pixels chosen by their label
                go through :meth:`PixelLogits.distilled`, or generated images,
                which have none, would be left out.

        Returns:
            Scalar: ``loss_weight`` times the mean over pixels; 0 where there is none.
        """
        loss = self.per_pixel(pixels, teacher_logits)
        if among is None:
            return self.loss_weight * loss.mean()
        return self.loss_weight * loss.masked_fill(~among, 0.0).sum() / among.sum().clamp(min=1)

    def forward(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """``loss_weight`` times the mean of the loss over all pixels (a scalar).

        Args:
            student_logits: ``(N, C, H, W)``.
            teacher_logits: ``(N, O, H, W)``, O <= C.
        """
        cuts = (1, teacher_logits.shape[1], *self.cuts())
        return self.of_pixels(PixelLogits(student_logits, cuts=cuts), teacher_logits)
