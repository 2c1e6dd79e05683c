"""The distiller of LGKD."""

from __future__ import annotations

from torch import Tensor

from mmseg_cil.contracts import Batch, Distiller
from mmseg_cil.distillers.logit_distiller import RESOLUTIONS
from mmseg_cil.errors import InputError
from mmseg_cil.methods.lgkd.label_guided import pixels_of_cells, shared_label_guided_distillation
from mmseg_cil.registry import MODELS
from mmseg_cil.utils.step_context import StepContext
from mmseg_cil.utils.values import check_choice, check_weights


@MODELS.register_module()
class LabelGuidedDistiller(Distiller):
    """``reference.label_guided_distillation`` of the student's logits from the teacher's.

    The labels are those of the data set, also beside PLOP's pseudo-labels. The mean is over the
    cells that have a label. Exemplars count as other images do: their labels of old classes ask
    for what the label 0 asks for, the teacher's own prediction. Generated images have no labels
    and show no new class: all their cells count like cells of the background.

    Without new classes (a domain-incremental walk) the loss is the ordinary distillation over all
    classes. Without a background nothing says what the teacher saw where a new class is; such a
    step is refused (our choice; the paper always has a background) unless ``new_weight`` is 0.

    Args:
        old_weight: Weight of cells whose label is the background or an old class; ``--prev_kd``
            of the official code. Defaults to 1.0.
        new_weight: Weight of cells whose label is a new class; ``--novel_kd`` of the official
            code. Such cells stay in the mean if the weight is 0. Defaults to 1.0.
        resolution: 'low' compares the classifier's own outputs, with the labels reduced to their
            size, as the official code does. 'full' compares logits upsampled to the size of the
            labels, which is another definition of the loss. Defaults to 'low'.
        loss_name: Name in the log. Defaults to 'loss_lgkd'.

    Raises:
        InputError: ``resolution`` is unknown, or a weight is no number, or negative.
    """

    def __init__(
        self,
        old_weight: float = 1.0,
        new_weight: float = 1.0,
        resolution: str = 'low',
        loss_name: str = 'loss_lgkd',
    ) -> None:
        super().__init__()
        check_weights(self, old_weight=old_weight, new_weight=new_weight)
        check_choice(self, 'resolution', resolution, RESOLUTIONS)
        self.old_weight = old_weight
        self.new_weight = new_weight
        self.resolution = resolution
        self.loss_name = loss_name

    def set_step(self, step: StepContext) -> None:
        """Take the step, which says whether a background was there for the new classes.

        Raises:
            InputError: There are new classes and no background, and ``new_weight`` is not 0.
        """
        if step.num_new and not step.has_background and self.new_weight:
            raise InputError(
                'LabelGuidedDistiller: the distillation moves the probability of the background '
                'to the new class of a label, and this protocol has no background: set '
                'new_weight=0, which distils nothing where a new class is, or take --method mib'
            )

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the loss of a batch under its name.

        Args:
            batch: Contains the record of the last step's teacher.
        """
        pixels = batch.pixels
        if self.resolution == 'low':
            pixels = pixels_of_cells(batch.student.logits, pixels)
        loss = shared_label_guided_distillation(
            pixels, batch.teacher.logits, self.old_weight, self.new_weight
        )
        return {self.loss_name: loss}
