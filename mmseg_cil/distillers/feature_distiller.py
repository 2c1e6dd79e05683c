"""Distillation of one of the backbone's feature maps."""

from __future__ import annotations

from torch import Tensor, nn

from mmseg_cil.errors import InputError
from mmseg_cil.losses.pixel_logits import PixelLogits
from mmseg_cil.models.network_output import NetworkOutput
from mmseg_cil.registry import MODELS


@MODELS.register_module()
class FeatureDistiller(nn.Module):
    """Feeds a loss with one stage's features of student and teacher.

    Args:
        loss: Config of a loss module called with ``(student, teacher)`` maps
            ``(N, D, h, w)`` that returns a scalar and has a ``loss_name``.
        stage: Index among what the backbone (and neck) returns. Defaults to
            -1, the last: the encoder's output, as in ILT.
    """

    def __init__(self, loss: dict, stage: int = -1) -> None:
        super().__init__()
        self.loss = MODELS.build(loss)
        self.stage = stage

    def forward(self, student: NetworkOutput, teacher: NetworkOutput,
                pixels: PixelLogits) -> dict[str, Tensor]:
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
        count = len(student.features)
        if not -count <= self.stage < count:
            raise InputError(f'FeatureDistiller: stage {self.stage} is not among the {count} '
                             'feature maps that the backbone returns')
        maps = student.features[self.stage], teacher.features[self.stage]
        return {self.loss.loss_name: self.loss(*maps)}
