"""Distillation of the classifier's logits."""

from __future__ import annotations

from mmseg.models.utils import resize
from torch import Tensor

from mmseg_cil.contracts import Batch, Distiller
from mmseg_cil.distillers.build import build_distillation_loss, tell_classifier
from mmseg_cil.errors import InputError
from mmseg_cil.losses.distillation_loss import DistillationLoss
from mmseg_cil.registry import MODELS
from mmseg_cil.utils.values import check_choice

RESOLUTIONS = ('full', 'low')
AMONG = ('all', 'old')


@MODELS.register_module()
class LogitDistiller(Distiller):
    """Feeds a loss with the logits of student and teacher.

    Args:
        loss: Config of a loss module called with ``(student_logits,
            teacher_logits)`` that returns a scalar and has a ``loss_name``. A
            :class:`~mmseg_cil.losses.distillation_loss.DistillationLoss` shares
            the maps of the student's logits with the head's losses. A
            :class:`~mmseg_cil.contracts.ComparisonLoss` first receives the rows of the
            student's classifier.
        resolution: 'full' compares logits upsampled to the size of the labels,
            as MiB and its successors do; 'low' compares the classifier's own
            output, some hundred times fewer pixels, which is another definition
            of the loss. Defaults to 'full'.
        among: 'all' averages over all pixels. 'old' averages over the pixels labelled
            with the background or an old class, neither ignored nor new, as in the
            original code of ILT, and over generated images, which show only background
            and old classes. Defaults to 'all'.

    Raises:
        InputError: ``resolution`` or ``among`` is unknown; or 'old' is used at low
            resolution, which has no labels, or with a loss that cannot choose pixels;
            or the loss does not compare two networks.
    """

    def __init__(self, loss: dict, resolution: str = 'full', among: str = 'all') -> None:
        super().__init__()
        check_choice(self, 'resolution', resolution, RESOLUTIONS)
        check_choice(self, 'among', among, AMONG)
        self.loss = build_distillation_loss(self, loss)
        self.resolution = resolution
        self.among = among
        self._shares = resolution == 'full' and isinstance(self.loss, DistillationLoss)
        if among != 'all' and not self._shares:
            raise InputError(
                f'LogitDistiller: among={among!r} needs resolution="full" and a '
                f'DistillationLoss, not {type(self.loss).__name__} at {resolution!r}'
            )

    def cuts(self) -> tuple[int, ...]:
        """Return the bounds of groups of classes that the loss reads, besides 1 and O."""
        return self.loss.cuts() if self._shares and isinstance(self.loss, DistillationLoss) else ()

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the loss of a batch under its name.

        Args:
            batch: Contains the record of the last step's teacher.
        """
        student, teacher, pixels = batch.student, batch.teacher, batch.pixels
        tell_classifier(self.loss, student.classifier)
        if self._shares:
            assert isinstance(self.loss, DistillationLoss)
            among = None
            if self.among == 'old':
                assert pixels.labels is not None
                among = pixels.distilled(pixels.labels < teacher.logits.shape[1])
            loss = self.loss.of_pixels(pixels, teacher.logits, among)
        elif self.resolution == 'low':
            loss = self.loss(student.logits, teacher.logits)
        else:
            loss = self.loss(
                pixels.upsampled,
                resize(
                    teacher.logits,
                    size=pixels.grid.size,
                    mode='bilinear',
                    align_corners=teacher.align_corners,
                ),
            )
        return {self.loss.loss_name: loss}
