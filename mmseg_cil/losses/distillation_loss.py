"""Bases of the losses that compare student and teacher."""

from __future__ import annotations

from torch import Tensor, nn

from mmseg_cil.contracts import ComparisonLoss
from mmseg_cil.losses.pixel_logits import PixelLogits
from mmseg_cil.utils.values import check_weights


class TwoNetworkLoss(ComparisonLoss, nn.Module):
    """Base of all losses that compare two networks; none of them can be a head's loss.

    Args:
        loss_weight: Factor of the loss.
        loss_name: Name in the log.

    Raises:
        InputError: ``loss_weight`` is no number, or negative.
    """

    def __init__(self, loss_weight: float, loss_name: str) -> None:
        super().__init__()
        check_weights(self, loss_weight=loss_weight)
        self.loss_weight = loss_weight
        self.loss_name = loss_name


class DistillationLoss(TwoNetworkLoss):
    """Compares logits of student and teacher; a subclass defines the loss of a pixel.

    Args:
        loss_weight: Factor of the loss.
        loss_name: Name in the log.

    Raises:
        InputError: ``loss_weight`` is no number, or negative.
    """

    def cuts(self) -> tuple[int, ...]:
        """Return the bounds of groups that :meth:`per_pixel` reads, besides the cuts at 1 and O.

        See :class:`~mmseg_cil.losses.pixel_logits.PixelLogits`.
        """
        return ()

    def per_pixel(self, pixels: PixelLogits, teacher_logits: Tensor) -> Tensor:
        """Compute the loss ``(N, H, W)`` of every pixel.

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
        """Compute the loss of a batch.

        Args:
            pixels: As for :meth:`per_pixel`.
            teacher_logits: ``(N, O, h, w)``.
            among: ``(N, H, W)``, bool: the pixels to average over. By default
                all pixels, those with an ignored label included. A mask of pixels chosen by
                their label must come from :meth:`PixelLogits.distilled`; otherwise generated
                images, which have no labels, would be left out.

        Returns:
            Scalar: ``loss_weight`` times the mean over pixels; 0 if ``among`` has no pixel.
        """
        loss = self.per_pixel(pixels, teacher_logits)
        if among is None:
            return self.loss_weight * loss.mean()
        return self.loss_weight * loss.masked_fill(~among, 0.0).sum() / among.sum().clamp(min=1)

    def forward(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """Return ``loss_weight`` times the mean of the loss over all pixels (a scalar).

        Args:
            student_logits: ``(N, C, H, W)``.
            teacher_logits: ``(N, O, H, W)``, O <= C.
        """
        cuts = (1, teacher_logits.shape[1], *self.cuts())
        return self.of_pixels(PixelLogits(student_logits, cuts=cuts), teacher_logits)
