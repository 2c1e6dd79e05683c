"""The distiller of REMINDER."""

from __future__ import annotations

from torch import Tensor, nn

from mmseg_cil.contracts import Batch, Distiller
from mmseg_cil.errors import InputError
from mmseg_cil.methods.reminder.similarity import shared_similarity_weighted_distillation
from mmseg_cil.models.heads import main_classifier
from mmseg_cil.registry import MODELS
from mmseg_cil.utils.step_context import StepContext
from mmseg_cil.utils.values import check_number, check_weights


class PrototypesReader(Distiller):
    """A distiller that ``ReminderPrototypesHook`` gives prototypes: a contract of this method."""

    #: Type of the hook that gives the prototypes. A walk without this hook is refused.
    needs_hook = 'ReminderPrototypesHook'

    def set_old_prototypes(self, vectors: Tensor, network: nn.Module) -> None:
        """Take the prototypes of the old classes, before training.

        Args:
            vectors: ``(O, D)``, zero for a class that no image has shown.
            network: The segmentor, on its device.
        """


@MODELS.register_module()
class ClassSimilarityDistiller(PrototypesReader):
    """Distils, at pixels of new classes, the old classes that the new class is similar to.

    The formula is ``reference.similarity_weighted_distillation``. Similarity is that of the
    student's mean embedding of the new class in the batch to the prototypes of old classes, which
    earlier steps kept. The labels are those of the data set; PLOP's pseudo-labels replace labels
    of old classes only, so the pixels are the same. The mean embeddings and the number of pixels
    are over the batches of all processes (the official code runs on one).

    A step without new classes (in a domain-incremental walk) has nothing to distil and no loss.
    A background class is not needed. Images of a generator have no labels and do not count.

    Args:
        loss_weight: Factor of the loss; ``--csw_kd`` of the official code. Defaults to 0.5.
        delta: Old classes with less than ``delta`` times the average similarity are left out;
            ``--delta_csw`` of the official code, 0 on VOC and 1 on ADE20K. Defaults to 0.0.
        temperature: Divides the logits of both networks. Defaults to 3.0, the official number.
        loss_name: Name in the log. Defaults to 'loss_csw'.

    Raises:
        InputError: A number is out of range.
    """

    def __init__(
        self,
        loss_weight: float = 0.5,
        delta: float = 0.0,
        temperature: float = 3.0,
        loss_name: str = 'loss_csw',
    ) -> None:
        super().__init__()
        check_weights(self, loss_weight=loss_weight)
        check_number(self, 'delta', delta)
        check_number(self, 'temperature', temperature, above=True)
        self.loss_weight = loss_weight
        self.delta = delta
        self.temperature = temperature
        self.loss_name = loss_name
        self._num_new = 0
        # The prototypes are neither parameters nor buffers: the steps' files hold them.
        self._prototypes: Tensor | None = None

    def set_step(self, step: StepContext) -> None:
        """Take the step, which says whether classes are new."""
        self._num_new = step.num_new

    def set_old_prototypes(self, vectors: Tensor, network: nn.Module) -> None:
        """Take the prototypes of the old classes.

        Raises:
            InputError: The prototypes have another length than the network's embedding.
        """
        weight = main_classifier(network)[1].weight
        if vectors.shape[1] != weight.shape[1]:
            raise InputError(
                f'the prototypes of earlier steps have {vectors.shape[1]} numbers, the embedding '
                f'of this network has {weight.shape[1]}: the network must not change between steps'
            )
        self._prototypes = vectors.to(weight.device)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the loss of a batch under its name; nothing at a step without new classes.

        Args:
            batch: Contains the record of the last step's teacher.

        Raises:
            RuntimeError: :meth:`set_old_prototypes` was not called.
        """
        if not self._num_new:
            return {}
        if self._prototypes is None:
            raise RuntimeError(
                'ClassSimilarityDistiller was not given the prototypes of old classes: the method '
                'needs a ReminderPrototypesHook among its custom_hooks'
            )
        teacher = batch.teacher.logits
        loss = shared_similarity_weighted_distillation(
            batch.pixels,
            batch.student.embedding,
            teacher,
            self._prototypes[: teacher.shape[1]],
            self.delta,
            self.temperature,
        )
        return {self.loss_name: self.loss_weight * loss}
