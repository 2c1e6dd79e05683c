"""Distillation from the old segmentor and from a segmentor of the new data: DT-ID."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmseg_cil.contracts import Batch, Distiller, Needs
from mmseg_cil.errors import InputError
from mmseg_cil.methods.dfgr.dual_teacher import (
    EPS,
    INITIAL_VARIANCE,
    double_distillation,
    variance_parameter,
    variances,
    variational_loss,
)
from mmseg_cil.registry import MODELS
from mmseg_cil.utils.step_context import StepContext
from mmseg_cil.utils.values import check_choice

FORMS = ('variational', 'double')


@MODELS.register_module()
class DualTeacherDistiller(Distiller):
    """Distils old classes from the old segmentor, new classes from a segmentor of the new data.

    The old teacher teaches the old outputs (the background among them) on generated
    images, or on all images where ``old_on`` is 'all' or the batch has no generated
    image. The new teacher teaches the outputs of the new classes, the last outputs of
    the student, on real images. The new teacher's own background is left out, because
    it includes pixels of old classes. Between the two lie the classes of earlier steps
    that did not train: no teacher knows them, and their outputs are not compared.
    Logits are compared as the classifiers return them, not enlarged. This is
    our reading of a method whose loss is not published (see
    :mod:`mmseg_cil.methods.dfgr.dual_teacher`).

    Args:
        loss_weight: Factor of the loss.
        form: 'variational': learnt variances, one for each output; 'double': the
            mean squared distance from both teachers' logits minus the batch's mean,
            on all images, as in deep model consolidation.
        old_on: 'replayed' or 'all': the images on which the old teacher teaches.
        new_teacher: The name of the new teacher.
        variance: Value of all variances at the start.
        eps: Added to every variance.
        optimizer: Config of a separate optimizer for the variances. By default the
            network's optimizer trains the variances too, with its weight decay.
        loss_name: Name in the log. Defaults to 'loss_dual'.

    Raises:
        InputError: ``form`` or ``old_on`` is unknown, or ``variance`` is not above ``eps``.
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        form: str = 'variational',
        old_on: str = 'replayed',
        new_teacher: str = 'new_data',
        variance: float = INITIAL_VARIANCE,
        eps: float = EPS,
        optimizer: dict | None = None,
        loss_name: str = 'loss_dual',
    ) -> None:
        super().__init__()
        check_choice(self, 'form', form, FORMS)
        check_choice(self, 'old_on', old_on, ('replayed', 'all'))
        if variance <= eps:
            raise InputError(
                f'DualTeacherDistiller: variance must be above eps={eps}, got {variance}'
            )
        self.loss_weight = loss_weight
        self.form = form
        self.old_on = old_on
        self.new_teacher = new_teacher
        self.needs = Needs(teacher=True, teachers=(new_teacher,))
        self.eps = eps
        self.optimizer = optimizer
        self.loss_name = loss_name
        self._start = variance_parameter(variance, eps)
        self._first = 0
        self.spread: nn.Parameter | None = None

    def set_step(self, step: StepContext) -> None:
        """Take the step; the form 'variational' creates a variance for each output here."""
        self._first = 1 if step.has_background else 0
        if self.form == 'variational':
            self.spread = nn.Parameter(torch.full((step.num_seen,), self._start))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the loss of a batch.

        Args:
            batch: Contains the records of the old and of the new teacher.

        Returns:
            The loss under its name and, with ``form='variational'``, the mean variances of
            old and new outputs.
        """
        student, replayed = batch.student, batch.replayed
        old = batch.teacher.logits
        new = batch.teachers[self.new_teacher].logits[:, self._first :]
        known, first = old.shape[1], student.logits.shape[1] - new.shape[1]
        if self.spread is None:
            taught = torch.cat([student.logits[:, :known], student.logits[:, first:]], dim=1)
            loss = double_distillation(taught, old, new)
            return {self.loss_name: self.loss_weight * loss}
        real = len(old) - replayed
        start = real if self.old_on == 'replayed' and replayed else 0
        spread = variances(self.spread, self.eps)
        of_old = variational_loss(student.logits[start:, :known], old[start:], spread[:known])
        of_new = variational_loss(student.logits[:real, first:], new[:real], spread[first:])
        return {
            self.loss_name: self.loss_weight * (of_old + of_new),
            'variance_old': spread[:known].mean().detach(),
            'variance_new': spread[first:].mean().detach(),
        }
