"""The decode loss of PLOP: cross-entropy on labels that the teacher completes."""

from __future__ import annotations

from torch import Tensor

from mmseg_cil.contracts import HeadLoss, NetworkOutput
from mmseg_cil.losses.decode_loss import DecodeLoss
from mmseg_cil.losses.hidden_classes import label_is_hidden
from mmseg_cil.losses.pixel_logits import PixelLogits
from mmseg_cil.methods.mib.unbiased_cross_entropy import shared_unbiased_cross_entropy
from mmseg_cil.methods.plop.pseudo_labels import pseudo_labels
from mmseg_cil.registry import MODELS
from mmseg_cil.utils.step_context import StepContext
from mmseg_cil.utils.values import check_number


class ThresholdedLoss(HeadLoss):
    """A loss that gets thresholds from ``PseudoLabelThresholdsHook``: a contract of this method."""

    #: Type of the hook that gives the thresholds. A walk without this hook is refused.
    needs_hook = 'PseudoLabelThresholdsHook'

    def set_thresholds(self, thresholds: Tensor) -> None:
        """Take the greatest uncertainty ``(C,)`` of a pseudo-label of each class."""


@MODELS.register_module()
class PseudoLabelCrossEntropyLoss(ThresholdedLoss, DecodeLoss):
    """Registered form of PLOP's classification loss, for ``loss_decode`` of any head.

    The segmentor hands the teacher's record of the batch to the loss before the heads'
    losses are computed. A ``PseudoLabelThresholdsHook`` hands the thresholds to the loss
    before training. If the labels hide no old classes, or there is no teacher, the loss
    is the ordinary cross-entropy. Exemplars keep their labels of old classes.

    Args:
        loss_weight: Factor of the loss. Defaults to 1.0.
        factor_without_background: See
            :func:`~mmseg_cil.methods.plop.pseudo_labels.pseudo_labels`; 0 in the
            official code. Defaults to 1.0.
        min_factor: If positive, the least adaptive factor. Defaults to 0.0.
        avg_non_ignore: The mean is over the pixels that have a label or
            pseudo-label; by default the mean is over all pixels, as in the official code.
        loss_name: Name in the log. Defaults to 'loss_plop'.
    """

    knows_hidden_classes = True

    def __init__(
        self,
        loss_weight: float = 1.0,
        factor_without_background: float = 1.0,
        min_factor: float = 0.0,
        avg_non_ignore: bool = False,
        loss_name: str = 'loss_plop',
    ) -> None:
        super().__init__(loss_weight, avg_non_ignore, loss_name)
        for name, value in (
            ('factor_without_background', factor_without_background),
            ('min_factor', min_factor),
        ):
            check_number(self, name, value, most=1.0)
        self.factor_without_background = factor_without_background
        self.min_factor = min_factor
        self._step: StepContext | None = None
        self._teacher: NetworkOutput | None = None
        self._hidden: Tensor | None = None
        self.thresholds: Tensor | None
        # The buffer is not persistent: a checkpoint holds nothing that only training needs.
        self.register_buffer('thresholds', None, persistent=False)

    def set_step(self, step: StepContext) -> None:
        """Take the step, which says which classes hide in the background."""
        self._step = step

    def set_thresholds(self, thresholds: Tensor) -> None:
        """Take the greatest uncertainty ``(C,)`` of a pseudo-label of each class."""
        self.thresholds = thresholds

    def receive_teacher(self, teacher: NetworkOutput | None) -> None:
        """Take the teacher's outputs for the batch; None after the batch."""
        self._teacher = teacher

    def receive_hidden(self, hidden: Tensor | None) -> None:
        """Take the classes ``(N, C)`` that hide in each image; None: the step's rule."""
        self._hidden = hidden

    def _complete(self, labels: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return labels ``(N, H, W)`` with pseudo-labels, and factors ``(N, 1, 1)`` or None."""
        step, teacher = self._step, self._teacher
        if step is None or teacher is None or not step.num_hidden:
            return labels, None
        if self.thresholds is None:
            raise RuntimeError(
                'PseudoLabelCrossEntropyLoss has no thresholds: add '
                "dict(type='PseudoLabelThresholdsHook') to the method's hooks"
            )
        settings = (
            teacher.logits,
            self.thresholds,
            self.factor_without_background,
            self.min_factor,
        )
        if self._hidden is None:
            return pseudo_labels(labels, *settings, align_corners=teacher.align_corners)
        # An exemplar whose background hides no old class has complete labels: its factor is 1.
        hides = self._hidden[:, 1 : teacher.logits.shape[1]].any(dim=1)[:, None, None]
        candidates = label_is_hidden(labels, self._hidden) & hides
        labels, factors = pseudo_labels(labels, *settings, candidates, teacher.align_corners)
        return labels, factors.masked_fill(~hides, 1.0)

    def per_pixel(self, pixels: PixelLogits) -> tuple[Tensor, Tensor]:
        """See :meth:`DecodeLoss.per_pixel`; pixels without label and pseudo-label are ignored.

        Raises:
            RuntimeError: Pseudo-labels are needed and there are no thresholds.
        """
        assert pixels.labels is not None
        labels, factors = self._complete(pixels.labels.masked_fill(pixels.ignored, 255))
        completed = PixelLogits(pixels.logits, labels, align_corners=pixels.grid.align_corners)
        loss = shared_unbiased_cross_entropy(completed, 0)
        return loss if factors is None else loss * factors, completed.ignored
