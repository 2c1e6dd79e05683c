"""Re-anchoring: moves of old rows by the classifier's initialisation count as no forgetting.

An initialisation such as MiB's lowers the background's bias before a step trains, so that the
new classes' rows can share the background's probability. A penalty on changed outputs takes this
move for forgetting. A re-anchored penalty measures changes from the old rows as the
initialisation leaves them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from mmseg_cil.contracts import ClassifierInit
from mmseg_cil.engine.export.checkpoint import CHECKPOINT_NAME
from mmseg_cil.engine.paths import step_folder
from mmseg_cil.methods.vdfd.compression import OutputGradients
from mmseg_cil.methods.vdfd.filters import first_rows, num_rows, row_sums
from mmseg_cil.models.classifier import find_classifier_init
from mmseg_cil.models.growth import OldRows
from mmseg_cil.models.segmentors import IncrementalEncoderDecoder
from mmseg_cil.models.teacher import load_plain_state

#: Changes of the sum of each row's weights, by the name of the tensor. Tensors that did not move
#: have no entry.
RowMoves = Mapping[str, Tensor]


@dataclass(frozen=True)
class InitialMoves:
    """Moves of the rows of old classes by initialisations.

    Attributes:
        begun: The weights of the last step, with the rows of old classes as they are when the
            current step begins.
        since: For each kept step, earliest first, the moves at the beginnings of the steps
            after the kept step and before the current step: sums of rows, float64.
    """

    begun: Mapping[str, Tensor]
    since: Sequence[RowMoves]


def begun_rows(
    state: Mapping[str, Tensor], layers: Iterable[str], num_new: int, grow: ClassifierInit
) -> dict[str, Tensor]:
    """Return the rows of old classes as an initialisation leaves them.

    The states of random generators do not change, see :class:`~mmseg_cil.models.growth.OldRows`.

    Args:
        state: Weights before the step.
        layers: Names of the layers whose rows are the classes.
        num_new: Number of classes that are new at the step.
        grow: The initialisation.

    Returns:
        Weights and biases with the rows of old classes, by name.

    Raises:
        InputError: Old rows depend on the new rows or on chance, so they cannot be reproduced.
    """
    found: dict[str, Tensor] = {}
    for layer in sorted(layers):
        weight = state[f'{layer}.weight']
        bias = state.get(f'{layer}.bias', weight.new_zeros(len(weight)))
        fresh = weight.new_zeros(num_new, *weight.shape[1:])
        with torch.no_grad():
            old = OldRows(grow.of_layer(layer))
            rows = old(weight, bias, fresh, fresh.new_zeros(num_new))
        for name, all_rows in zip(('weight', 'bias'), rows, strict=True):
            if f'{layer}.{name}' in state:
                found[f'{layer}.{name}'] = all_rows[: len(weight)]
    return found


def differences(
    after: Mapping[str, Tensor], before: Mapping[str, Tensor], names: Iterable[str], average: bool
) -> RowMoves:
    """Return the differences of sums of rows, for tensors in which any sum differs.

    Args:
        after: Tensors by name.
        before: Tensors of the same names, of the same shapes or with fewer rows. Rows that are
            only in ``after`` are left out.
        names: Names of the tensors to compare.
        average: Rows are filters; otherwise rows are single weights.

    Returns:
        Differences, float64, by name.
    """
    moves = {}
    for name in names:
        rows = num_rows(before[name], average)
        later, earlier = (
            row_sums([first_rows(state[name].double(), rows, average)], average)
            for state in (after, before)
        )
        if not torch.equal(later, earlier):
            moves[name] = later - earlier
    return moves


def added(first: RowMoves, second: RowMoves) -> dict[str, Tensor]:
    """Return the sum of two moves; a tensor's sum has as many rows as the longer move."""
    total = dict(first)
    for name, value in second.items():
        former = total.get(name, value.new_zeros(0))
        rows = max(len(former), len(value))
        total[name] = sum(  # type: ignore[assignment]
            functional.pad(part, (0, rows - len(part))) for part in (former, value)
        )
    return total


class Beginnings:
    """Weights at the beginnings of a walk's steps, from checkpoints and the initialisation.

    Args:
        model: The segmentor at a step of the walk; its initialisation is assumed for all steps.
        work_dir: Work directory of the walk.
        average: Rows are filters; otherwise rows are single weights.
    """

    def __init__(
        self, model: IncrementalEncoderDecoder, work_dir: Path, average: bool = True
    ) -> None:
        self.model = model
        self.work_dir = work_dir
        self.average = average

    def initial_moves(
        self, kept: Mapping[int, OutputGradients], previous: Mapping[str, Tensor]
    ) -> InitialMoves:
        """Return the moves that the model's step needs.

        The file of a step holds the moves at the beginning of this step. If a file of an earlier
        version lacks them, they are computed from the checkpoints that its step began with.

        Args:
            kept: Gradients that every earlier trained step kept, by step, earliest first.
            previous: The weights of the last step.

        Raises:
            InputError: See :meth:`moves_of`.
        """
        trained, index = list(kept), self.model.step.index
        moved = self._between(index, trained[-1], previous)
        since: list[RowMoves] = []
        for place, step in reversed(list(enumerate(trained))):
            if kept[step].nodes:
                since.insert(0, moved)
            told = kept[step].moved
            last = trained[place - 1] if place else -1
            moved = added(moved, self.moves_of(step, last) if told is None else told)
        return InitialMoves(self._begun(index, previous), since)

    def moves_of(self, step: int, last_trained: int) -> RowMoves:
        """Return the moves between the end of the last step that trained and a step's beginning.

        Args:
            step: A step of the walk, the model's or an earlier one.
            last_trained: The last step before ``step`` that trained, -1 if no step did.

        Raises:
            InputError: A checkpoint is missing, or :func:`begun_rows` raises it.
        """
        if step == 0:
            return {}
        before = self._checkpoint(step - 1)
        own = differences(self._begun(step, before), before, self._names(before), self.average)
        return added(own, self._between(step, last_trained, before))

    def _between(self, step: int, last_trained: int, before: Mapping[str, Tensor]) -> RowMoves:
        """Return the moves in the steps between ``last_trained`` and ``step``.

        These steps did not train, so only initialisations can have moved rows.
        """
        if last_trained in (-1, step - 1):
            return {}
        learnt = self._checkpoint(last_trained)
        return differences(before, learnt, self._names(learnt), self.average)

    def _begun(self, step: int, before: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights before a step, with the rows of old classes as the step begins."""
        context, num_old = self.model.step, self._classes(step - 1)
        if self._classes(step) == num_old:
            return dict(before)
        grow = find_classifier_init(self.model.classifier_init, context.has_background)
        layers = {name.rpartition('.')[0] for name in self._names(before)}
        return {**before, **begun_rows(before, layers, self._classes(step) - num_old, grow)}

    def _names(self, before: Mapping[str, Tensor]) -> list[str]:
        """Return the names of tensors with fewer rows than in the model, which have grown since."""
        own = dict(self.model.named_parameters())
        return [
            name
            for name, rows in before.items()
            if name in own and rows.dim() > 0 and len(own[name]) > len(rows)
        ]

    def _classes(self, step: int) -> int:
        return sum(class_step <= step for class_step in self.model.step.class_steps)

    def _checkpoint(self, step: int) -> dict[str, Tensor]:
        path = step_folder(self.work_dir, step) / CHECKPOINT_NAME
        return load_plain_state(path, self._classes(step))
