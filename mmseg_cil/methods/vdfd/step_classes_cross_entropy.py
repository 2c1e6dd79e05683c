"""Cross-entropy over the classes of a step alone."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from mmseg_cil.losses.decode_loss import DecodeLoss
from mmseg_cil.losses.pixel_logits import PixelLogits
from mmseg_cil.losses.precision import at_least_float32
from mmseg_cil.methods.mib.unbiased_cross_entropy import shared_unbiased_cross_entropy
from mmseg_cil.registry import MODELS
from mmseg_cil.utils.step_context import StepContext


def left_out_outputs(num_hidden: int, num_outputs: int, num_classes: int) -> list[range]:
    """The outputs that :func:`step_classes_cross_entropy` leaves out, in ascending order.

    Args:
        num_hidden: Classes that hide in the background, itself included.
        num_outputs: A multiple of ``num_classes``: self-supervision gives a class an output
            for every turn of the image, all classes of a turn together.
        num_classes: C.

    Returns:
        One range for every turn; empty ranges where nothing but the background hides.
    """
    return [
        range(first + 1, first + max(num_hidden, 1)) for first in range(0, num_outputs, num_classes)
    ]


def step_classes_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    num_hidden: int,
    ignore_index: int = 255,
    num_classes: int | None = None,
) -> Tensor:
    r"""Cross-entropy per pixel whose softmax is over the background and the new classes.

    .. math:: \log \Big( e^{z_0} + \sum_{c \ge \mathrm{num\_hidden}} e^{z_c} \Big) - z_y

    Logits of old classes are no part of it, so it neither lowers nor raises them: a step
    whose labels call old classes background says nothing about them. Where classes have
    outputs for several turns of the image, the sum is over the background and the new
    classes of all turns.

    Source: XiaorongLi-95/VDFD ``class_incremental``, option LA, takes the cross-entropy over
    the logits of the current task. That the background belongs to every task is our choice,
    for segmentation.

    Args:
        logits: ``(N, C, H, W)`` over all classes seen, background at 0; with self-supervision
            ``(N, 4 C, H, W)``, the image's own turn first. Half precision is computed in
            float32.
        labels: ``(N, H, W)`` integer model ids in ``[0, C)``, or ``ignore_index``.
        num_hidden: Classes that hide in the background, itself included. With
            0 or 1 this is the ordinary cross-entropy.
        ignore_index: Label whose pixels have zero loss.
        num_classes: C, where there are more outputs than that.

    Returns:
        ``(N, H, W)`` loss per pixel, in nats, at least float32; 0 where the label is an old
        class other than the background.
    """
    logits = at_least_float32(logits)
    count = logits.shape[1]
    old = {
        one for part in left_out_outputs(num_hidden, count, num_classes or count) for one in part
    }
    kept = logits[:, [one for one in range(count) if one not in old]]
    left_out = (labels == ignore_index) | ((labels > 0) & (labels < num_hidden))
    own = logits.gather(1, labels.masked_fill(left_out, 0).unsqueeze(1).long()).squeeze(1)
    return (kept.logsumexp(dim=1) - own).masked_fill(left_out, 0.0)


@MODELS.register_module()
class StepClassesCrossEntropyLoss(DecodeLoss):
    """Registered form of :func:`step_classes_cross_entropy`, for ``loss_decode`` of any head.

    Where the step's labels hide no old classes (step 0, the setting ``sequential``,
    domain-incremental walks) it is the ordinary cross-entropy. So it is before a segmentor
    has told it the step. Self-supervision by rotation tells it of its further outputs.
    Pixels of exemplars that are labelled with an old class do not count.

    Args:
        loss_weight: Factor of the loss. Defaults to 1.0.
        avg_non_ignore: The mean is over the pixels that count; by default it is over all.
            Defaults to False.
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
        """Told by the segmentor which classes hide in the background."""
        self._num_hidden = step.num_hidden
        self._num_classes = step.num_seen

    def set_turns(self, turns: int) -> None:
        """Told by self-supervision how many outputs a class has in training."""
        self._turns = turns

    def _left_out(self, num_outputs: int) -> list[range]:
        return left_out_outputs(self._num_hidden, num_outputs, self._num_classes)

    def cuts(self) -> tuple[int, ...]:
        """Before and after the old classes of every turn."""
        if self._num_hidden <= 1:
            return ()
        return tuple(
            cut
            for one in self._left_out(self._turns * self._num_classes)
            for cut in (one.start, one.stop)
        )

    def per_pixel(self, pixels: PixelLogits) -> tuple[Tensor, Tensor]:
        """See :meth:`DecodeLoss.per_pixel`."""
        assert pixels.labels is not None
        hidden = self._num_hidden
        if hidden <= 1:
            return shared_unbiased_cross_entropy(pixels, 0), pixels.ignored
        left_out = pixels.ignored | ((pixels.labels > 0) & (pixels.labels < hidden))
        # What is kept lies between what is left out: new classes, and the next turn's background.
        outside = self._left_out(pixels.num_classes)
        starts = [0, *(one.stop for one in outside)]
        stops = [*(one.start for one in outside), pixels.num_classes]
        kept = [
            pixels.logsumexp(start, stop)
            for start, stop in zip(starts, stops, strict=True)
            if start < stop
        ]
        normaliser = functools.reduce(torch.logaddexp, kept)
        return (normaliser - pixels.own).masked_fill(left_out, 0.0), left_out
