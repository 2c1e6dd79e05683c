"""STAR's comparisons of embeddings: with the teacher's, and with the prototypes of old classes."""

from __future__ import annotations

import torch
from mmengine.dist import all_reduce, get_world_size
from torch import Tensor
from torch.nn import functional

from mmseg_cil.contracts import Batch, Distiller
from mmseg_cil.losses.foreground import check_foreground, without_background
from mmseg_cil.losses.precision import at_least_float32
from mmseg_cil.methods.star.replay import FORMS, THRESHOLDS
from mmseg_cil.registry import MODELS
from mmseg_cil.utils.step_context import StepContext
from mmseg_cil.utils.values import check_choice, check_weights


@MODELS.register_module()
class StarDistiller(Distiller):
    """Keeps the embedding where the teacher sees old classes, and new centres off old prototypes.

    See ``reference.old_class_features`` and ``reference.contrast``. Labels of old classes, which
    exemplars have, count like those of the background. Sums are over the batch of all processes.

    Source: Chen et al., NeurIPS 2023; jinpeng0528/STAR ``models/loss.py``, ``PKDLoss`` and
    ``ContLoss``.

    Args:
        feature_weight: Factor of the comparison with the teacher. Defaults to 5.0, as in the
            official code.
        contrast_weight: Factor of the distance of new classes to old prototypes. Defaults to
            0.05, as in the official code.
        form: 'fixed': the teacher sees a class whose sigmoid is above 0.5, and a new class that
            the batch lacks costs nothing. 'official': the teacher sees a class whose logit is above
            0.5, and such a class costs the constant 1, without a gradient. Defaults to 'fixed'.

    Raises:
        InputError: A weight is no number, or negative, or ``form`` is unknown.
    """

    needs_hook = 'StarStatisticsHook'

    def __init__(
        self, feature_weight: float = 5.0, contrast_weight: float = 0.05, form: str = 'fixed'
    ) -> None:
        super().__init__()
        check_weights(self, feature_weight=feature_weight, contrast_weight=contrast_weight)
        check_choice(self, 'form', form, FORMS)
        self.feature_weight = feature_weight
        self.contrast_weight = contrast_weight
        self.form = form
        # The prototypes are neither parameters nor buffers: the steps' files hold them.
        self._prototypes: Tensor | None = None

    def set_step(self, step: StepContext) -> None:
        """Check the step.

        Raises:
            InputError: The classes have no background, or the walk is by domain.
        """
        check_foreground(step, self)

    def set_star_prototypes(self, prototypes: Tensor) -> None:
        """Take the prototypes ``(F, D)`` of the old classes that have any, on the device."""
        self._prototypes = prototypes

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the two losses of a batch.

        Args:
            batch: Contains the record of the last step's teacher.
        """
        pixels, teacher = batch.pixels, batch.teacher
        assert pixels.labels is not None
        labels = pixels.labels.masked_fill(pixels.ignored, 255)
        num_old = teacher.logits.shape[1]
        own = at_least_float32(batch.student.embedding)
        with torch.no_grad():
            foreground = without_background(at_least_float32(teacher.logits))
            seen = torch.zeros_like(labels, dtype=torch.bool)
            if num_old > 1:
                seen = pixels.grid.enlarge(foreground).amax(dim=1) > THRESHOLDS[self.form]
            region = (seen & pixels.distilled(labels < num_old)).to(own)
        features = old_class_features(own, at_least_float32(teacher.embedding), region)
        contrast = self._contrast(own, labels, range(num_old, pixels.num_classes))
        return {
            'loss_pkd': self.feature_weight * features,
            'loss_cont': self.contrast_weight * contrast,
        }

    def _contrast(self, embedding: Tensor, labels: Tensor, classes: range) -> Tensor:
        if self._prototypes is None or not len(self._prototypes) or not classes:
            # No old class or no new one: a zero that keeps the graph.
            return 0.0 * functional.normalize(embedding, dim=1).sum()
        return contrast(embedding, labels, classes, self._prototypes, self.form == 'official')


def old_class_features(embedding: Tensor, teacher_embedding: Tensor, region: Tensor) -> Tensor:
    """Return the mean squared difference of embeddings in a region, a scalar.

    Args:
        embedding: ``(N, D, h, w)``.
        teacher_embedding: ``(N, D, h, w)``.
        region: ``(N, H, W)``, 1 within and 0 outside.

    Returns:
        The mean over the cells, weighted by the bilinearly shrunk region, and over channels; a
        zero that keeps the graph if no process has a cell of the region.
    """
    share = functional.interpolate(
        region.unsqueeze(1), embedding.shape[2:], mode='bilinear', align_corners=False
    )
    number = share.sum()
    all_reduce(number, 'mean')
    squares = (embedding - teacher_embedding.to(embedding)).square() * share
    return squares.sum() / (number.clamp(min=1e-6) * embedding.shape[1])


def contrast(
    embedding: Tensor,
    labels: Tensor,
    classes: range,
    prototypes: Tensor,
    absent_count: bool = False,
) -> Tensor:
    """Return the mean over new classes of 1 / (distance of a centre to the nearest prototype).

    Args:
        embedding: ``(N, D, h, w)``.
        labels: ``(N, H, W)`` model ids.
        classes: Model ids of the new classes.
        prototypes: ``(F, D)`` of old classes, of unit length.
        absent_count: Whether a class that the batch lacks costs the constant 1, the distance of a
            centre at the origin, as in the official code. Else it costs nothing.

    Returns:
        A scalar.
    """
    size = embedding.shape[2:]
    # A class at a time: maps of all new classes at the labels' size could be large.
    shares = torch.cat(
        [
            functional.interpolate(
                (labels == class_id).unsqueeze(1).to(embedding),
                size,
                mode='bilinear',
                align_corners=False,
            )
            for class_id in classes
        ],
        dim=1,
    )
    sums = torch.einsum('nkhw,ndhw->kd', shares, functional.normalize(embedding, dim=1))
    present = shares.sum(dim=(0, 2, 3))
    all_reduce(present)
    centres = functional.normalize(_over_processes(sums), dim=1)
    squared = (centres.unsqueeze(1) - prototypes.to(centres)).square().sum(dim=2)
    costs = 1 / squared.amin(dim=1).clamp(min=1e-12).sqrt()
    return costs.mean() if absent_count else (costs * (present > 0)).mean()


def _over_processes(sums: Tensor) -> Tensor:
    """Return the sum over processes; the mean of their gradients is that of a single process."""
    world = get_world_size()
    if world == 1:
        return sums
    total = sums.detach().clone()
    all_reduce(total)
    scaled = world * sums
    return scaled - scaled.detach() + total
