"""What one snapshot teaches in the multi-model distillation of M2KD."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmseg_cil.errors import InputError
from mmseg_cil.losses.distillation_loss import DistillationLoss
from mmseg_cil.losses.pixel_logits import PixelLogits
from mmseg_cil.losses.pixel_statistics import predictions
from mmseg_cil.losses.precision import at_least_float32
from mmseg_cil.methods.m2kd.class_view import class_view
from mmseg_cil.registry import MODELS
from mmseg_cil.utils.step_context import StepContext


def matching_distillation(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float = 1.0,
    merge_later: bool = True,
) -> Tensor:
    r"""Divergence per pixel of the student's prediction from a snapshot's.

    .. math:: T^2 \sum_{c < O} q_c (\log q_c - \log p_c), \quad
              q = \mathrm{softmax}(t / T)

    p is the student's softmax at temperature T over groups of classes, one for
    each class of the snapshot. To the snapshot, everything it did not know was
    background: the group of its background is the student's background and all
    classes from O on (their log-sum-exp), any other group one class. Without
    ``merge_later`` every group is one class, and later classes are left out.

    With T = 1, ``merge_later`` and later classes it is O times the
    unbiased distillation loss, without ``merge_later`` O times that of LwF, each
    less the entropy of q, which has no gradient.

    Source: the matching term of Zhou et al., "M2KD: Multi-model and Multi-level
    Knowledge Distillation for Incremental Learning", arXiv 1904.01769, which is
    for classification; the form (softmax over the snapshot's classes, factor
    T^2) is a design choice, for no formula could be had, and so is what
    becomes of the background, which is that of Cermelli et al., CVPR 2020, for
    each snapshot.

    Args:
        student_logits: ``(N, C, H, W)``, C >= O, the snapshot's classes first;
            the background at 0 with ``merge_later``.
        teacher_logits: ``(N, O, H, W)``. Half precision, of either, is computed
            in float32.
        temperature: T, positive.
        merge_later: See above.

    Returns:
        ``(N, H, W)`` loss per pixel, at least float32; 0 where the predictions agree.
    """
    student = at_least_float32(student_logits) / temperature
    teacher = at_least_float32(teacher_logits) / temperature
    known = teacher.shape[1]
    groups = student[:, :known]
    if merge_later and student.shape[1] > known:
        background = torch.cat([student[:, :1], student[:, known:]], dim=1)
        groups = torch.cat([background.logsumexp(dim=1, keepdim=True), student[:, 1:known]], dim=1)
    targets, log_targets = teacher.softmax(dim=1), teacher.log_softmax(dim=1)
    loss = targets * (log_targets - groups.log_softmax(dim=1))
    return temperature**2 * loss.sum(dim=1)


def mean_over_snapshots(losses: Sequence[Tensor]) -> Tensor:
    r"""What several snapshots teach together, :math:`\frac{1}{K} \sum_k L_k`.

    That it is the mean, so that the weight of distillation does not grow from step to
    step, is a design choice (arXiv 1904.01769 could not be read for it).

    Args:
        losses: One for each of K snapshots, of equal shapes: maps or scalars.

    Returns:
        Of that shape.
    """
    return torch.stack(list(losses)).mean(dim=0)


def multi_model_distillation(
    student_logits: Tensor,
    teachers: Sequence[tuple[Tensor, int]],
    temperature: float = 1.0,
    merge_later: bool = True,
    has_background: bool = True,
) -> Tensor:
    r"""L_MMD of M2KD per pixel: :func:`mean_over_snapshots` of what each teaches.

    .. math:: \frac{1}{t - 1} \sum_{k < t} L_k

    L_k is :func:`matching_distillation` on the background and the classes that
    are new at step k (C_k). Earlier foreground classes are left out on
    both sides: snapshot k says how likely its own classes are relative to each
    other and to its background. The background itself, as far as it is no class
    of a later step, is thereby taught by every snapshot, and by the first with
    all its classes. Which classes a snapshot teaches is a design choice.

    This is the whole in one place, on enlarged logits; an ``M2KDDistiller`` computes the
    same from what losses share, and for any loss.

    Args:
        student_logits: ``(N, C, H, W)``.
        teachers: For each snapshot its logits ``(N, O_k, H, W)`` and its first
            class: O_(k-1), or 0 if it teaches all classes that it knows.
        temperature: T.
        merge_later: See :func:`matching_distillation`.
        has_background: Class 0 is the background.

    Returns:
        ``(N, H, W)`` loss per pixel.
    """
    losses = [
        matching_distillation(
            class_view(student_logits, start, has_background),
            class_view(logits, start, has_background),
            temperature,
            merge_later,
        )
        for logits, start in teachers
    ]
    return mean_over_snapshots(losses)


def shared_matching_distillation(
    pixels: PixelLogits, teacher_logits: Tensor, temperature: float = 1.0, merge_later: bool = True
) -> Tensor:
    """:func:`matching_distillation` from the log-sum-exps that losses share.

    Args:
        pixels: The student's logits over C classes, with cuts at 1 and O.
        teacher_logits: ``(N, O, h, w)``, of the height and width of the
            classifier's output.
        temperature: T. Another than 1 costs the log-sum-exps once more.
        merge_later: See :func:`matching_distillation`.

    Returns:
        ``(N, H, W)`` loss per pixel, at least float32.
    """
    pixels = pixels.tempered(temperature)
    teacher = at_least_float32(teacher_logits) / temperature
    known = teacher.shape[1]
    later = pixels.num_classes > known
    # Of p and q alike class 0 is left out of the product: its group may be several classes.
    agreement, of_background = pixels.agreement(teacher)
    _, entropy = predictions(teacher, pixels.grid)
    background = pixels.logsumexp(0, 1)
    normaliser = pixels.logsumexp(0, known)
    if merge_later and later:
        background = torch.logaddexp(background, pixels.logsumexp(known))
        normaliser = pixels.logsumexp()
    loss = normaliser - of_background * background - agreement - entropy
    return temperature**2 * loss


@MODELS.register_module()
class MatchingDistillationLoss(DistillationLoss):
    """Registered form of :func:`matching_distillation`, for an ``M2KDDistiller``.

    The mean is over all pixels, those with an ignored label too. It works in a
    ``LogitDistiller`` too, with the last snapshot as the only one.

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
        """Told by the segmentor which classes there are.

        Raises:
            InputError: Classes are new and there is no background they were part of.
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
