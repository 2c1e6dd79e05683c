"""The loss of STAR's classifier: labels, drawn embeddings of old classes, and real background."""

from __future__ import annotations

import torch
from mmengine.dist import all_reduce, get_world_size
from torch import Tensor, nn
from torch.nn import functional

from mmseg_cil.contracts import NetworkOutput
from mmseg_cil.losses.pixel_logits import PixelLogits
from mmseg_cil.losses.precision import at_least_float32
from mmseg_cil.methods.dkd_decomposed.loss import ForegroundCrossEntropyLoss
from mmseg_cil.methods.star.replay import FORMS, Replay, teacher_classes
from mmseg_cil.methods.star.statistics import cells_of
from mmseg_cil.registry import MODELS
from mmseg_cil.utils.values import check_choice


@MODELS.register_module()
class ReplayedCrossEntropyLoss(ForegroundCrossEntropyLoss):
    r"""The cross-entropy of new outputs, also of drawn embeddings and of background once more.

    .. math:: (L_{data} + w_f L_{fake} + w_b L_{background}) / (1 + w_f + w_b)

    See ``reference.replayed_cross_entropy``. The loss needs a ``StarStatisticsHook``, which gives
    the main decode head's loss the statistics of old classes. Other heads learn from the labels
    alone, as does the main head at the first step. The background cells are those where the
    classifier's own output of the teacher sees no class and the label of the cell's middle pixel is
    no new class (ours; the official code enlarges the teacher's logits first, which moves a cell
    by 3 %). All processes draw the same embeddings, and the weights are those of the whole batch.

    Source: Chen et al., "Saving 100x Storage: Prototype Replay for Reconstructing Training Sample
    Distribution in Class-Incremental Semantic Segmentation", NeurIPS 2023; jinpeng0528/STAR
    ``trainer/trainer_voc.py``.

    Args:
        loss_weight: Factor of the loss. Defaults to 1.0.
        pos_weight: Weight of positives in the data's term. Defaults to 4.0, as officially on VOC.
        first_pos_weight: As ``pos_weight``, at the first step that trains.
        void: See :class:`~mmseg_cil.methods.dkd_decomposed.loss.ForegroundLoss`.
        form: 'fixed': the teacher sees a class whose sigmoid is above 0.5. 'official': whose logit
            is above 0.5. Defaults to 'fixed'.
        loss_name: Name in the log. Defaults to 'loss_mbce'.

    Raises:
        InputError: An option is out of range.
    """

    needs_hook = 'StarStatisticsHook'

    def __init__(
        self,
        loss_weight: float = 1.0,
        pos_weight: float = 4.0,
        first_pos_weight: float | None = None,
        void: str = 'ignored',
        form: str = 'fixed',
        loss_name: str = 'loss_mbce',
    ) -> None:
        super().__init__(loss_weight, pos_weight, first_pos_weight, void, loss_name)
        check_choice(self, 'form', form, FORMS)
        self.form = form
        self._teacher: NetworkOutput | None = None
        self._seed = 0
        # Tuples hide tensors and classifier, which are no parts of the loss.
        self._replay: tuple[Replay, nn.Conv2d] | None = None

    def set_replay(self, replay: Replay, classifier: nn.Conv2d) -> None:
        """Take what a step replays, and the classifier that the drawn embeddings pass.

        Args:
            replay: On the device of the classifier.
            classifier: The classifier of the loss's own head.
        """
        self._replay = replay, classifier

    def set_iteration_seed(self, seed: int) -> None:
        """Take the seed of the next draw, the same on all processes."""
        self._seed = seed

    def receive_teacher(self, teacher: NetworkOutput | None) -> None:
        """Take the teacher's outputs for the batch; None after the batch."""
        self._teacher = teacher

    def of_pixels(
        self,
        pixels: PixelLogits,
        weight: Tensor | None = None,
        reduction_override: str | None = None,
    ) -> Tensor:
        """See :meth:`DecodeLoss.of_pixels`; hard-pixel sampling sees the labels' term alone."""
        data = super().of_pixels(pixels, weight, reduction_override)
        plain = weight is not None or reduction_override == 'none'
        if self._replay is None or self._teacher is None or plain:
            return data
        replay, classifier = self._replay
        of_background, share = self._background(pixels, self._teacher)
        weight_fake = len(replay.index) / (_num_cells(pixels.logits) * get_world_size())
        ratio = replay.background_ratio
        total = data + self.loss_weight * ratio * of_background
        if len(replay.index):
            total = total + self.loss_weight * weight_fake * self._drawn(replay, classifier)
        return total / (1 + weight_fake + ratio * share)

    def _background(self, pixels: PixelLogits, teacher: NetworkOutput) -> tuple[Tensor, Tensor]:
        """Return the sum of the loss over background cells, and their share, per cell.

        The share is that of the batch of all processes.
        """
        assert pixels.labels is not None
        labels = pixels.labels.masked_fill(pixels.ignored, 255)
        cells = cells_of(labels, pixels.logits.shape[2:])
        nothing = teacher_classes(teacher.logits, self.form) == 0
        chosen = (nothing & (cells < self._first)).to(pixels.precise)
        loss = functional.softplus(pixels.precise[:, self._first :]).sum(dim=1)
        number = _num_cells(pixels.logits)
        share = chosen.sum() / number
        all_reduce(share, 'mean')
        return (loss * chosen).sum() / number, share

    def _drawn(self, replay: Replay, classifier: nn.Conv2d) -> Tensor:
        """Return the mean loss of the drawn embeddings, none of which shows a new class."""
        assert classifier.bias is not None
        with torch.no_grad():
            embeddings = replay.draw(self._seed)
        with torch.autocast(embeddings.device.type, enabled=False):
            rows = at_least_float32(classifier.weight[self._first :]).flatten(1)
            bias = at_least_float32(classifier.bias[self._first :])
            logits = functional.linear(embeddings.to(rows), rows, bias)
            return functional.softplus(logits).sum(dim=1).mean()


def _num_cells(logits: Tensor) -> int:
    return len(logits) * logits.shape[2] * logits.shape[3]
