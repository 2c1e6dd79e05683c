"""Dense distillation of cumulative knowledge (DKD): groups of the old tasks' logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mmseg_cil.errors import InputError
from mmseg_cil.losses.distillation_loss import DistillationLoss
from mmseg_cil.losses.pixel_logits import PixelLogits
from mmseg_cil.losses.precision import at_least_float32
from mmseg_cil.methods.dkd.group_divergence import mean_group_divergence, soft_difference
from mmseg_cil.methods.dkd.task_pool import (
    Group,
    check_pool,
    groups_of_pool,
    random_group,
    task_bounds,
    task_segments,
)
from mmseg_cil.methods.dkd.weights import Weighting, find_weighting
from mmseg_cil.registry import MODELS
from mmseg_cil.utils.step_context import StepContext
from mmseg_cil.utils.values import check_choice, check_number

#: What becomes of the background: it stays in the first task, or is in no group.
BACKGROUNDS = ('merged', 'dropped')
#: Every group of the pool in every iteration, or one.
GROUPS = ('all', 'random')


class Chosen(NamedTuple):
    """Groups of classes as :func:`shared_dense_knowledge_distillation` takes them.

    Attributes:
        segments: The runs of classes that any group has.
        members: ``(G, S)`` bool: which of them a group has.
    """

    segments: tuple[tuple[int, int], ...]
    members: Tensor


def chosen_groups(
    groups: Sequence[Group], tasks: Sequence[Sequence[tuple[int, int]]], device: torch.device
) -> Chosen | None:
    """From groups of tasks to groups of classes; None where there is no group.

    Args:
        groups: Indices of tasks.
        tasks: Runs of classes of every task.
        device: Device of the logits.
    """
    used = sorted({task for group in groups for task in group})
    owners = [(task, run) for task in used for run in tasks[task]]
    if not owners:
        return None
    segments = tuple(run for _, run in owners)
    if len(groups) == 1:
        # It has all of them; filled on the device, for copying there would make it wait.
        return Chosen(segments, torch.ones(1, len(owners), dtype=torch.bool, device=device))
    table = [[task in group for task, _ in owners] for group in groups]
    return Chosen(segments, torch.tensor(table, device=device))


def shared_dense_knowledge_distillation(
    pixels: PixelLogits,
    teacher_logits: Tensor,
    segments: Sequence[tuple[int, int]],
    members: Tensor,
    temperature: float = 1.0,
    has_background: bool = True,
) -> Tensor:
    """:func:`dense_knowledge_distillation` from maps that all groups, and other losses, share.

    By the chain rule of :mod:`~mmseg_cil.methods.dkd.group_divergence` three numbers
    a pixel and segment are enough for any number of groups.

    Args:
        pixels: The student's logits over C classes, with cuts at O and wherever
            a segment begins or ends.
        teacher_logits: ``(N, O, h, w)``, of the height and width of the
            classifier's output.
        segments: First class, and the one after the last, of disjoint runs of
            old classes. The background, where there is one, is a segment alone.
        members: ``(G, S)`` bool on the logits' device: which segments a group
            has, at least one each.
        temperature: T.
        has_background: Output 0 is the background.

    Returns:
        ``(N, H, W)`` loss per pixel, at least float32.

    Raises:
        InputError: Student and teacher differ in height or width.
    """
    if pixels.logits.shape[2:] != teacher_logits.shape[2:]:
        raise InputError(
            f'logits of student {tuple(pixels.logits.shape)} and teacher '
            f'{tuple(teacher_logits.shape)} differ in height or width: compare outputs of the same '
            'network for the same images'
        )
    num_old = teacher_logits.shape[1]
    teacher = at_least_float32(teacher_logits) / temperature
    pixels = pixels.tempered(temperature)
    merges = has_background and pixels.num_classes > num_old
    maps = [_segment_maps(pixels, teacher, segment, merges) for segment in segments]
    new, old, difference = (torch.stack(parts, dim=1) for parts in zip(*maps, strict=True))
    return temperature**2 * mean_group_divergence(new, old, difference, members)


def _segment_maps(
    pixels: PixelLogits, teacher: Tensor, segment: tuple[int, int], merges: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """What :func:`mean_group_divergence` needs of one segment, each ``(N, H, W)``."""
    start, stop = segment
    new = pixels.logsumexp(start, stop)
    if stop - start > 1:
        old, difference = soft_difference(
            pixels.precise[:, start:stop], teacher[:, start:stop], pixels.grid
        )
        return new, old, difference
    if merges and start == 0:
        new = torch.logaddexp(new, pixels.logsumexp(teacher.shape[1]))
    old = pixels.grid.enlarge(teacher[:, start:stop]).squeeze(1).detach()
    return new, old, old - new


@MODELS.register_module()
class DenseKnowledgeDistillationLoss(DistillationLoss):
    r"""DKD for a ``LogitDistiller``: in place of any distillation of logits.

    .. math:: \lambda \cdot w \cdot \mathrm{mean}_g \, KL_g

    with :func:`dense_knowledge_distillation` over a pool of groups of tasks
    (:mod:`~mmseg_cil.methods.dkd.task_pool`), a task being the classes of one step.
    The mean over pixels leaves out those whose label is ignored, but for generated
    images, which have no labels; without labels (a distiller at low resolution)
    it is over all.

    With ``groups='all'`` (FDKD) every group of the pool is distilled in every
    iteration. With 'random' (RDKD) one is, uniformly drawn from the iteration's
    seed, which is the same on all ranks and after resuming; its cost does not
    depend on the size of the pool. Over the iterations the one has the mean
    that the other computes.

    In a domain-incremental walk all classes are of one task, and what remains
    is ordinary distillation at a temperature. So it is before a segmentor has
    told this loss its step, and for a distiller that compares the classes of
    one snapshot alone (M2KD's, with ``classes='new'``). A step whose pool has no
    group of two classes (VOC 1-1 at first) has nothing to distil, and the loss is 0.

    Args:
        loss_weight: :math:`\lambda`. Defaults to 1.0.
        pool: One of :data:`~mmseg_cil.methods.dkd.task_pool.POOLS`. Defaults to
            'all_subsets'.
        groups: 'all' or 'random'. Defaults to 'all'.
        temperature: T, of teacher and student. Defaults to 1.0, with which the
            log-sum-exps are those that the heads' losses need anyway.
        background: 'merged': it is in the first task, and the student's stands
            for new classes too. 'dropped': it is in no group, and neither the
            background nor a new class is distilled. Defaults to 'merged'.
        weighting: w, see :func:`~mmseg_cil.methods.dkd.weights.find_weighting`.
            Defaults to 'counts_and_similarity'.
        max_groups: Where the pool is larger, 'all' distils a fixed choice of as
            many groups (:func:`~mmseg_cil.methods.dkd.task_pool.groups_of_pool`); all
            subsets of 7 tasks are 127. 'random' draws from the whole pool,
            however large. Defaults to 128.
        seed: Seed of that choice. Defaults to 0.
        loss_name: Name in the log. Defaults to 'loss_dkd'.

    Raises:
        InputError: A value is not among those named.
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        pool: str = 'all_subsets',
        groups: str = 'all',
        temperature: float = 1.0,
        background: str = 'merged',
        weighting: str | Weighting = 'counts_and_similarity',
        max_groups: int = 128,
        seed: int = 0,
        loss_name: str = 'loss_dkd',
    ) -> None:
        super().__init__(loss_weight, loss_name)
        check_pool(pool)
        check_choice(self, 'groups', groups, GROUPS)
        check_choice(self, 'background', background, BACKGROUNDS)
        check_number(self, 'temperature', temperature, above=True)
        check_number(self, 'max_groups', max_groups, least=1, whole=True)
        check_number(self, 'seed', seed, whole=True)
        self.pool = pool
        self.groups = groups
        self.temperature = temperature
        self.background = background
        self.weighting = find_weighting(weighting)
        self.max_groups = max_groups
        self.seed = seed
        self._step: StepContext | None = None
        self._rows: Tensor | None = None
        self._iteration_seed = 0
        # The groups of all iterations, for the teacher's number of classes and a device.
        self._kept: tuple[object, Chosen | None] | None = None

    def set_step(self, step: StepContext) -> None:
        """Told by the segmentor which step introduced which class."""
        self._step, self._kept = step, None

    def set_iteration_seed(self, seed: int) -> None:
        """Told before every iteration, alike on all ranks, what to draw its group from."""
        self._iteration_seed = seed

    def receive_classifier(self, rows: Tensor | None) -> None:
        """Told by the distiller the rows ``(C, D)`` of the student's classifier, or None."""
        self._rows = rows

    def cuts(self) -> tuple[int, ...]:
        """Tasks are groups of classes whose log-sum-exps are read."""
        return () if self._step is None else task_bounds(self._step.class_steps)

    def chosen(self, num_old: int, num_classes: int, device: torch.device) -> Chosen | None:
        """What is distilled in this iteration.

        Args:
            num_old: Classes that the teacher knows.
            num_classes: Those of the student, all classes of the step. If they
                are others (a view of one snapshot's classes), they are one task.
            device: Where the logits are.

        Returns:
            The groups; None where there is nothing to distil.
        """
        key = num_old, num_classes, device
        if self._kept is not None and self._kept[0] == key:
            return self._kept[1]
        steps: tuple[int, ...] = (0,) * num_old
        if self._step is not None and self._step.num_seen == num_classes:
            steps = self._step.class_steps[:num_old]
        tasks = task_segments(steps, self._has_background, self.background == 'dropped')
        sizes = [sum(stop - start for start, stop in runs) for runs in tasks]
        if self.groups == 'random':
            drawn = random_group(self.pool, sizes, self._iteration_seed)
            return chosen_groups([drawn] if drawn else [], tasks, device)
        found = chosen_groups(
            groups_of_pool(self.pool, sizes, self.max_groups, self.seed), tasks, device
        )
        self._kept = key, found
        return found

    @property
    def _has_background(self) -> bool:
        return self._step is None or self._step.has_background

    def per_pixel(self, pixels: PixelLogits, teacher_logits: Tensor) -> Tensor:
        """See :meth:`DistillationLoss.per_pixel`."""
        chosen = self.chosen(teacher_logits.shape[1], pixels.num_classes, teacher_logits.device)
        if chosen is None:
            return teacher_logits.new_zeros(len(teacher_logits), *pixels.grid.size)
        return shared_dense_knowledge_distillation(
            pixels,
            teacher_logits,
            chosen.segments,
            chosen.members,
            self.temperature,
            self._has_background,
        )

    def of_pixels(
        self, pixels: PixelLogits, teacher_logits: Tensor, among: Tensor | None = None
    ) -> Tensor:
        """See :meth:`DistillationLoss.of_pixels`; ignored pixels of real images are left out."""
        if pixels.labels is not None:
            valid = pixels.distilled(~pixels.ignored)
            among = valid if among is None else among & valid
        weight = 1.0 if self._step is None else self.weighting(self._rows, self._step)
        return weight * super().of_pixels(pixels, teacher_logits, among)
