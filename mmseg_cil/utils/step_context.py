"""The description of a step for its losses, distillers and network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class StepContext:
    """The classes of a step as the network's outputs see them.

    Attributes:
        index: Number of the step, counted from 0.
        class_steps: For every output of the network, in order, the step that
            introduced its class. In a domain-incremental walk all are 0.
        has_background: Whether output 0 is the background.
        old_labels_hidden: Whether the labels of this step call pixels of old classes
            background (class-incremental, settings overlapped and disjoint).
        by_domain: Whether the walk is domain-incremental.
        trained: The earlier steps that trained: all but those with nothing to learn.
        num_future: Number of classes that later steps of the protocol introduce.
    """

    index: int
    class_steps: tuple[int, ...]
    has_background: bool
    old_labels_hidden: bool
    by_domain: bool = False
    trained: tuple[int, ...] = ()
    num_future: int = 0

    @classmethod
    def from_config(cls, config: dict) -> StepContext:
        """Read the plain form that a step's config holds."""
        return cls(
            index=int(config['index']),
            class_steps=tuple(int(step) for step in config['class_steps']),
            has_background=bool(config['has_background']),
            old_labels_hidden=bool(config['old_labels_hidden']),
            by_domain=bool(config.get('by_domain', False)),
            trained=tuple(config.get('trained', range(int(config['index'])))),
            num_future=int(config.get('num_future', 0)),
        )

    @classmethod
    def of_class_counts(cls, counts: Sequence[int], has_background: bool = True) -> StepContext:
        """Return the last step of a class-incremental walk, given the new classes of each step.

        Example:
            >>> # The background and two classes, then two more.
            >>> step = StepContext.of_class_counts([3, 2])
            >>> step.index, step.num_old, step.num_new, step.num_hidden
            (1, 3, 2, 3)
        """
        class_steps = tuple(step for step, count in enumerate(counts) for _ in range(count))
        last = len(counts) - 1
        return cls(last, class_steps, has_background, has_background, trained=tuple(range(last)))

    @property
    def num_seen(self) -> int:
        """Return the number of outputs: old and new classes, background included."""
        return len(self.class_steps)

    @property
    def num_old(self) -> int:
        """Return the number of classes of earlier steps, background included; 0 at step 0."""
        return sum(step < self.index for step in self.class_steps)

    @property
    def num_known(self) -> int:
        """Return the number of classes that the last trained step's network knows; 0 without one.

        Classes of a step that did not train, before this one, are not among them: their outputs
        learn at this step that they are nowhere.

        Example:
            >>> StepContext.of_class_counts([3, 2]).num_known
            3
        """
        if not self.trained:
            return 0
        return sum(new <= self.trained[-1] for new in self.class_steps)

    @property
    def num_new(self) -> int:
        """Return the number of classes that this step introduces."""
        return self.num_seen - self.num_old

    def classes_of(self, step: int) -> range:
        """Return the classes that the snapshot of an earlier step is the first to know.

        These are the classes that are new at that step, or at preceding steps that did
        not train. The background belongs to the first snapshot. In a domain-incremental
        walk every snapshot knows all classes, and all classes are returned.

        Args:
            step: One of ``trained``.

        Example:
            >>> StepContext.of_class_counts([3, 2, 1]).classes_of(1)
            range(3, 5)
        """
        before = [earlier for earlier in self.trained if earlier < step]
        known = [sum(new <= last for new in self.class_steps) for last in (*before[-1:], step)]
        return range(known[0] if before and not self.by_domain else 0, known[-1])

    @property
    def num_hidden(self) -> int:
        """Return the number of old classes, with background, that the labels call background.

        The number is 0 where the labels hide no old class.
        """
        return self.num_old if self.old_labels_hidden else 0
