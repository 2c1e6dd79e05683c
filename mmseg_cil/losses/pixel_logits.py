"""A head's logits in the form that the head's losses share."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from mmseg.models.utils import resize
from torch import Tensor

from mmseg_cil.losses.pixel_maps import sigmoid_sums, weighted_logits
from mmseg_cil.losses.pixel_statistics import (
    Grid,
    PixelStatistics,
    label_scores,
    pixel_statistics,
    soft_agreement,
)
from mmseg_cil.losses.precision import at_least_float32


class PixelLogits:
    """One batch's logits at the pixels of the labels; shared maps are computed once.

    Every map but :attr:`upsampled` is computed without a tensor of the size ``(N, C, H, W)``, and
    keeps none for the backward pass; only losses of other packages read :attr:`upsampled`.
    The statistics, :attr:`own` and log-sum-exps are computed at their first use.

    Args:
        logits: ``(N, C, h, w)``, the classifier's output.
        labels: ``(N, H, W)`` integer model ids or ``ignore_index``. None if
            no loss reads labels.
        cuts: Class indices at which the groups of classes begin and end whose log-sum-exps
            losses read (0 and C are always included; indices outside are ignored).
        size: ``(H, W)``. By default the size of the labels, and without labels
            the size of the logits.
        align_corners: How logits are enlarged.
        ignore_index: Label of ignored pixels.
        replayed: Number of generated images, at the end of the batch. Generated images
            have no label, and distillation reads all their pixels.
    """

    def __init__(
        self,
        logits: Tensor,
        labels: Tensor | None = None,
        cuts: Sequence[int] = (),
        size: Sequence[int] | None = None,
        align_corners: bool = False,
        ignore_index: int = 255,
        replayed: int = 0,
    ) -> None:
        height, width = size or (logits if labels is None else labels).shape[-2:]
        self.logits = logits
        self.labels = labels
        self.ignore_index = ignore_index
        self.replayed = replayed
        self.grid = Grid((int(height), int(width)), align_corners)
        self._cuts = sorted(
            {0, *(cut for cut in cuts if 0 < cut < self.num_classes), self.num_classes}
        )
        self._tempered: dict[float, PixelLogits] = {}

    @property
    def num_classes(self) -> int:
        """Number of classes, C."""
        return self.logits.shape[1]

    @property
    def ignored(self) -> Tensor:
        """``(N, H, W)`` bool: pixels whose label is ``ignore_index``."""
        assert self.labels is not None
        return self.labels == self.ignore_index

    def distilled(self, chosen: Tensor) -> Tensor:
        """Return the pixels of a distillation that chooses pixels by their label.

        Args:
            chosen: ``(N, H, W)`` bool, pixels chosen by their label.

        Returns:
            ``(N, H, W)`` bool: the chosen pixels of real images, and all pixels of
            generated images, which no label can choose.
        """
        if not self.replayed:
            return chosen
        real = len(chosen) - self.replayed  # images with labels
        return torch.cat([chosen[:real], torch.ones_like(chosen[real:])])

    @cached_property
    def upsampled(self) -> Tensor:
        """``(N, C, H, W)`` in the logits' own number format, as in MMSegmentation's heads."""
        return resize(
            self.logits, size=self.grid.size, mode='bilinear', align_corners=self.grid.align_corners
        )

    @cached_property
    def precise(self) -> Tensor:
        """``(N, C, h, w)``, float32 at least, in which gradients of several losses are summed."""
        return at_least_float32(self.logits)

    @cached_property
    def statistics(self) -> PixelStatistics:
        """See :func:`~mmseg_cil.losses.pixel_statistics.pixel_statistics`."""
        return pixel_statistics(self.precise, self.labels, self._cuts, self.grid, self.ignore_index)

    @property
    def own(self) -> Tensor:
        """``(N, H, W)`` logit of the pixel's label; of class 0 if the pixel is ignored."""
        assert self.statistics.own is not None
        return self.statistics.own

    def logsumexp(self, start: int = 0, stop: int | None = None) -> Tensor:
        """Compute the log-sum-exp over the classes from ``start`` to before ``stop``.

        Args:
            start: One of the ``cuts``.
            stop: Another of the ``cuts``; by default C.

        Returns:
            ``(N, H, W)``, at least float32.

        Raises:
            ValueError: ``start`` or ``stop`` is no cut.
        """
        first, last = (self._cuts.index(cut) for cut in (start, stop or self.num_classes))
        # (N, number of groups, H, W).
        groups = self.statistics.groups[:, first:last]
        return groups.squeeze(1) if last == first + 1 else groups.logsumexp(dim=1)

    def logsumexp_among(self, classes: Tensor) -> Tensor:
        """Compute the log-sum-exp over classes that differ from image to image.

        Args:
            classes: bool ``(N, C)``, at least one class per image.

        Returns:
            ``(N, H, W)``, at least float32.
        """
        # Far below every logit, and finite: enlarging would multiply an infinite number by 0.
        never = torch.finfo(self.precise.dtype).min / 4
        among = PixelLogits(
            self.precise.masked_fill(~classes[..., None, None], never),
            size=self.grid.size,
            align_corners=self.grid.align_corners,
        )
        return among.logsumexp()

    def sigmoid_sum(
        self, start: int = 0, stop: int | None = None, teacher_logits: Tensor | None = None
    ) -> Tensor:
        """Return the sum alone of :func:`~mmseg_cil.losses.pixel_maps.sigmoid_sums`."""
        return sigmoid_sums(self.precise, None, self.grid, start, stop, teacher_logits)[0]

    def sigmoids_of_labels(self, start: int = 0, stop: int | None = None) -> tuple[Tensor, Tensor]:
        """Return both maps of :func:`~mmseg_cil.losses.pixel_maps.sigmoid_sums`, no teacher's."""
        assert self.labels is not None
        total, own = sigmoid_sums(
            self.precise, self.labels, self.grid, start, stop, None, self.ignore_index
        )
        assert own is not None
        return total, own

    def weighted(self, weights: Tensor, classes: Tensor) -> Tensor:
        """See :func:`~mmseg_cil.losses.pixel_maps.weighted_logits`."""
        return weighted_logits(self.precise, weights, classes, self.grid)

    def agreement(self, teacher_logits: Tensor, alpha: float = 1.0) -> tuple[Tensor, Tensor]:
        """See :func:`~mmseg_cil.losses.pixel_statistics.soft_agreement`."""
        return soft_agreement(self.precise, teacher_logits, self.grid, alpha)

    def tempered(self, temperature: float) -> PixelLogits:
        """Return the logits divided by a temperature, without labels; computed at the first use."""
        if temperature == 1.0:
            return self
        if temperature not in self._tempered:
            self._tempered[temperature] = PixelLogits(
                self.precise / temperature,
                cuts=self._cuts,
                size=self.grid.size,
                align_corners=self.grid.align_corners,
            )
        return self._tempered[temperature]

    def accuracy(self) -> Tensor:
        """Return the percentage (a scalar) of valid pixels whose label has the greatest logit."""
        assert self.labels is not None
        if 'statistics' in self.__dict__:
            own, greatest = self.own, self.statistics.greatest
        else:
            own, greatest = label_scores(self.logits, self.labels, self.grid, self.ignore_index)
        valid = ~self.ignored  # (N, H, W) bool
        with torch.no_grad():
            return 100.0 * ((own >= greatest) & valid).sum() / valid.sum().clamp(min=1)
