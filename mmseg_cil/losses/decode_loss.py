"""Base of the losses of heads, which weights and averages pixels."""

from __future__ import annotations

from torch import Tensor, nn

from mmseg_cil.contracts import PixelLoss
from mmseg_cil.losses.pixel_logits import PixelLogits
from mmseg_cil.utils.values import check_weights


class DecodeLoss(PixelLoss, nn.Module):
    """A loss for ``loss_decode`` of any head; a subclass defines the loss of a pixel.

    Our segmentor calls :meth:`of_pixels`, so that maps which several losses need are
    computed once; MMSegmentation's heads call the module itself.

    Args:
        loss_weight: Factor of the loss.
        avg_non_ignore: The mean is over the pixels that are not ignored; by default
            the mean is over all pixels, as in MiB's training loop (reduction 'none',
            then ``.mean()``) and in MMSegmentation's own ``CrossEntropyLoss``.
        loss_name: Name in the log.

    Raises:
        InputError: ``loss_weight`` is no number, or negative.
    """

    def __init__(self, loss_weight: float, avg_non_ignore: bool, loss_name: str) -> None:
        super().__init__()
        check_weights(self, loss_weight=loss_weight)
        self.loss_weight = loss_weight
        self.avg_non_ignore = avg_non_ignore
        self._loss_name = loss_name

    @property
    def loss_name(self) -> str:
        """Name under which the head logs and sums this loss."""
        return self._loss_name

    def cuts(self) -> tuple[int, ...]:
        """Return the bounds of groups that :meth:`per_pixel` reads, see :class:`PixelLogits`."""
        return ()

    def per_pixel(self, pixels: PixelLogits) -> tuple[Tensor, Tensor]:
        """Compute the loss ``(N, H, W)`` and the mask ``(N, H, W)`` of ignored pixels, bool.

        Args:
            pixels: Logits, and labels in model ids.
        """
        raise NotImplementedError

    def of_pixels(
        self,
        pixels: PixelLogits,
        weight: Tensor | None = None,
        reduction_override: str | None = None,
    ) -> Tensor:
        """Compute the loss of a batch.

        Args:
            pixels: Logits, and labels in model ids.
            weight: ``(N, H, W)`` weight per pixel.
            reduction_override: 'none' gives the loss per pixel, ``(N, H, W)``.

        Returns:
            Scalar: ``loss_weight`` times the mean over pixels (all pixels, or the pixels
            that are not ignored: see ``avg_non_ignore``).

        Raises:
            ValueError: ``reduction_override`` is neither None, 'mean' nor 'none'.
        """
        if reduction_override not in (None, 'mean', 'none'):
            raise ValueError(
                f"reduction_override must be None, 'mean' or 'none', got {reduction_override!r}"
            )
        loss, ignored = self.per_pixel(pixels)
        if weight is not None:
            loss = loss * weight
        if reduction_override == 'none':
            return self.loss_weight * loss
        if self.avg_non_ignore:
            return self.loss_weight * loss.sum() / (~ignored).sum().clamp(min=1)
        return self.loss_weight * loss.mean()

    def forward(
        self,
        logits: Tensor,
        labels: Tensor,
        weight: Tensor | None = None,
        ignore_index: int = 255,
        reduction_override: str | None = None,
        **kwargs: object,
    ) -> Tensor:
        """Compute the loss from the arguments of MMSegmentation's heads.

        Args:
            logits: ``(N, C, H, W)``.
            labels: ``(N, H, W)`` model ids or ``ignore_index``.
            weight: ``(N, H, W)`` weight per pixel, from a pixel sampler.
            ignore_index: Label of ignored pixels.
            reduction_override: 'none' gives the loss per pixel, ``(N, H, W)``;
                MMSegmentation's ``OHEMPixelSampler`` asks for it.
            **kwargs: Other arguments that heads pass; none is used.

        Returns:
            As :meth:`of_pixels`.

        Raises:
            ValueError: As :meth:`of_pixels`.
        """
        pixels = PixelLogits(logits, labels, self.cuts(), ignore_index=ignore_index)
        return self.of_pixels(pixels, weight, reduction_override)
