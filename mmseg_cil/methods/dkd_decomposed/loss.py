"""The losses on labels of decomposed distillation: of new outputs, and of the auxiliary output."""

from __future__ import annotations

import torch
from torch import Tensor

from mmseg_cil.errors import InputError
from mmseg_cil.losses.decode_loss import DecodeLoss
from mmseg_cil.losses.foreground import (
    VOIDS,
    check_foreground,
    shared_foreground_cross_entropy,
)
from mmseg_cil.losses.pixel_logits import PixelLogits
from mmseg_cil.registry import MODELS
from mmseg_cil.utils.step_context import StepContext
from mmseg_cil.utils.values import check_choice, check_weights


class ForegroundLoss(DecodeLoss):
    """Base of the losses on the outputs of a foreground classifier.

    The mean is over all pixels, ignored ones included, so that processes with equally many pixels
    need not share their counts.

    Args:
        loss_weight: Factor of the loss.
        void: 'ignored': void pixels cost nothing. 'background': void pixels are negatives of
            every class, as in the official code.
        loss_name: Name in the log.

    Raises:
        InputError: ``void`` is unknown, or ``loss_weight`` is no number, or negative.
    """

    def __init__(self, loss_weight: float, void: str, loss_name: str) -> None:
        super().__init__(loss_weight, avg_non_ignore=False, loss_name=loss_name)
        check_choice(self, 'void', void, VOIDS)
        self.void = void

    def set_step(self, step: StepContext) -> None:
        """Check the step.

        Raises:
            InputError: The classes have no background, or the walk is by domain.
        """
        check_foreground(step, self)

    def set_turns(self, turns: int) -> None:
        """Refuse self-supervision, whose outputs this loss does not know.

        Raises:
            InputError: A class has several outputs in training.
        """
        if turns > 1:
            raise InputError(
                f'{type(self).__name__} has one output a class, and method.self_supervision asks '
                f'for {turns}: leave it out'
            )

    def ignored(self, pixels: PixelLogits) -> Tensor:
        """Return the pixels ``(N, H, W)`` that cost nothing, bool."""
        return pixels.ignored if self.void == 'ignored' else torch.zeros_like(pixels.ignored)


@MODELS.register_module()
class ForegroundCrossEntropyLoss(ForegroundLoss):
    """``reference.foreground_cross_entropy`` of the outputs that are new, for any head.

    New outputs are those that the last trained step's network does not have; at the first step
    these are all foreground outputs. Labels of old classes, which exemplars have, are negatives of
    the new ones, as the background is. The old outputs learn from the teacher alone.

    Source: Baek et al., "Decomposed Knowledge Distillation for Class-Incremental Semantic
    Segmentation", NeurIPS 2022; cvlab-yonsei/DKD ``models/loss.py``, ``WBCELoss``, and
    ``trainer/trainer_voc.py``.

    Args:
        loss_weight: Factor of the loss. Defaults to 1.0.
        pos_weight: Weight of positives. Defaults to 1.0.
        first_pos_weight: Weight of positives at the first step that trains; by default
            ``pos_weight``.
        void: See :class:`ForegroundLoss`. Defaults to 'ignored'.
        loss_name: Name in the log. Defaults to 'loss_mbce'.

    Raises:
        InputError: An option is out of range.
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        pos_weight: float = 1.0,
        first_pos_weight: float | None = None,
        void: str = 'ignored',
        loss_name: str = 'loss_mbce',
    ) -> None:
        super().__init__(loss_weight, void, loss_name)
        check_weights(self, pos_weight=pos_weight)
        if first_pos_weight is not None:
            check_weights(self, first_pos_weight=first_pos_weight)
        self.pos_weight = pos_weight
        self.first_pos_weight = pos_weight if first_pos_weight is None else first_pos_weight
        self._first = 1
        self._weight = self.first_pos_weight

    def set_step(self, step: StepContext) -> None:
        """Take the step, which tells the new outputs."""
        super().set_step(step)
        self._first = max(1, step.num_known)
        self._weight = self.pos_weight if step.trained else self.first_pos_weight

    def per_pixel(self, pixels: PixelLogits) -> tuple[Tensor, Tensor]:
        """See :meth:`DecodeLoss.per_pixel`."""
        loss = shared_foreground_cross_entropy(pixels, self._first, self._weight)
        ignored = self.ignored(pixels)
        return loss.masked_fill(ignored, 0.0), ignored


@MODELS.register_module()
class AuxiliaryOutputLoss(ForegroundLoss):
    """``reference.auxiliary_cross_entropy``: output 0 learns that no class is anywhere.

    In training, output 0 is that of the auxiliary row of ``ForegroundRows``.

    Source: as :class:`ForegroundCrossEntropyLoss`; ``models/loss.py``, ``ACLoss``.

    Args:
        loss_weight: Factor of the loss. Defaults to 1.0.
        void: See :class:`ForegroundLoss`. Defaults to 'ignored'.
        loss_name: Name in the log. Defaults to 'loss_ac'.
    """

    def __init__(
        self, loss_weight: float = 1.0, void: str = 'ignored', loss_name: str = 'loss_ac'
    ) -> None:
        super().__init__(loss_weight, void, loss_name)

    def per_pixel(self, pixels: PixelLogits) -> tuple[Tensor, Tensor]:
        """See :meth:`DecodeLoss.per_pixel`."""
        ignored = self.ignored(pixels)
        return pixels.sigmoid_sum(0, 1).masked_fill(ignored, 0.0), ignored
