"""Distillation of maps pooled over squares and channels: RCIL's pooled cube."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from mmseg_cil.contracts import Batch, Distiller
from mmseg_cil.methods.plop.local_pod import fold_new_classes
from mmseg_cil.methods.rcil.pooled_cube import SIZES, pooled_cube_loss
from mmseg_cil.registry import MODELS
from mmseg_cil.utils.step_context import StepContext
from mmseg_cil.utils.values import check_sizes, check_weights


@MODELS.register_module()
class PooledCubeDistiller(Distiller):
    """Compares student and teacher by :func:`~mmseg_cil.methods.rcil.pooled_cube.pooled_cube_loss`.

    The maps are the stages of the backbone, the embedding before the classifier
    (DeepLabV3: the ASPP output), and the logits, not upsampled; the student's
    logits of new classes are added to the background's. The channel distance
    leaves out the logits.

    The official code means to compare each stage before its activation, but
    applies the activation in place (zhangchbin/RCIL ``modules/residual.py``,
    ``leaky_relu_``) and thus compares the stage's output. This class compares the
    stage's output too.

    Args:
        factor: Weight of the spatial distance of stages and embedding.
            Defaults to 0.01, as for VOC.
        last_factor: Weight of the spatial distance of the logits. Defaults to
            0.0005, as for VOC.
        channel_factor: Weight of the channel distance of the stages. Defaults
            to 0.01.
        channel_last_factor: Weight of the channel distance of the embedding,
            the last map that the channel distance compares. Defaults to 0.0005.
        sizes: Sides of the pooled squares.
        grows: Multiply by sqrt(classes seen / new classes), and by 1 if no class is new,
            both as in the official code.
        loss_name: Name in the log. Defaults to 'loss_cube'.

    Raises:
        InputError: A number cannot be used.
    """

    def __init__(
        self,
        factor: float = 0.01,
        last_factor: float = 0.0005,
        channel_factor: float = 0.01,
        channel_last_factor: float = 0.0005,
        sizes: Sequence[int] = SIZES,
        grows: bool = True,
        loss_name: str = 'loss_cube',
    ) -> None:
        super().__init__()
        check_weights(
            self,
            factor=factor,
            last_factor=last_factor,
            channel_factor=channel_factor,
            channel_last_factor=channel_last_factor,
        )
        check_sizes(self, 'sizes', sizes)
        self.factor = factor
        self.last_factor = last_factor
        self.channel_factor = channel_factor
        self.channel_last_factor = channel_last_factor
        self.sizes = tuple(sizes)
        self.grows = grows
        self.loss_name = loss_name
        self._growth = 1.0

    def set_step(self, step: StepContext) -> None:
        """Take the step, which says how many classes are new."""
        if self.grows and step.num_new:
            self._growth = math.sqrt(step.num_seen / step.num_new)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the loss of a batch under its name.

        Args:
            batch: Contains the record of the last step's teacher.
        """
        student, teacher = batch.student, batch.teacher
        students, teachers = ([*record.features, record.embedding] for record in (student, teacher))
        students.append(fold_new_classes(student.logits, teacher.logits.shape[1]))
        teachers.append(teacher.logits)
        stages = len(student.features)
        parts = pooled_cube_loss(
            students,
            teachers,
            [self.factor] * (stages + 1) + [self.last_factor],
            [self.channel_factor] * stages + [self.channel_last_factor],
            self._growth,
            self.sizes,
        )
        return {self.loss_name: parts.sum()}
