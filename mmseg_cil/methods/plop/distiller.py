"""Distillation of pooled stage maps, embedding and logits: PLOP's Local POD."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from mmseg_cil.contracts import Batch, Distiller, Needs
from mmseg_cil.methods.plop.local_pod import REGIONS, SCALES, fold_new_classes, local_pod_loss
from mmseg_cil.registry import MODELS
from mmseg_cil.utils.step_context import StepContext
from mmseg_cil.utils.values import check_choice, check_sizes, check_weights


@MODELS.register_module()
class LocalPODDistiller(Distiller):
    """Compares student and teacher by :func:`~mmseg_cil.methods.plop.local_pod.local_pod_loss`.

    The maps are the stages of the backbone before their last activation, the
    embedding before the classifier (DeepLabV3: the ASPP output), and the
    logits, not upsampled; the student's logits of new classes are added to the
    background's. If a backbone has no last activation (a transformer), the stage
    outputs themselves are compared.

    Args:
        factor: Weight of stages and embedding. Defaults to 0.01, as for VOC.
        logits_factor: Weight of the logits. Defaults to 0.0005, as for VOC.
        scales: Number of regions along each axis, for each scale.
        regions: 'even' or 'official', see
            :func:`~mmseg_cil.methods.plop.local_pod.region_edges`.
        grows: Multiply by sqrt(classes seen / new classes), as in the official code; by 1
            if no class is new (our choice: the official factor is infinite).
        loss_name: Name in the log. Defaults to 'loss_pod'.

    Raises:
        InputError: ``regions`` is unknown, or a number cannot be used.
    """

    needs = Needs(teacher=True, pre_activations=True)

    def __init__(
        self,
        factor: float = 0.01,
        logits_factor: float = 0.0005,
        scales: Sequence[int] = SCALES,
        regions: str = 'even',
        grows: bool = True,
        loss_name: str = 'loss_pod',
    ) -> None:
        super().__init__()
        check_choice(self, 'regions', regions, REGIONS)
        check_weights(self, factor=factor, logits_factor=logits_factor)
        check_sizes(self, 'scales', scales)
        self.factor = factor
        self.logits_factor = logits_factor
        self.scales = tuple(scales)
        self.regions = regions
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
        students, teachers = (
            [*(record.pre_activations or record.features), record.embedding]
            for record in (student, teacher)
        )
        factors = [self.factor] * len(students) + [self.logits_factor]
        students.append(fold_new_classes(student.logits, teacher.logits.shape[1]))
        teachers.append(teacher.logits)
        parts = local_pod_loss(students, teachers, factors, self._growth, self.scales, self.regions)
        return {self.loss_name: parts.sum()}
