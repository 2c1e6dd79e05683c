"""M2KD's distillation loss for one snapshot, and the mean over several snapshots."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmseg_cil.errors import InputError
from mmseg_cil.losses.distillation_loss import DistillationLoss
from mmseg_cil.losses.pixel_logits import PixelLogits
from mmseg_cil.losses.pixel_statistics import predictions
from mmseg_cil.losses.precision import at_least_float32
from mmseg_cil.registry import MODELS
from mmseg_cil.utils.step_context import StepContext


def mean_over_snapshots(losses: Sequence[Tensor]) -> Tensor:
    r"""Return the mean of the losses of several snapshots, :math:`\frac{1}{K} \sum_k L_k`.

    With a mean, the weight of distillation does not grow from step to step. The mean is a
    design choice (arXiv 1904.01769 could not be consulted on it).

    Args:
        losses: One loss for each of K snapshots, of equal shapes: maps or scalars.

    Returns:
        The mean, of the shape of one loss.
    """
    return torch.stack(list(losses)).mean(dim=0)


def shared_matching_distillation(
    pixels: PixelLogits, teacher_logits: Tensor, temperature: float = 1.0, merge_later: bool = True
) -> Tensor:
    """Compute :func:`matching_distillation` from the log-sum-exps that losses share.

    Args:
        pixels: The student's logits over C classes, with cuts at 1 and O.
        teacher_logits: ``(N, O, h, w)``, of the height and width of the
            classifier's output.
        temperature: T. For values other than 1 the log-sum-exps are computed once more.
        merge_later: See :func:`matching_distillation`.

    Returns:
        ``(N, H, W)`` loss per pixel, at least float32.
    """
    pixels = pixels.tempered(temperature)
    teacher = at_least_float32(teacher_logits) / temperature
    known = teacher.shape[1]
    later = pixels.num_classes > known
    # All maps here are (N, H, W). With the snapshot's softmax q and the student's logits z:
    # agreement is the sum of q_c z_c over its classes c > 0, and of_background is q_0. Class 0 is
    # apart, because the student's group for it may hold several classes.
    agreement, of_background = pixels.agreement(teacher)
    _, entropy = predictions(teacher, pixels.grid)  # entropy of q, in nats
    background = pixels.logsumexp(0, 1)  # z_0
    # Log-sum-exp of the classes that are compared.
    normaliser = pixels.logsumexp(0, known)
    if merge_later and later:
        background = torch.logaddexp(background, pixels.logsumexp(known))
        normaliser = pixels.logsumexp()
    # The sum of q_c (log q_c - log p_c), with p the student's softmax over these classes.
    loss = normaliser - of_background * background - agreement - entropy
    return temperature**2 * loss


@MODELS.register_module()
class MatchingDistillationLoss(DistillationLoss):
    """``reference.matching_distillation`` over shared pixels, for an ``M2KDDistiller``.

    The mean is over all pixels, those with an ignored label included. The loss also works
    in a ``LogitDistiller``, with the last snapshot as the only one.

    Args:
        loss_weight: Factor of the loss. Defaults to 1.0.
        temperature: T. Defaults to 1.0.
        merge_later: See :func:`matching_distillation`. Defaults to True.
        loss_name: Name in the log. Defaults to 'loss_mmd'.

    Raises:
        InputError: ``temperature`` is not positive.
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        temperature: float = 1.0,
        merge_later: bool = True,
        loss_name: str = 'loss_mmd',
    ) -> None:
        super().__init__(loss_weight, loss_name)
        if not temperature > 0:
            raise InputError(
                f'MatchingDistillationLoss: temperature must be positive, got {temperature!r}'
            )
        self.temperature = float(temperature)
        self.merge_later = merge_later

    def set_step(self, step: StepContext) -> None:
        """Check that the classes of the step fit the loss.

        Raises:
            InputError: With ``merge_later``, classes are new, and there is no background
                that they were part of.
        """
        if self.merge_later and step.index > 0 and step.num_new and not step.has_background:
            raise InputError(
                'MatchingDistillationLoss takes later classes for former background, and the '
                'classes of this protocol have no background: set merge_later=False'
            )

    def per_pixel(self, pixels: PixelLogits, teacher_logits: Tensor) -> Tensor:
        """See :meth:`DistillationLoss.per_pixel`."""
        return shared_matching_distillation(
            pixels, teacher_logits, self.temperature, self.merge_later
        )
