"""Distillation of the classifier's logits."""

from __future__ import annotations

import torch
from mmseg.models.utils import resize
from torch import Tensor, nn

from mmseg_cil.errors import InputError
from mmseg_cil.models.network_output import NetworkOutput
from mmseg_cil.registry import MODELS


@MODELS.register_module()
class LogitDistiller(nn.Module):
    """Feeds a loss with the logits of student and teacher.

    Args:
        loss: Config of a loss module called with ``(student_logits,
            teacher_logits)`` that returns a scalar and has a ``loss_name``.
        resolution: 'full' compares logits upsampled to the size of the labels,
            as MiB and its successors do; 'low' compares the classifier's own
            output, some hundred times fewer pixels, which is another definition
            of the loss. Defaults to 'full'.

    Raises:
        InputError: ``resolution`` is neither.
    """

    def __init__(self, loss: dict, resolution: str = 'full') -> None:
        super().__init__()
        if resolution not in ('full', 'low'):
            raise InputError(
                f"LogitDistiller: resolution must be 'full' or 'low', got {resolution!r}")
        self.loss = MODELS.build(loss)
        self.resolution = resolution

    def forward(self, student: NetworkOutput, teacher: NetworkOutput,
                label_size: torch.Size) -> dict[str, Tensor]:
        """The loss of one batch.

        Args:
            student: Record of the student's run.
            teacher: Record of the teacher's run on the same images.
            label_size: ``(H, W)`` of the labels.

        Returns:
            The loss under its name.
        """
        logits = [student.logits, teacher.logits]
        if self.resolution == 'full':
            logits = [
                resize(one.logits, size=label_size, mode='bilinear',
                       align_corners=one.align_corners) for one in (student, teacher)
            ]
        return {self.loss.loss_name: self.loss(*logits)}
