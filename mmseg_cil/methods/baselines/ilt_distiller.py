"""Distillation of one of the backbone's feature maps."""

from __future__ import annotations

import math

from torch import Tensor, nn

from mmseg_cil.distillers.build import build_distillation_loss
from mmseg_cil.errors import InputError
from mmseg_cil.losses.pixel_logits import PixelLogits
from mmseg_cil.models.network_output import NetworkOutput
from mmseg_cil.registry import MODELS
from mmseg_cil.utils.values import check_number


@MODELS.register_module()
class FeatureDistiller(nn.Module):
    """Feeds a loss with one stage's features of student and teacher.

    Args:
        loss: Config of a loss module called with ``(student, teacher)`` maps
            ``(N, D, h, w)`` that returns a scalar and has a ``loss_name``.
        stage: Index among what the backbone (and neck) returns. Defaults to
            -1, the last: the encoder's output, as in ILT.

    Raises:
        InputError: ``stage`` is no whole number, or the loss is not one of two
            networks.
    """

    def __init__(self, loss: dict, stage: int = -1) -> None:
        super().__init__()
        self.loss = build_distillation_loss(self, loss)
        check_number(self, 'stage', stage, least=-math.inf, whole=True)
        self.stage = stage

    def attach(self, network: nn.Module) -> None:
        """Told the segmentor, once it is built.

        Raises:
            InputError: Its backbone says how many stages it returns, and the one
                asked for is not among them.
        """
        stages = getattr(network.backbone, 'out_indices', None)
        if stages is not None and not getattr(network, 'with_neck', False):
            self._check_stage(len(stages))

    def _check_stage(self, count: int) -> None:
        if not -count <= self.stage < count:
            raise InputError(
                f'FeatureDistiller: stage {self.stage} is not among the {count} '
                'feature maps that the backbone returns'
            )

    def forward(
        self, student: NetworkOutput, teacher: NetworkOutput, pixels: PixelLogits
    ) -> dict[str, Tensor]:
        """The loss of one batch.

        Args:
            student: Record of the student's run.
            teacher: Record of the teacher's run on the same images.
            pixels: The student's logits at the labels' pixels; not used.

        Returns:
            The loss under its name.

        Raises:
            InputError: The backbone returns no such stage.
        """
        self._check_stage(len(student.features))
        maps = student.features[self.stage], teacher.features[self.stage]
        return {self.loss.loss_name: self.loss(*maps)}
