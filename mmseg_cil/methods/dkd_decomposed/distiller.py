"""The distiller of decomposed distillation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmseg_cil.contracts import Batch, Distiller, NetworkOutput
from mmseg_cil.errors import InputError
from mmseg_cil.losses.foreground import (
    check_foreground,
    sigmoid_agreement,
    without_background,
)
from mmseg_cil.losses.precision import at_least_float32
from mmseg_cil.models.heads import main_classifier
from mmseg_cil.registry import MODELS
from mmseg_cil.utils.step_context import StepContext
from mmseg_cil.utils.values import check_weights


@MODELS.register_module()
class DecomposedDistiller(Distiller):
    """Distils logits, and the positive and the negative part that each logit is a sum of.

    ``reference.decomposed_distillation`` tells the formula. All three terms are means over all
    pixels (or cells), void ones and those of generated images included. The teacher's logits and
    rows are taken relative to its background's: these are 0 in a network that this method
    trained, and a network that another method trained is distilled by what it predicts (ours).

    Source: Baek et al., NeurIPS 2022, section 3.2; cvlab-yonsei/DKD ``models/model.py`` and
    ``trainer/trainer_voc.py``.

    Args:
        logit_weight: Factor of the term on logits, at the size of the labels. Defaults to 5.0,
            as in the official code, like the other two.
        positive_weight: Factor of the term on the sums of positive reasons, at the
            classifier's own size. Defaults to 5.0.
        negative_weight: Factor of the term on the sums of negative reasons. Defaults to 5.0.

    Raises:
        InputError: A weight is no number, or negative.
    """

    def __init__(
        self,
        logit_weight: float = 5.0,
        positive_weight: float = 5.0,
        negative_weight: float = 5.0,
    ) -> None:
        super().__init__()
        check_weights(
            self,
            logit_weight=logit_weight,
            positive_weight=positive_weight,
            negative_weight=negative_weight,
        )
        self.logit_weight = logit_weight
        self.positive_weight = positive_weight
        self.negative_weight = negative_weight
        # A tuple hides the network, which is no part of the distiller.
        self._network: tuple[Any, ...] = ()

    def set_step(self, step: StepContext) -> None:
        """Check the step.

        Raises:
            InputError: The classes have no background, or the walk is by domain.
        """
        check_foreground(step, self)

    def attach(self, network: nn.Module) -> None:
        """Take the network, whose classifier the parts of logits are computed with.

        Raises:
            InputError: The classifier's kernel is not 1x1.
        """
        name, classifier = main_classifier(network)
        if tuple(classifier.kernel_size) != (1, 1):
            raise InputError(
                f'DecomposedDistiller: {name} has a kernel of {tuple(classifier.kernel_size)}, and '
                'logits are decomposed for 1x1 alone: use a head whose classifier is 1x1'
            )
        self._network = (network,)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the three losses of a batch.

        Args:
            batch: Contains the record of the last step's teacher.
        """
        pixels, teacher = batch.pixels, batch.teacher
        num_old = teacher.logits.shape[1]
        targets = without_background(at_least_float32(teacher.logits))  # (N, O - 1, h, w)
        logits = pixels.sigmoid_sum(1, num_old, targets).mean()
        with torch.autocast(teacher.logits.device.type, enabled=False):
            parts = self._parts(batch.student, teacher)
        return {
            'loss_kd': self.logit_weight * logits,
            'loss_dkd_pos': self.positive_weight * parts[0],
            'loss_dkd_neg': self.negative_weight * parts[1],
        }

    def _parts(self, student: NetworkOutput, teacher: NetworkOutput) -> list[Tensor]:
        """Return the loss of the positive and of the negative parts of the logits."""
        assert self._network and teacher.classifier is not None
        _, classifier = main_classifier(self._network[0])
        old = without_background(at_least_float32(teacher.classifier), dim=0)
        rows = at_least_float32(classifier.weight).flatten(1)[1 : len(old) + 1]
        own, theirs = (
            decomposed_logits(at_least_float32(record.embedding), weight)
            for record, weight in ((student, rows), (teacher, old))
        )
        return [sigmoid_agreement(mine, target) for mine, target in zip(own, theirs, strict=True)]


def decomposed_logits(embedding: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sums of positive and of negative reasons that logits without bias consist of.

    Args:
        embedding: ``(N, D, h, w)``, the classifier's input.
        rows: ``(F, D)``.

    Returns:
        Logits ``(N, F, h, w)`` made of the positive weights alone, and of the negative ones.
    """
    maps = rows[:, :, None, None]
    positive = functional.conv2d(embedding, maps.clamp(min=0))
    return positive, functional.conv2d(embedding, maps.clamp(max=0))
