"""The cells that UCD compares: their labels, and what the teacher says of them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from mmseg_cil.contracts import NetworkOutput
from mmseg_cil.losses.pixel_logits import PixelLogits
from mmseg_cil.losses.precision import at_least_float32
from mmseg_cil.methods.ucd.pairs import LEFT_OUT, Cells
from mmseg_cil.utils.step_context import StepContext

#: How the labels of cells are made, see :func:`cell_labels`.
LABELS = ('nearest', 'official')
#: The greatest id that the official labels know; greater ids become background.
MOST_OFFICIAL = 20


class CellLabels(NamedTuple):
    """The labels of all cells of a batch, each ``(N, h, w)``.

    Attributes:
        ids: Model ids, int64; those of cells that are left out have no meaning.
        given: bool, the id comes from the label and not from the teacher.
        sure: bool, see :class:`~mmseg_cil.methods.ucd.pairs.Cells`.
        used: bool, the cell is compared.
    """

    ids: Tensor
    given: Tensor
    sure: Tensor
    used: Tensor


def cell_labels(
    pixels: PixelLogits, teacher_logits: Tensor, step: StepContext, form: str = 'nearest'
) -> CellLabels:
    """Return the labels of cells; where a label hides old classes, the teacher's prediction.

    A cell whose label and prediction are both the background is left out. With 'nearest', a cell
    has the label of its first pixel, and void cells are left out. The label 0 is taken for
    what it says where the labels of the step hide no class, and all cells of generated images,
    which have no labels, have the teacher's prediction. Sure are the cells with a given label.

    With 'official', ids are interpolated like numbers
    (:func:`~mmseg_cil.methods.ucd.reference.official_labels`), void is background, the teacher's
    prediction replaces every background, and sure are the cells from the least given id on,
    whoever says it.

    Args:
        pixels: The labels ``(N, H, W)``.
        teacher_logits: ``(N, O, h, w)``.
        step: The classes of the step.
        form: One of :data:`LABELS`.
    """
    assert pixels.labels is not None
    official = form == 'official'
    # Ids are exact in float32, which interpolation needs.
    small = functional.interpolate(
        pixels.labels.unsqueeze(1).float(),
        teacher_logits.shape[2:],
        mode='bilinear' if official else 'nearest',
    )
    ids = small.squeeze(1).long()
    predicted = teacher_logits.argmax(dim=1)
    if official:
        ids = ids.masked_fill(ids > MOST_OFFICIAL, 0)
        given = ids > 0
        least = ids.masked_fill(~given, MOST_OFFICIAL + 1).amin()
        ids = torch.where(given, ids, predicted)
        return CellLabels(ids, given, ids >= least, ids > 0)
    void = ids == pixels.ignore_index
    given = ids > 0 if step.old_labels_hidden else torch.ones_like(void)
    used = ~void
    if pixels.replayed:
        given[-pixels.replayed :] = False
        used[-pixels.replayed :] = True
    ids = torch.where(given, ids, predicted)
    if step.has_background:
        used = used & (ids > 0)
    return CellLabels(ids, given, given, used)


def cells_of(
    student: NetworkOutput, teacher: NetworkOutput, labels: CellLabels
) -> tuple[Cells, Cells]:
    """Return the student's cells, with gradients, and the teacher's.

    All cells of the batch are there, ``A = N * h * w``; those that are not compared are
    labelled as left out, so that no size depends on the labels. The teacher's cells are
    compared where it gave the label.
    """
    sure = labels.sure.flatten()
    probabilities = at_least_float32(teacher.logits).softmax(dim=1)
    probabilities = probabilities.movedim(1, -1).flatten(0, 2)
    student_ids = labels.ids.masked_fill(~labels.used, LEFT_OUT).flatten()
    teacher_ids = student_ids.masked_fill(labels.given.flatten(), LEFT_OUT)
    return (
        Cells(_vectors(student.embedding), student_ids, sure, probabilities),
        Cells(_vectors(teacher.embedding).detach(), teacher_ids, sure, probabilities),
    )


def _vectors(embedding: Tensor) -> Tensor:
    """Return vectors ``(A, D)`` of length 1 of a map ``(N, D, h, w)``, at least float32."""
    return functional.normalize(at_least_float32(embedding).movedim(1, -1).flatten(0, 2), dim=1)
