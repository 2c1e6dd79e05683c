"""Protocols in which each step adds classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from mmseg_cil.errors import InputError
from mmseg_cil.protocols import selection, tables
from mmseg_cil.protocols.base import Protocol, Step
from mmseg_cil.protocols.selection import Indices
from mmseg_cil.protocols.tables import Table


def class_steps(new: Sequence[Sequence[int]], classes: int) -> tuple[Step, ...]:
    """Return the steps, given the class ids that each of them adds.

    Args:
        new: Class ids by step, in the order of the network's outputs.
        classes: The number of all classes.
    """
    steps = []
    old: tuple[int, ...] = ()
    for index, added in enumerate(new):
        seen = {*old, *added}
        future = tuple(c for c in range(classes) if c not in seen)
        steps.append(Step(index, old, tuple(added), future))
        old += tuple(added)
    return tuple(steps)


@dataclass(frozen=True)
class ClassProtocol(Protocol):
    """A class-incremental protocol: each step adds outputs.

    With new classes N, old classes O and the classes U of an image, all without
    background and void (as in fcdl94/MiB, ``dataset/utils.py: filter_images``;
    sequential as in Continuum's scenarios):

    ============ ========================================= ====================
    setting      images of a step                          labels kept
    ============ ========================================= ====================
    overlapped   U contains one of N                       N
    disjoint     U contains one of N and none outside N, O N
    sequential   as disjoint                               N and O
    ============ ========================================= ====================

    Raises:
        InputError: A step is empty, a class comes twice, or the background
            does not come first.
    """

    def __post_init__(self) -> None:
        where = f'protocol {self.name!r}'
        names = self.taxonomy.names
        if not self.steps:
            raise InputError(f'{where} has no steps; list at least one.')
        for step in self.steps:
            if not step.new:
                raise InputError(
                    f'{where}: step {step.index} adds no class; give it one or leave it out.'
                )
            for c in step.new:
                if (*step.old, *step.new).count(c) > 1:
                    raise InputError(
                        f'{where}: the class {names[c]!r} is listed twice (again at step '
                        f'{step.index}); a class is learnt at one step.'
                    )
        if self.taxonomy.has_background and self.steps[0].new[0] != 0:
            raise InputError(f'{where}: the background {names[0]!r} must be the first class.')

    @property
    def kind(self) -> str:
        """``'class'``."""
        return 'class'

    @property
    def old_labels_hidden(self) -> bool:
        """Return whether the training label 0 stands for old classes (see the base class)."""
        if self.setting == 'sequential':
            return False
        if self.taxonomy.has_background:
            return self.policy.background_train == 'keep'
        return self.policy.unlabelled == 'old'

    def trains(self, step_index: int) -> bool:
        """Return whether a step adds a foreground class (see the base class)."""
        return any(c in self.taxonomy.foreground for c in self.step(step_index).new)

    def train_table(self, step_index: int) -> Table:
        """Return the training label (model id or 255) by mask id, uint8 (256,)."""
        step = self.step(step_index)
        labelled = step.seen if self.setting == 'sequential' else step.new
        hidden = self.old_labels_hidden and bool(step.old)
        return tables.table_for_training(self.taxonomy, self.policy, step.seen, labelled, hidden)

    def train_images(
        self, step_index: int, presence: npt.NDArray[np.generic], names: Sequence[str]
    ) -> Indices:
        """Return the images a step trains on, in rising order (see the base class)."""
        matrix = selection.check_presence(presence, len(names))
        step = self.step(step_index)
        if self.setting == 'overlapped':
            return selection.images_with_any(self.taxonomy, matrix, step.new)
        return selection.images_with_only(self.taxonomy, matrix, step.new, step.seen)

    def test_images(
        self, step_index: int, presence: npt.NDArray[np.generic], names: Sequence[str]
    ) -> Indices:
        """Return the images a step is tested on, in rising order.

        A step is tested on the images with a foreground class seen so far, or on
        all images where the policy says so or where no foreground class has been seen.
        """
        matrix = selection.check_presence(presence, len(names))
        seen = set(self.step(step_index).seen) & set(self.taxonomy.foreground)
        if self.policy.test_images == 'all' or not seen:
            return np.arange(len(names), dtype=np.int64)
        return selection.images_with_any(self.taxonomy, matrix, seen)

    def class_steps(self, step_index: int) -> tuple[int, ...]:
        """Return, for each model id at a step, the step that introduced it."""
        self.step(step_index)
        return tuple(s.index for s in self.steps[: step_index + 1] for _ in s.new)

    def spellings(self) -> dict[str, str]:
        """Return ``X-Y`` with and without the background among the X (see the base class).

        An ``X-Y`` tells the sizes of the steps alone, not the order of the classes.
        """
        foreground = set(self.taxonomy.foreground)
        sizes = [len(foreground & set(step.new)) for step in self.steps]
        if len(sizes) < 2 or any(step.future for step in self.steps[-1:]):
            return {}
        later = sizes[1:]
        regular = all(a == b for a, b in pairwise(later[:-1])) and later[-1] <= later[0]
        if not regular:
            return {}
        dataset = self.taxonomy.dataset
        spelled = {}
        if self.taxonomy.has_background:
            spelled['counted'] = f'{dataset}_{sizes[0] + 1}-{later[0]}'
        if sizes[0]:
            spelled['foreground'] = f'{dataset}_{sizes[0]}-{later[0]}'
        return spelled
