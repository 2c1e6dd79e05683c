"""Cross-entropy over the classes of a step alone."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from mmseg_cil.losses.decode_loss import DecodeLoss
from mmseg_cil.losses.pixel_logits import PixelLogits
from mmseg_cil.methods.mib.unbiased_cross_entropy import shared_unbiased_cross_entropy
from mmseg_cil.registry import MODELS
from mmseg_cil.utils.step_context import StepContext


def left_out_outputs(num_hidden: int, num_outputs: int, num_classes: int) -> list[range]:
    """Return the outputs that :func:`step_classes_cross_entropy` leaves out, in ascending order.

    Args:
        num_hidden: Number of classes that hide in the background, the background included.
        num_outputs: A multiple of ``num_classes``: self-supervision gives a class an output
            for every turn of the image, all classes of a turn together.
        num_classes: C.

    Returns:
        One range for every turn; empty ranges if only the background hides.
    """
    return [
        range(first + 1, first + max(num_hidden, 1)) for first in range(0, num_outputs, num_classes)
    ]


@MODELS.register_module()
class StepClassesCrossEntropyLoss(DecodeLoss):
    """``reference.step_classes_cross_entropy`` over shared pixels, for ``loss_decode`` of any head.

    If the step's labels hide no old classes (step 0, the setting ``sequential``,
    domain-incremental walks), and before :meth:`set_step` is called, the loss is the ordinary
    cross-entropy. Self-supervision by rotation tells the loss of the further outputs
    (:meth:`set_turns`). Pixels of exemplars that are labelled with an old class do not count.

    Args:
        loss_weight: Factor of the loss. Defaults to 1.0.
        avg_non_ignore: The mean is over the pixels that count; by default the mean is over all
            pixels. Defaults to False.
        loss_name: Name in the log. Defaults to 'loss_step_ce'.
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        avg_non_ignore: bool = False,
        loss_name: str = 'loss_step_ce',
    ) -> None:
        super().__init__(loss_weight, avg_non_ignore, loss_name)
        self._num_hidden = 0
        self._num_classes = 0
        self._turns = 1

    def set_step(self, step: StepContext) -> None:
        """Take the step, which says how many classes hide in the background."""
        self._num_hidden = step.num_hidden
        self._num_classes = step.num_seen

    def set_turns(self, turns: int) -> None:
        """Take the number of outputs that a class has in training, from self-supervision."""
        self._turns = turns

    def _left_out(self, num_outputs: int) -> list[range]:
        return left_out_outputs(self._num_hidden, num_outputs, self._num_classes)

    def cuts(self) -> tuple[int, ...]:
        """Return the class indices before and after the old classes of every turn."""
        if self._num_hidden <= 1:
            return ()
        return tuple(
            cut
            for part in self._left_out(self._turns * self._num_classes)
            for cut in (part.start, part.stop)
        )

    def per_pixel(self, pixels: PixelLogits) -> tuple[Tensor, Tensor]:
        """See :meth:`DecodeLoss.per_pixel`."""
        assert pixels.labels is not None
        hidden = self._num_hidden
        if hidden <= 1:
            return shared_unbiased_cross_entropy(pixels, 0), pixels.ignored
        left_out = pixels.ignored | ((pixels.labels > 0) & (pixels.labels < hidden))
        # The kept outputs lie between the ranges left out: new classes, next turn's background.
        outside = self._left_out(pixels.num_classes)
        starts = [0, *(part.stop for part in outside)]
        stops = [*(part.start for part in outside), pixels.num_classes]
        kept = [
            pixels.logsumexp(start, stop)
            for start, stop in zip(starts, stops, strict=True)
            if start < stop
        ]
        normaliser = functools.reduce(torch.logaddexp, kept)
        return (normaliser - pixels.own).masked_fill(left_out, 0.0), left_out
