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

#: Treatments of the background: part of the first task, or in no group.
BACKGROUNDS = ('merged', 'dropped')
#: Groups distilled in an iteration: every group of the pool, or a random one.
GROUPS = ('all', 'random')


class Chosen(NamedTuple):
    """Groups of classes as :func:`shared_dense_knowledge_distillation` takes them.

    Attributes:
        segments: S runs of classes (first class, and the one after the last), each in at
            least one group.
        members: ``(G, S)`` bool: the segments of each group.
    """

    segments: tuple[tuple[int, int], ...]
    members: Tensor


def chosen_groups(
    groups: Sequence[Group], tasks: Sequence[Sequence[tuple[int, int]]], device: torch.device
) -> Chosen | None:
    """Convert groups of tasks to groups of classes; return None if there is no group.

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
        # The only group has all segments. The table is filled on the device, because a copy to
        # the device would make the device wait.
        return Chosen(segments, torch.ones(1, len(owners), dtype=torch.bool, device=device))
    # (G, S): whether the group has the task of the segment.
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
    """Compute :func:`dense_knowledge_distillation` from maps shared by all groups.

    Other losses share some of these maps too. By the chain rule of
    :mod:`~mmseg_cil.methods.dkd.group_divergence`, three numbers per pixel and segment are
    enough for any number of groups.

    Args:
        pixels: The student's logits over C classes, with cuts at O and wherever
            a segment begins or ends.
        teacher_logits: ``(N, O, h, w)``, of the height and width of the
            classifier's output.
        segments: First class, and the one after the last, of disjoint runs of
            old classes. The background, if there is one, is a segment of its own.
        members: ``(G, S)`` bool on the logits' device: the segments of each group, at
            least one per group.
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
    teacher = at_least_float32(teacher_logits) / temperature  # (N, O, h, w)
    pixels = pixels.tempered(temperature)
    merges = has_background and pixels.num_classes > num_old
    # For each of S segments three maps (N, H, W); then three stacks (N, S, H, W).
    maps = [_segment_maps(pixels, teacher, segment, merges) for segment in segments]
    new, old, difference = (torch.stack(parts, dim=1) for parts in zip(*maps, strict=True))
    return temperature**2 * mean_group_divergence(new, old, difference, members)


def _segment_maps(
    pixels: PixelLogits, teacher: Tensor, segment: tuple[int, int], merges: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the maps ``(N, H, W)`` of one segment that :func:`mean_group_divergence` needs.

    Returns:
        The student's log-sum-exp, the teacher's log-sum-exp, and the expected difference.
    """
    start, stop = segment
    new = pixels.logsumexp(start, stop)
    if stop - start > 1:
        old, difference = soft_difference(
            pixels.precise[:, start:stop], teacher[:, start:stop], pixels.grid
        )
        return new, old, difference
    # A segment of one class c: its log-sum-exp is the logit, and the expected difference t_c - z_c.
    if merges and start == 0:
        # The student's background stands for the new classes too.
        new = torch.logaddexp(new, pixels.logsumexp(teacher.shape[1]))
    old = pixels.grid.enlarge(teacher[:, start:stop]).squeeze(1).detach()
    return new, old, old - new


@MODELS.register_module()
class DenseKnowledgeDistillationLoss(DistillationLoss):
    r"""DKD for a ``LogitDistiller``, in place of any other distillation of logits.

    .. math:: \lambda \cdot w \cdot \mathrm{mean}_g \, KL_g

    with :func:`dense_knowledge_distillation` over a pool of groups of tasks
    (:mod:`~mmseg_cil.methods.dkd.task_pool`), a task being the classes of one step.
    The mean over pixels leaves out pixels with an ignored label, except those of generated
    images, which have no labels. Without labels (in a distiller at low resolution)
    the mean is over all pixels.

    With ``groups='all'`` (FDKD) every group of the pool is distilled in every
    iteration. With 'random' (RDKD) a single group is distilled, drawn uniformly by the
    iteration's seed, which is the same on all ranks and after resuming. The cost of
    'random' does not depend on the size of the pool, and the expectation of its loss over
    the iterations is the loss of 'all'.

    In a domain-incremental walk all classes belong to one task, so the loss is
    ordinary distillation at a temperature. The same holds before :meth:`set_step` is called,
    and in a distiller that compares the classes of one snapshot alone (M2KD's, with
    ``classes='new'``). If a step's pool has no group of two classes (VOC 1-1 at first),
    there is nothing to distil, and the loss is 0.

    Args:
        loss_weight: :math:`\lambda`. Defaults to 1.0.
        pool: One of :data:`~mmseg_cil.methods.dkd.task_pool.POOLS`. Defaults to
            'all_subsets'.
        groups: 'all' or 'random'. Defaults to 'all'.
        temperature: T, for teacher and student. Defaults to 1.0; with this value the
            log-sum-exps are the ones that the heads' losses need anyway.
        background: 'merged': the background is in the first task, and the student's
            background stands for new classes too. 'dropped': the background is in no
            group, and neither the background nor a new class is distilled. Defaults to
            'merged'.
        weighting: w, see :func:`~mmseg_cil.methods.dkd.weights.find_weighting`.
            Defaults to 'counts_and_similarity'.
        max_groups: If the pool has more groups than this, 'all' distils a fixed choice of
            ``max_groups`` groups (:func:`~mmseg_cil.methods.dkd.task_pool.groups_of_pool`);
            7 tasks have 127 non-empty subsets. 'random' draws from the whole pool,
            however large. Defaults to 128.
        seed: Seed of the fixed choice of groups. Defaults to 0.
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
        # With groups='all': the groups, the same in all iterations, and before them their key:
        # numbers of classes of teacher and student, and device.
        self._kept: tuple[object, Chosen | None] | None = None

    def set_step(self, step: StepContext) -> None:
        """Take the step, which says which step introduced which class."""
        self._step, self._kept = step, None

    def set_iteration_seed(self, seed: int) -> None:
        """Take the seed of the next iteration's group, the same on all ranks."""
        self._iteration_seed = seed

    def receive_classifier(self, rows: Tensor | None) -> None:
        """Take the rows ``(C, D)`` of the student's classifier, or None."""
        self._rows = rows

    def cuts(self) -> tuple[int, ...]:
        """Return the bounds of the tasks, over whose classes log-sum-exps are read."""
        return () if self._step is None else task_bounds(self._step.class_steps)

    def chosen(self, num_old: int, num_classes: int, device: torch.device) -> Chosen | None:
        """Return the groups that are distilled in this iteration.

        Args:
            num_old: Number of classes that the teacher knows.
            num_classes: Number of the student's classes. If it is not the number of all
                classes of the step (in a view of one snapshot's classes), all old classes
                are one task.
            device: Device of the logits.

        Returns:
            The groups; None if there is nothing to distil.
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
            valid = pixels.distilled(~pixels.ignored)  # (N, H, W) bool
            among = valid if among is None else among & valid
        weight = 1.0 if self._step is None else self.weighting(self._rows, self._step)
        return weight * super().of_pixels(pixels, teacher_logits, among)
