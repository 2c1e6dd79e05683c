"""The distiller of SDR, which has the four losses of the features."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mmseg_cil.contracts import Batch, Distiller
from mmseg_cil.losses.cells import at_cells, logits_at_cells
from mmseg_cil.losses.pixel_logits import PixelLogits
from mmseg_cil.losses.precision import at_least_float32
from mmseg_cil.methods.sdr.class_sums import FORMS, NO_CLASS, ClassCells, total_of_all
from mmseg_cil.methods.sdr.prototypes import Prototypes
from mmseg_cil.methods.sdr.terms import attraction, class_means, matching, separation, sparsity
from mmseg_cil.registry import MODELS
from mmseg_cil.utils.step_context import StepContext
from mmseg_cil.utils.values import check_choice, check_weights


class Means(NamedTuple):
    """The features of a batch by class, over all processes.

    Attributes:
        cells: The cells of this process.
        sums: ``(C, D)`` sums over the cells of each class, with gradients.
        counts: ``(C,)`` numbers of these cells.
    """

    cells: ClassCells
    sums: Tensor
    counts: Tensor

    @classmethod
    def of(cls, cells: ClassCells) -> Means:
        """Add up the cells of all processes."""
        both = total_of_all(torch.cat([cells.sums(), cells.counts.unsqueeze(1)], dim=1))
        return cls(cells, both[:, :-1], both[:, -1].detach())

    @property
    def present(self) -> Tensor:
        """Return which classes have a cell, ``(C,)`` bool."""
        return self.counts > 0


def gathered(means: Means, has_prototype: Tensor, official: bool) -> Tensor:
    """Return the classes ``(C,)`` whose cells are added to prototypes.

    Args:
        means: The features of the batch.
        has_prototype: ``(C,)`` bool, see :func:`classes_with_prototype`.
        official: Whether only the first class of the batch is left out, whichever it is.
    """
    if official:
        return means.present & (means.present.cumsum(dim=0) > 1)
    return means.present & has_prototype


def classes_with_prototype(step: StepContext, device: torch.device) -> Tensor:
    """Return the classes ``(C,)`` that have prototypes: those whose labels mean the same always.

    The label 0 changes its meaning where it hides old classes, and where it is the background,
    which shows other classes at every step. In a domain-incremental walk it keeps its meaning.
    """
    changes = step.old_labels_hidden or (step.has_background and not step.by_domain)
    return torch.arange(step.num_seen, device=device) >= (1 if changes else 0)


@MODELS.register_module()
class RepresentationDistiller(Distiller):
    """The losses of SDR on the backbone's last map, from prototypes of classes.

    * Matching: the mean features of each old class, where labels hide old classes and the teacher
      sees this class, against the class's prototype.
    * Attraction: the features of each labelled cell against the prototype of its class.
    * Separation: the inverse distances between mean features of the classes of the batch, the
      background included.
    * Sparsity: the features of each cell, see :func:`~mmseg_cil.methods.sdr.terms.sparsity`.

    Prototypes are cumulative means over all iterations and steps. They get the batch's features
    before the losses are computed. Sums, and the greatest features of classes, are those of all
    processes, so that losses and prototypes do not depend on the number of processes.

    A class counts for matching and attraction once it has a prototype. The background has none,
    since its label stands for other classes at every step, except in a domain-incremental walk.
    Without a background, the label that hides classes has none. Where labels hide nothing, as
    on exemplars, they say which old class is there. Generated images have no labels: they take
    part in matching and sparsity.

    Args:
        match_weight: Weight of matching. Defaults to 0.01.
        attraction_weight: Weight of attraction. Defaults to 0.001.
        separation_weight: Weight of separation. Defaults to 0.001.
        sparsity_weight: Weight of sparsity. Defaults to 0.001.
        form: 'fixed', or 'official': numbers count for other channels than their own
            (:class:`~mmseg_cil.methods.sdr.class_sums.ClassCells`), the classes of the attraction
            weigh differently, the first class of a batch is left out of the prototypes, whichever
            it is, and prototypes of 0 count. Defaults to 'fixed'.

    Raises:
        InputError: A weight is negative, or ``form`` is unknown.
    """

    needs_hook = 'PrototypesHook'

    def __init__(
        self,
        match_weight: float = 0.01,
        attraction_weight: float = 0.001,
        separation_weight: float = 0.001,
        sparsity_weight: float = 0.001,
        form: str = 'fixed',
    ) -> None:
        super().__init__()
        check_weights(
            self,
            match_weight=match_weight,
            attraction_weight=attraction_weight,
            separation_weight=separation_weight,
            sparsity_weight=sparsity_weight,
        )
        check_choice(self, 'form', form, FORMS)
        self.match_weight = match_weight
        self.attraction_weight = attraction_weight
        self.separation_weight = separation_weight
        self.sparsity_weight = sparsity_weight
        self.form = form
        self._step = StepContext.of_class_counts([1])
        # The prototypes are no buffers: the hook saves them.
        self._prototypes: Prototypes | None = None

    def set_step(self, step: StepContext) -> None:
        """Take the classes of the step."""
        self._step = step

    def set_prototypes(self, prototypes: Prototypes) -> None:
        """Take the prototypes of the step's classes, on the network's device, to add to them."""
        self._prototypes = prototypes

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Add the batch to the prototypes, and return the four losses by their names.

        Args:
            batch: Contains the record of the last step's teacher.

        Raises:
            RuntimeError: :meth:`set_prototypes` was not called.
        """
        if self._prototypes is None:
            raise RuntimeError(
                'RepresentationDistiller was not given the prototypes of earlier steps: the method '
                'needs a PrototypesHook among its custom_hooks'
            )
        features = at_least_float32(batch.student.features[-1])
        with torch.autocast(features.device.type, enabled=False):
            return self._losses(features, batch, self._prototypes)

    def _losses(self, features: Tensor, batch: Batch, prototypes: Prototypes) -> dict[str, Tensor]:
        official = self.form == 'official'
        assert batch.pixels.labels is not None
        size, classes = features.shape[2:], self._step.num_seen
        labels = at_cells(batch.pixels.labels, size)
        given = Means.of(ClassCells(features, labels, classes, 'lines' if official else None))
        whole = classes_with_prototype(self._step, features.device)
        prototypes.add(given.sums, given.counts, gathered(given, whole, official))
        # The prototypes change in the next iteration, maybe before this one's backward pass.
        points = prototypes.means.to(features.dtype, copy=True)
        known = prototypes.counts >= 0 if official else prototypes.counts > 0
        old = old_classes(labels, batch.pixels, batch.teacher.logits, self._step)
        seen = Means.of(ClassCells(features, old, classes, 'columns' if official else None))
        return {
            'loss_sdr_match': self.match_weight
            * matching(class_means(seen.sums, seen.counts), points, seen.present & known),
            'loss_sdr_attraction': self.attraction_weight
            * attraction(given.cells, given.counts, points, given.present & known, official),
            'loss_sdr_separation': self.separation_weight
            * separation(class_means(given.sums, given.counts), given.present),
            'loss_sdr_sparsity': self.sparsity_weight
            * sparsity(features, labels, classes, official),
        }


def old_classes(
    labels: Tensor, pixels: PixelLogits, teacher_logits: Tensor, step: StepContext
) -> Tensor:
    """Return the old class ``(N, h, w)`` of each cell, or :data:`NO_CLASS`.

    The class is the label's, or the teacher's prediction where the label hides old classes and on
    generated images. The background is none, except in a domain-incremental walk.

    Args:
        labels: ``(N, h, w)`` ids of the cells, as ``at_cells`` returns them.
        pixels: The pixels of the batch, and its number of generated images.
        teacher_logits: ``(N, O, h', w')``.
        step: The classes of the step.
    """
    # Prediction and label are those of the same pixel.
    at_labels = logits_at_cells(teacher_logits.detach(), pixels.grid, labels.shape[1:])
    predicted = at_labels.argmax(dim=1)
    asked = labels == 0 if step.old_labels_hidden else torch.zeros_like(labels, dtype=torch.bool)
    if pixels.replayed:
        asked[-pixels.replayed :] = True
    ids = torch.where(asked, predicted, labels)
    least = 1 if step.has_background and not step.by_domain else 0
    return ids.masked_fill((ids < least) | (ids >= teacher_logits.shape[1]), NO_CLASS)
