"""Cross-entropy over the classes of a step alone."""

from __future__ import annotations

import torch
from torch import Tensor

from mmseg_cil.losses.decode_loss import DecodeLoss
from mmseg_cil.losses.pixel_logits import PixelLogits
from mmseg_cil.losses.precision import at_least_float32
from mmseg_cil.losses.unbiased_cross_entropy import shared_unbiased_cross_entropy
from mmseg_cil.registry import MODELS
from mmseg_cil.utils.step_context import StepContext


def step_classes_cross_entropy(
        logits: Tensor, labels: Tensor, num_hidden: int, ignore_index: int = 255) -> Tensor:
    r"""Cross-entropy per pixel whose softmax is over the background and the new classes.

    .. math:: \log \Big( e^{z_0} + \sum_{c \ge \mathrm{num\_hidden}} e^{z_c} \Big) - z_y

    Logits of old classes are no part of it, so it neither lowers nor raises them: a step
    whose labels call old classes background says nothing about them.

    Source: XiaorongLi-95/VDFD ``class_incremental``, option LA, takes the cross-entropy over
    the logits of the current task. That the background belongs to every task is our choice,
    for segmentation.

    Args:
        logits: ``(N, C, H, W)`` over all classes seen, background at 0. Half
            precision is computed in float32.
        labels: ``(N, H, W)`` integer model ids in ``[0, C)``, or ``ignore_index``.
        num_hidden: Classes that hide in the background, itself included. With
            0 or 1 this is the ordinary cross-entropy.
        ignore_index: Label whose pixels have zero loss.

    Returns:
        ``(N, H, W)`` loss per pixel, in nats, at least float32; 0 where the label is an old
        class other than the background.
    """
    logits = at_least_float32(logits)
    kept = torch.cat([logits[:, :1], logits[:, max(num_hidden, 1):]], dim=1)
    left_out = (labels == ignore_index) | ((labels > 0) & (labels < num_hidden))
    own = logits.gather(1, labels.masked_fill(left_out, 0).unsqueeze(1).long()).squeeze(1)
    return (kept.logsumexp(dim=1) - own).masked_fill(left_out, 0.0)


@MODELS.register_module()
class StepClassesCrossEntropyLoss(DecodeLoss):
    """Registered form of :func:`step_classes_cross_entropy`, for ``loss_decode`` of any head.

    Where the step's labels hide no old classes (step 0, the setting ``sequential``,
    domain-incremental walks) it is the ordinary cross-entropy. So it is before a segmentor
    has told it the step. Pixels of exemplars that are labelled with an old class do not count.

    Args:
        loss_weight: Factor of the loss. Defaults to 1.0.
        avg_non_ignore: The mean is over the pixels that count; by default it is over all.
            Defaults to False.
        loss_name: Name in the log. Defaults to 'loss_step_ce'.
    """

    def __init__(self,
                 loss_weight: float = 1.0,
                 avg_non_ignore: bool = False,
                 loss_name: str = 'loss_step_ce') -> None:
        super().__init__(loss_weight, avg_non_ignore, loss_name)
        self._num_hidden = 0

    def set_step(self, step: StepContext) -> None:
        """Told by the segmentor which classes hide in the background."""
        self._num_hidden = step.num_hidden

    def cuts(self) -> tuple[int, ...]:
        """The background is a group, and so are the classes after the hidden ones."""
        return (1, self._num_hidden)

    def per_pixel(self, pixels: PixelLogits) -> tuple[Tensor, Tensor]:
        """See :meth:`DecodeLoss.per_pixel`."""
        assert pixels.labels is not None
        hidden = self._num_hidden
        if hidden <= 1:
            return shared_unbiased_cross_entropy(pixels, 0), pixels.ignored
        left_out = pixels.ignored | ((pixels.labels > 0) & (pixels.labels < hidden))
        normaliser = pixels.logsumexp(0, 1)
        if hidden < pixels.num_classes:
            normaliser = torch.logaddexp(normaliser, pixels.logsumexp(hidden))
        return (normaliser - pixels.own).masked_fill(left_out, 0.0), left_out
