"""The unbiased cross-entropy of MiB."""

from __future__ import annotations

import torch
from torch import Tensor

from mmseg_cil.losses.decode_loss import DecodeLoss
from mmseg_cil.losses.hidden_classes import label_is_hidden
from mmseg_cil.losses.pixel_logits import PixelLogits
from mmseg_cil.registry import MODELS
from mmseg_cil.utils.step_context import StepContext


def shared_unbiased_cross_entropy(pixels: PixelLogits, num_hidden: int) -> Tensor:
    """Compute :func:`unbiased_cross_entropy` from the log-sum-exps that losses share.

    Args:
        pixels: Logits and labels, with a cut at ``num_hidden``.
        num_hidden: Number of classes that hide in the background, the background included.

    Returns:
        ``(N, H, W)`` loss per pixel, in nats, at least float32.
    """
    assert pixels.labels is not None
    own = pixels.own  # (N, H, W): logit of the label
    if num_hidden > 0:
        # A label among the hidden classes: log-sum-exp of all of them.
        own = torch.where(pixels.labels < num_hidden, pixels.logsumexp(0, num_hidden), own)
    return (pixels.logsumexp() - own).masked_fill(pixels.ignored, 0.0)


def unbiased_cross_entropy_by_image(logits: Tensor, labels: Tensor, hidden: Tensor) -> Tensor:
    """Compute MiB's unbiased cross-entropy for images that differ in their hidden classes.

    ``hidden`` gives the classes that the background stands for in each image. For an
    image whose background stands for itself alone, the loss is the ordinary
    cross-entropy, so that old classes are learnt from the image's labels.

    Args:
        logits: ``(N, C, H, W)``. Half precision is computed in float32.
        labels: ``(N, H, W)`` model ids in ``[0, C)``; 255 is ignored.
        hidden: bool ``(N, C)``, see :func:`hidden_mask`.

    Returns:
        ``(N, H, W)`` loss per pixel, at least float32; zero at ignored pixels.
    """
    return shared_unbiased_cross_entropy_by_image(PixelLogits(logits, labels), hidden)


def shared_unbiased_cross_entropy_by_image(pixels: PixelLogits, hidden: Tensor) -> Tensor:
    """Compute :func:`unbiased_cross_entropy_by_image` from the log-sum-exps that losses share.

    Args:
        pixels: Logits and labels.
        hidden: bool ``(N, C)``, see :func:`hidden_mask`.

    Returns:
        ``(N, H, W)`` loss per pixel, at least float32; zero at ignored pixels.
    """
    assert pixels.labels is not None
    labels = pixels.labels.masked_fill(pixels.ignored, 255)
    # (N, H, W): log-sum-exp of the classes that the image's background stands for.
    background = pixels.logsumexp_among(hidden)
    # (N, H, W): log-sum-exp of the hidden classes, or logit of the label.
    own = torch.where(label_is_hidden(labels, hidden), background, pixels.own)
    return (pixels.logsumexp() - own).masked_fill(pixels.ignored, 0.0)


@MODELS.register_module()
class PixelCrossEntropyLoss(DecodeLoss):
    """The ordinary cross-entropy, from the log-sum-exps that it shares with distillation losses.

    The values are those of MMSegmentation's ``CrossEntropyLoss`` without class
    weights. The loss keeps no tensor of the size of the enlarged logits in memory.

    Args:
        loss_weight: Factor of the loss. Defaults to 1.0.
        avg_non_ignore: The mean is over the pixels that are not ignored; by
            default the mean is over all pixels. Defaults to False.
        loss_name: Name in the log. Defaults to 'loss_ce'.
    """

    def __init__(
        self, loss_weight: float = 1.0, avg_non_ignore: bool = False, loss_name: str = 'loss_ce'
    ) -> None:
        super().__init__(loss_weight, avg_non_ignore, loss_name)

    def per_pixel(self, pixels: PixelLogits) -> tuple[Tensor, Tensor]:
        """See :meth:`DecodeLoss.per_pixel`."""
        return shared_unbiased_cross_entropy(pixels, 0), pixels.ignored


@MODELS.register_module()
class UnbiasedCrossEntropyLoss(DecodeLoss):
    """``reference.unbiased_cross_entropy`` over shared pixels, for ``loss_decode`` of any head.

    If the step's labels hide no old classes (step 0, the setting ``sequential``,
    domain-incremental walks), and before :meth:`set_step` is called, the loss is the
    ordinary cross-entropy. On exemplars the labels of old classes are true, and the
    background stands only for the classes that the exemplar's own labels hide.

    Args:
        loss_weight: Factor of the loss. Defaults to 1.0.
        avg_non_ignore: The mean is over the pixels that are not ignored; by
            default the mean is over all pixels, as in MiB's training loop (reduction
            'none', then ``.mean()``) and in MMSegmentation's own
            ``CrossEntropyLoss``. Defaults to False.
        loss_name: Name in the log. Defaults to 'loss_unce'.
    """

    knows_hidden_classes = True

    def __init__(
        self, loss_weight: float = 1.0, avg_non_ignore: bool = False, loss_name: str = 'loss_unce'
    ) -> None:
        super().__init__(loss_weight, avg_non_ignore, loss_name)
        self._num_hidden = 0
        self._hidden: Tensor | None = None

    def set_step(self, step: StepContext) -> None:
        """Take the step, which says how many classes hide in the background."""
        self._num_hidden = step.num_hidden

    def receive_hidden(self, hidden: Tensor | None) -> None:
        """Take the classes ``(N, C)`` that hide in each image; None: the step's rule."""
        self._hidden = hidden

    def cuts(self) -> tuple[int, ...]:
        """Return the number of hidden classes, which are a group."""
        return (self._num_hidden,)

    def per_pixel(self, pixels: PixelLogits) -> tuple[Tensor, Tensor]:
        """See :meth:`DecodeLoss.per_pixel`."""
        if self._hidden is None:
            return shared_unbiased_cross_entropy(pixels, self._num_hidden), pixels.ignored
        return shared_unbiased_cross_entropy_by_image(pixels, self._hidden), pixels.ignored
