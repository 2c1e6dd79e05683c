"""The distiller of UCD."""

from __future__ import annotations

import torch
from mmengine.dist import all_gather, all_reduce, get_rank, get_world_size
from torch import Tensor

from mmseg_cil.contracts import Batch, Distiller
from mmseg_cil.errors import InputError
from mmseg_cil.methods.ucd.cells import LABELS, MOST_OFFICIAL, cell_labels, cells_of
from mmseg_cil.methods.ucd.pairs import SHIFTS, Cells, Pairing, contrast_sum
from mmseg_cil.registry import MODELS
from mmseg_cil.utils.step_context import StepContext
from mmseg_cil.utils.values import check_choice, check_number, check_weights


@MODELS.register_module()
class PixelContrastDistiller(Distiller):
    r"""Draws the embeddings of cells of a class together, and those of other classes apart.

    Anchors are the student's embeddings (the map before the classifier). They are compared with
    the same embeddings, as constants, and with the teacher's where it gave the label. Cells of the
    background are left out. A pair of cells of a class weighs as much as the teacher believes
    that both are of one class, or 1 if the label says so. The loss is the mean over anchors that
    have another cell of their class; see :func:`~mmseg_cil.methods.ucd.pairs.contrast_sum`, which
    holds no more pairs than fit into a chunk.

    The official attention over cells is left out: it multiplies vectors that are divided by their
    length next.

    Args:
        temperature: Divides the products of embeddings of length 1. Defaults to 0.07.
        loss_weight: Factor of the loss. Defaults to 0.01.
        shift: 'consistent', or 'official': the official code subtracts the greatest score from
            the positives' scores, but not from the negatives', which thus weigh a million times
            as much. Defaults to 'consistent'.
        labels: 'nearest' or 'official', see :func:`~mmseg_cil.methods.ucd.cells.cell_labels`.
            Defaults to 'nearest'.
        across_processes: Whether anchors are compared with cells of all processes, so that the
            loss does not depend on the number of processes. Images must then be of one size on
            all processes. The official code compares within each process. Defaults to True.
        most_pairs: Number of pairs that are held at a time; affects memory and speed only. By
            default 2**20 on a CPU and 2**24 elsewhere.
        loss_name: Name in the log. Defaults to 'loss_ucd'.

    Raises:
        InputError: A value is out of range or unknown.
    """

    def __init__(
        self,
        temperature: float = 0.07,
        loss_weight: float = 0.01,
        shift: str = 'consistent',
        labels: str = 'nearest',
        across_processes: bool = True,
        most_pairs: int | None = None,
        loss_name: str = 'loss_ucd',
    ) -> None:
        super().__init__()
        check_number(self, 'temperature', temperature, above=True)
        check_weights(self, loss_weight=loss_weight)
        check_choice(self, 'shift', shift, SHIFTS)
        check_choice(self, 'labels', labels, LABELS)
        if most_pairs is not None:
            check_number(self, 'most_pairs', most_pairs, least=1, whole=True)
        self.temperature = temperature
        self.loss_weight = loss_weight
        self.shift = shift
        self.labels = labels
        self.across_processes = across_processes
        self.most_pairs = most_pairs
        self.loss_name = loss_name
        self._step = StepContext.of_class_counts([1])

    def set_step(self, step: StepContext) -> None:
        """Take the classes of the step.

        Raises:
            InputError: The official labels do not know the classes.
        """
        if self.labels == 'official' and not step.has_background:
            raise InputError(
                "PixelContrastDistiller: labels='official' takes class 0 for the background, and "
                "this protocol has none: set labels='nearest'"
            )
        if self.labels == 'official' and step.num_seen > MOST_OFFICIAL + 1:
            raise InputError(
                f"PixelContrastDistiller: labels='official' takes ids above {MOST_OFFICIAL} for "
                f'the background, and step {step.index} has {step.num_seen} classes: set '
                "labels='nearest'"
            )
        self._step = step

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the loss of a batch under its name.

        Args:
            batch: Contains the record of the last step's teacher.

        Raises:
            InputError: Embedding and logits differ in height or width.
        """
        student, teacher = batch.student, batch.teacher
        if student.embedding.shape[2:] != teacher.logits.shape[2:]:
            raise InputError(
                'PixelContrastDistiller: the embedding of this head is '
                f'{tuple(student.embedding.shape[2:])} cells, its logits are '
                f'{tuple(teacher.logits.shape[2:])}: take a head that classifies cell by cell'
            )
        labels = cell_labels(batch.pixels, teacher.logits, self._step, self.labels)
        anchors, others = cells_of(student, teacher, labels)
        processes = get_world_size() if self.across_processes else 1
        first = get_rank() * len(anchors.labels) if processes > 1 else 0
        sides = [_of_all_processes(side) if processes > 1 else side for side in (anchors, others)]
        total, number = contrast_sum(
            anchors,
            Cells(*(torch.cat(parts).detach() for parts in zip(*sides, strict=True))),
            Pairing(self.temperature, self.shift, first, self.most_pairs),
        )
        if processes > 1:
            all_reduce(number)
        # The mean over processes, of losses and gradients, is the mean over all anchors.
        return {self.loss_name: self.loss_weight * processes * total / number.clamp(min=1)}


def _of_all_processes(cells: Cells) -> Cells:
    """Return the cells of all processes, in the order of the processes, without gradients."""
    vectors, labels, sure, probabilities = cells
    # Ids are exact in float32.
    columns = [vectors.detach(), labels.unsqueeze(1), sure.unsqueeze(1), probabilities]
    joined = torch.cat(all_gather(torch.cat([column.float() for column in columns], dim=1)))
    size = vectors.shape[1]
    return Cells(
        joined[:, :size], joined[:, size].long(), joined[:, size + 1] > 0, joined[:, size + 2 :]
    )
