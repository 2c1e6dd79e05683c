"""Distillation from all earlier snapshots at once."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import torch
from mmengine.logging import print_log
from mmseg.models.utils import resize
from torch import Tensor

from mmseg_cil.contracts import Batch, Distiller, Needs
from mmseg_cil.distillers.build import (
    NamedLoss,
    build_distillation_loss,
    tell_classifier,
)
from mmseg_cil.distillers.logit_distiller import RESOLUTIONS
from mmseg_cil.errors import InputError
from mmseg_cil.losses.distillation_loss import DistillationLoss
from mmseg_cil.losses.pixel_logits import PixelLogits
from mmseg_cil.methods.m2kd.class_view import ClassView, class_view
from mmseg_cil.methods.m2kd.loss import mean_over_snapshots
from mmseg_cil.models.teachers import STEP_PREFIX, step_teacher_name
from mmseg_cil.registry import MODELS
from mmseg_cil.utils.step_context import StepContext
from mmseg_cil.utils.values import check_choice

CLASSES = ('new', 'known')


@MODELS.register_module()
class M2KDDistiller(Distiller):
    """Feeds a loss with the logits of the student and of every earlier snapshot.

    The distiller reads the snapshots of earlier steps (``method.teachers='all'``; with
    ``method.teacher_draw`` the snapshots drawn for the batch) and takes the mean of the
    loss over these snapshots. If snapshots are drawn, the mean is an unbiased estimate of
    the mean over all. The logits of each auxiliary head are distilled in the same way:
    this is the distillation of an intermediate level (AD), and the cross-entropy of this
    level is the auxiliary head's own loss.

    Source: Zhou et al., arXiv 1904.01769, published for classification; the choice of
    the classes that a snapshot teaches in segmentation is ours
    (:func:`~mmseg_cil.methods.m2kd.reference.multi_model_distillation`).

    Args:
        loss: Config of a loss as for a
            :class:`~mmseg_cil.distillers.logit_distiller.LogitDistiller`: any loss that
            compares the logits of a student and of one teacher.
        auxiliary_loss: Config of a loss for the auxiliary heads. None: they are not
            distilled. A network without an auxiliary head is trained without this loss,
            and the log says so.
        classes: 'new': snapshot k teaches the background and the classes that were new at
            step k; the other foreground classes of the snapshot are left out of the logits
            of snapshot and student. 'known': snapshot k teaches all classes that it knows.
            In a domain-incremental walk, which brings no new classes, every snapshot
            teaches all classes. Defaults to 'new'.
        resolution: See ``LogitDistiller``. Defaults to 'full'.

    Raises:
        InputError: ``classes`` or ``resolution`` is unknown.
    """

    def __init__(
        self,
        loss: dict,
        auxiliary_loss: dict | None = None,
        classes: str = 'new',
        resolution: str = 'full',
    ) -> None:
        super().__init__()
        check_choice(self, 'classes', classes, CLASSES)
        check_choice(self, 'resolution', resolution, RESOLUTIONS)
        self.loss = build_distillation_loss(self, loss)
        self.auxiliary_loss = (
            None if auxiliary_loss is None else build_distillation_loss(self, auxiliary_loss)
        )
        self.classes = classes
        self.resolution = resolution
        self.needs = Needs(teachers='all', auxiliary=self.auxiliary_loss is not None)
        self._starts: dict[str, int] = {}
        self._background = True

    def set_step(self, step: StepContext) -> None:
        """Take the step, which says which classes were new at which step."""
        self._background = step.has_background
        self._starts = {
            step_teacher_name(earlier): step.classes_of(earlier).start
            if self.classes == 'new'
            else 0
            for earlier in step.trained
        }

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the losses of a batch by name.

        Args:
            batch: Contains the records of the earlier steps' snapshots, and the logits of the
                auxiliary heads.

        Returns:
            The losses under their names; the losses of several auxiliary heads are summed.

        Raises:
            InputError: There are no snapshots of earlier steps.
        """
        records = {
            name: teacher
            for name, teacher in batch.teachers.items()
            if name.startswith(STEP_PREFIX)
        }
        if not records:
            raise InputError(
                'M2KDDistiller learns from the snapshots of all earlier steps: set '
                "method.teachers='all'"
            )
        for loss in (self.loss, self.auxiliary_loss):
            tell_classifier(loss, batch.student.classifier)
        losses = {
            self.loss.loss_name: self._mean(
                self.loss, batch.pixels, {name: record.logits for name, record in records.items()}
            )
        }
        if self.auxiliary_loss is None:
            return losses
        heads = [
            self._mean(
                self.auxiliary_loss,
                head,
                {name: record.auxiliary[place] for name, record in records.items()},
            )
            for place, head in enumerate(batch.auxiliary)
            if head is not None
        ]
        if heads:
            losses[self.auxiliary_loss.loss_name] = torch.stack(heads).sum()
        else:
            print_log(
                'M2KDDistiller: the network has no auxiliary head, so no intermediate level '
                'is distilled',
                'current',
                logging.WARNING,
            )
            self.auxiliary_loss = None
        return losses

    def _mean(self, loss: NamedLoss, pixels: PixelLogits, teachers: Mapping[str, Tensor]) -> Tensor:
        """Return the mean over snapshots of the loss of one head's logits."""
        if self.resolution == 'low':
            cuts = [1, *self._starts.values(), *(teacher.shape[1] for teacher in teachers.values())]
            pixels = PixelLogits(pixels.logits, cuts=cuts)
        return mean_over_snapshots(
            [
                self._one(loss, pixels, logits, self._starts[name])
                for name, logits in teachers.items()
            ]
        )

    def _one(self, loss: NamedLoss, pixels: PixelLogits, teacher: Tensor, start: int) -> Tensor:
        if start > int(self._background):
            pixels = ClassView(pixels, start, self._background)
            teacher = class_view(teacher, start, self._background)
        if isinstance(loss, DistillationLoss):
            return loss.of_pixels(pixels, teacher)
        result: Tensor = loss(
            pixels.upsampled,
            resize(
                teacher,
                size=pixels.grid.size,
                mode='bilinear',
                align_corners=pixels.grid.align_corners,
            ),
        )
        return result
