"""Which groups of tasks a distillation compares: DKD's pool.

A task is what one step introduced: its classes. A group is a set of tasks and
stands for their classes together. Only the classes that a teacher knows belong
to tasks.

Source: Shi et al., "Densely Distilling Cumulative Knowledge for Continual
Learning", arXiv 2405.09820, speaks of a task pool whose tasks partition the
logits into dense groups, and of distilling all of them (FDKD) or one at random
in every iteration (RDKD). Which groups the pool holds is not in its abstract
and there is no code: the four pools are our choice.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, pairwise

import numpy as np

from mmseg_cil.errors import InputError

#: One task, all up to some task, all from one task to another, any set of tasks.
POOLS = ('singletons', 'cumulative', 'contiguous', 'all_subsets')

#: Indices of tasks, ascending.
Group = tuple[int, ...]


def check_pool(pool: str) -> None:
    """Refuses a name that no pool has.

    Raises:
        InputError: It is none of :data:`POOLS`.
    """
    if pool not in POOLS:
        raise InputError(f'unknown pool {pool!r} of task groups: use one of {list(POOLS)}')


def task_bounds(class_steps: Sequence[int]) -> tuple[int, ...]:
    """Where the tasks of a network's outputs begin and end.

    Args:
        class_steps: For every output, the step that introduced its class.

    Returns:
        Ascending, from 0 to the number of outputs. Steps without classes of
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
    """The classes of every task as runs: the background is a run alone.

    Args:
        class_steps: For every output, the step that introduced its class.
        has_background: Output 0 is the background.
        dropped: The background is in no task.

    Returns:
        For every task with any class, the first output of each run and the one
        after its last.

    Raises:
        ValueError: As :func:`task_bounds`.
    """
    tasks = []
    for start, stop in pairwise(task_bounds(class_steps)):
        runs = [(start, stop)]
        if has_background and start == 0:
            runs = [(0, 1)] * (not dropped) + [(1, stop)] * (stop > 1)
        tasks.append(runs)
    return [runs for runs in tasks if runs]


def pool_size(pool: str, num_tasks: int) -> int:
    """Groups of a pool, those of a single class counted: t, t, t (t + 1) / 2 or 2^t - 1.

    Raises:
        InputError: As :func:`check_pool`.
    """
    check_pool(pool)
    if pool == 'all_subsets':
        return 2**num_tasks - 1
    return num_tasks * (num_tasks + 1) // 2 if pool == 'contiguous' else num_tasks


def pool_group(pool: str, num_tasks: int, place: int) -> Group:
    """One group of a pool, without making the others.

    Args:
        pool: One of :data:`POOLS`.
        num_tasks: Tasks, t.
        place: Which, from 0 to ``pool_size(pool, num_tasks) - 1``. Groups of
            'all_subsets' are numbered by the binary digits of ``place + 1``.
    """
    if pool == 'singletons':
        return (place,)
    if pool == 'cumulative':
        return tuple(range(place + 1))
    if pool == 'all_subsets':
        return tuple(task for task in range(num_tasks) if (place + 1) >> task & 1)
    first = 0
    while place >= num_tasks - first:
        place -= num_tasks - first
        first += 1
    return tuple(range(first, first + place + 1))


def group_classes(group: Group, sizes: Sequence[int]) -> int:
    """Classes of a group, from the number of classes of every task."""
    return sum(sizes[task] for task in group)


def groups_of_pool(
    pool: str, sizes: Sequence[int], most: int = 128, seed: int = 0
) -> tuple[Group, ...]:
    """The groups of a pool that teach something, or a fixed choice of them.

    A softmax over a single class is always one, so groups of fewer than two
    classes are left out, and the mean over groups does not count them.

    Where the pool is larger than ``most`` the groups are that many of it,
    different, drawn once and for all from the seed and the number of tasks,
    each group being as likely as another: the same in every iteration, on all
    ranks and after resuming.

    Args:
        pool: One of :data:`POOLS`.
        sizes: Classes of every task, at least one.
        most: Groups to keep at most.
        seed: Seed of the choice.

    Returns:
        In the order of the pool; none where no group has two classes.

    Raises:
        InputError: As :func:`check_pool`.
    """
    total = pool_size(pool, len(sizes))
    generator = _generator(seed, len(sizes))
    places: Iterable[int] = range(total) if total <= most else _without_repeats(generator, total)
    groups = ((place, pool_group(pool, len(sizes), place)) for place in places)
    kept = dict(islice((group for group in groups if group_classes(group[1], sizes) >= 2), most))
    return tuple(kept[place] for place in sorted(kept))


def _without_repeats(generator: random.Random, total: int) -> Iterator[int]:
    """The numbers below ``total`` in random order, drawn as they are asked for."""
    drawn: set[int] = set()
    while len(drawn) < total:
        place = generator.randrange(total)
        if place not in drawn:
            drawn.add(place)
            yield place


def random_group(pool: str, sizes: Sequence[int], seed: int) -> Group | None:
    """A group of a pool, uniformly drawn among those with at least two classes.

    The pool is not made, so that its size costs nothing: places are drawn until
    one has a group of two classes.

    Args:
        pool: One of :data:`POOLS`.
        sizes: Classes of every task, at least one.
        seed: Equal seeds give equal groups, on every machine.

    Returns:
        The group; None where no group has two classes.

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
    """Whether a pool has a group of two classes: all but singletons hold that of all tasks."""
    return (max(sizes, default=0) if pool == 'singletons' else sum(sizes)) >= 2


def _generator(seed: int, num_tasks: int) -> random.Random:
    """Python's own generator: its integers have no upper limit, as 2^t needs."""
    state = np.random.SeedSequence((seed, num_tasks)).generate_state(2, np.uint64)
    return random.Random(int(state[0]) << 64 | int(state[1]))
