"""DKD's pool: the groups of tasks that a distillation compares.

A task is the set of classes that one step introduced. A group is a set of tasks and
stands for the union of their classes. Only the classes that a teacher knows belong
to tasks.

Source: Shi et al., "Densely Distilling Cumulative Knowledge for Continual
Learning", arXiv 2405.09820, speaks of a task pool whose tasks partition the
logits into dense groups, and of distilling all of them (FDKD) or one at random
in every iteration (RDKD). The abstract does not say which groups the pool holds, and
there is no code: the four pools are our choice.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, pairwise

import numpy as np

from mmseg_cil.errors import InputError

#: Names of the pools whose groups are, in this order: single tasks, all tasks up to some task,
#: all tasks from one task to another, and all non-empty sets of tasks.
POOLS = ('singletons', 'cumulative', 'contiguous', 'all_subsets')

#: Indices of tasks, ascending.
Group = tuple[int, ...]


def check_pool(pool: str) -> None:
    """Refuse a name that no pool has.

    Raises:
        InputError: ``pool`` is none of :data:`POOLS`.
    """
    if pool not in POOLS:
        raise InputError(f'unknown pool {pool!r} of task groups: use one of {list(POOLS)}')


def task_bounds(class_steps: Sequence[int]) -> tuple[int, ...]:
    """Return the indices at which the tasks of a network's outputs begin and end.

    Args:
        class_steps: For every output, the step that introduced its class.

    Returns:
        Indices, ascending from 0 to the number of outputs. Steps without classes of
        their own are no tasks.

    Raises:
        ValueError: The outputs are not in the order of their steps.
    """
    if list(class_steps) != sorted(class_steps):
        raise ValueError(f'outputs must be in the order of their steps, got {list(class_steps)}')
    inner = (
        place
        for place, (before, other) in enumerate(pairwise(class_steps), start=1)
        if before != other
    )
    return (0, *inner, len(class_steps))


def task_segments(
    class_steps: Sequence[int], has_background: bool, dropped: bool = False
) -> list[list[tuple[int, int]]]:
    """Return the classes of every task as runs; the background is a run of its own.

    Args:
        class_steps: For every output, the step that introduced its class.
        has_background: Output 0 is the background.
        dropped: The background is in no task.

    Returns:
        For every task with any class, the first output of each run and the one
        after the run's last output.

    Raises:
        ValueError: As :func:`task_bounds`.
    """
    tasks = []
    for start, stop in pairwise(task_bounds(class_steps)):
        runs = [(start, stop)]
        if has_background and start == 0:
            # The background, unless it is dropped; then the other classes of the task, if any.
            runs = [(0, 1)] * (not dropped) + [(1, stop)] * (stop > 1)
        tasks.append(runs)
    return [runs for runs in tasks if runs]


def pool_size(pool: str, num_tasks: int) -> int:
    """Return the number of groups of a pool, groups of a single class included.

    With t tasks the pools of :data:`POOLS` have t, t, t (t + 1) / 2 and 2^t - 1 groups.

    Raises:
        InputError: As :func:`check_pool`.
    """
    check_pool(pool)
    if pool == 'all_subsets':
        return 2**num_tasks - 1
    return num_tasks * (num_tasks + 1) // 2 if pool == 'contiguous' else num_tasks


def pool_group(pool: str, num_tasks: int, place: int) -> Group:
    """Return one group of a pool, without making the others.

    Args:
        pool: One of :data:`POOLS`.
        num_tasks: Number of tasks, t.
        place: Number of the group, from 0 to ``pool_size(pool, num_tasks) - 1``. The binary
            digits of ``place + 1`` give the tasks of a group of 'all_subsets'.
    """
    if pool == 'singletons':
        return (place,)
    if pool == 'cumulative':
        return tuple(range(place + 1))
    if pool == 'all_subsets':
        return tuple(task for task in range(num_tasks) if (place + 1) >> task & 1)
    # 'contiguous': the groups that begin with task 0, then those that begin with task 1, and so on.
    first = 0
    while place >= num_tasks - first:
        place -= num_tasks - first
        first += 1
    return tuple(range(first, first + place + 1))


def group_classes(group: Group, sizes: Sequence[int]) -> int:
    """Return the number of classes of a group, from the number of classes of every task."""
    return sum(sizes[task] for task in group)


def groups_of_pool(
    pool: str, sizes: Sequence[int], most: int = 128, seed: int = 0
) -> tuple[Group, ...]:
    """Return the groups of a pool with at least two classes, or a fixed choice of them.

    A softmax over a single class is always one, so groups of fewer than two
    classes teach nothing. Such groups are left out, also of the mean over groups.

    If the pool has more than ``most`` groups, the result is ``most`` different groups,
    each as likely as another, drawn by the seed and the number of tasks. The choice is
    therefore the same in every iteration, on all ranks and after resuming.

    Args:
        pool: One of :data:`POOLS`.
        sizes: Number of classes of every task, at least one.
        most: Greatest number of groups to return.
        seed: Seed of the choice.

    Returns:
        Groups in the order of the pool; an empty tuple if no group has two classes.

    Raises:
        InputError: As :func:`check_pool`.
    """
    total = pool_size(pool, len(sizes))
    generator = _generator(seed, len(sizes))
    places: Iterable[int] = range(total) if total <= most else _without_repeats(generator, total)
    groups = ((place, pool_group(pool, len(sizes), place)) for place in places)
    # The first groups of at least two classes, by their places in the pool.
    kept = dict(islice((group for group in groups if group_classes(group[1], sizes) >= 2), most))
    return tuple(kept[place] for place in sorted(kept))


def _without_repeats(generator: random.Random, total: int) -> Iterator[int]:
    """Yield the numbers below ``total`` in random order; each is drawn when it is asked for."""
    drawn: set[int] = set()
    while len(drawn) < total:
        place = generator.randrange(total)
        if place not in drawn:
            drawn.add(place)
            yield place


def random_group(pool: str, sizes: Sequence[int], seed: int) -> Group | None:
    """Draw a group of a pool uniformly among those with at least two classes.

    The groups of the pool are not listed, so the size of the pool costs nothing: places
    are drawn until the group at a place has at least two classes.

    Args:
        pool: One of :data:`POOLS`.
        sizes: Number of classes of every task, at least one.
        seed: Equal seeds give equal groups, on every machine.

    Returns:
        The group; None if no group has two classes.

    Raises:
        InputError: As :func:`check_pool`.
    """
    total = pool_size(pool, len(sizes))
    if not _teaches(pool, sizes):
        return None
    generator = _generator(seed, len(sizes))
    while True:
        group = pool_group(pool, len(sizes), generator.randrange(total))
        if group_classes(group, sizes) >= 2:
            return group


def _teaches(pool: str, sizes: Sequence[int]) -> bool:
    """Return whether a pool has a group of at least two classes.

    All pools except 'singletons' hold the group of all tasks.
    """
    return (max(sizes, default=0) if pool == 'singletons' else sum(sizes)) >= 2


def _generator(seed: int, num_tasks: int) -> random.Random:
    """Return Python's own random generator, whose integers have no upper limit, as 2^t needs."""
    state = np.random.SeedSequence((seed, num_tasks)).generate_state(2, np.uint64)
    return random.Random(int(state[0]) << 64 | int(state[1]))
