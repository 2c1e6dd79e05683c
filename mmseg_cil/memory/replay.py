"""The exemplars that a step replays, and their labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmseg_cil.errors import InputError
from mmseg_cil.memory.memory import ExemplarMemory
from mmseg_cil.protocols import Protocol

Rows = npt.NDArray[np.int64]


@dataclass
class Replay:
    """The exemplars of a step.

    Attributes:
        rows: Rows of the exemplars among all images of the dataset.
        tables: uint8 (256,): the label of every mask id, for each exemplar.
        hidden: For each exemplar, the model ids that its label 0 may stand for
            besides the background. The step's own images have another rule
            (``StepContext.num_hidden``).
    """

    rows: Rows = field(default_factory=lambda: np.zeros(0, np.int64))
    tables: list[npt.NDArray[np.uint8]] = field(default_factory=list)
    hidden: list[tuple[int, ...]] = field(default_factory=list)

    def pick(self, indices: Rows) -> Replay:
        """Return the exemplars of these indices alone."""
        return Replay(
            self.rows[indices],
            [self.tables[index] for index in indices],
            [self.hidden[index] for index in indices],
        )

    def repeated(self, times: npt.NDArray[np.int64]) -> Replay:
        """Return these exemplars, each as often as it counts."""
        return self.pick(np.repeat(np.arange(len(times)), times))


def read_replay(
    config: Mapping[str, Any], protocol: Protocol, step: int, names: Sequence[str], own: Rows
) -> Replay:
    """Return the exemplars that a list of names stands for at a step.

    Args:
        config: ``dict(file=path of exemplars.json, labels=...)``, with ``labels`` of
            :class:`~mmseg_cil.memory.memory.MemorySettings`.
        protocol: Protocol of the walk.
        step: The step that replays.
        names: Names of all images of the dataset.
        own: Rows of the step's own images.

    Returns:
        The exemplars in the order of the list.

    Raises:
        InputError: The list is damaged or belongs to another protocol, or an
            image in the list is not in the dataset.
    """
    path = Path(config['file'])
    memory = ExemplarMemory.load(path)
    if not memory.is_of(protocol):
        raise InputError(
            f'the exemplars in {path} were chosen in a walk of another protocol '
            f'than {protocol.name}: give a --work-dir of its own, or delete the file'
        )
    row_of = rows_by_name(names)
    gone = [name for name in memory.names if name not in row_of]
    if gone:
        raise InputError(
            f'{len(gone)} of the {len(memory.names)} exemplars in {path} are not among the '
            f'training images, such as {gone[0]!r}: restore them and their names in the list of '
            'images, or delete this file in the folders of all steps, and the walk chooses '
            'exemplars anew'
        )
    own_rows, seen = set(own.tolist()), protocol.steps[step].seen
    result = Replay(np.array([row_of[name] for name in memory.names], np.int64))
    for name, row in zip(memory.names, result.rows.tolist(), strict=True):
        shown = shown_classes(
            protocol, step, memory.stored[name], config['labels'], row in own_rows
        )
        result.tables.append(protocol.exemplar_table(step, shown))
        hidden = tuple(i for i, class_id in enumerate(seen) if i and class_id not in shown)
        result.hidden.append(hidden if protocol.taxonomy.has_background else ())
    return result


def shown_classes(
    protocol: Protocol, step: int, stored: int, labels: str, is_own: bool
) -> frozenset[int]:
    """Return the class ids whose labels an exemplar shows.

    Args:
        protocol: Protocol of the walk.
        step: The step that replays.
        stored: The step after which the image was chosen.
        labels: ``'at_replay'`` or ``'at_storage'``.
        is_own: Whether the image is one of the step's own too, with labels of new classes.
    """
    if labels == 'at_replay':
        return frozenset(protocol.steps[step].seen)
    new = protocol.steps[step].new if is_own else ()
    return frozenset((*protocol.steps[stored].seen, *new))


def rows_by_name(names: Sequence[str]) -> dict[str, int]:
    """Return the row of every name.

    Raises:
        InputError: A name occurs twice, so that it does not identify an image.
    """
    rows = {name: row for row, name in enumerate(names)}
    if len(rows) < len(names):
        twice = next(name for row, name in enumerate(names) if rows[name] != row)
        raise InputError(
            f'two images are called {twice!r} (in two of the pooled datasets), and a '
            'memory keeps images by name: rename one of them'
        )
    return rows
