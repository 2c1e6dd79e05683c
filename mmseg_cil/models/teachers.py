"""The snapshots that a step learns from: the last one, and others by name."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from mmseg_cil.contracts import Needs, NetworkOutput, TeacherForm
from mmseg_cil.errors import InputError
from mmseg_cil.models.teacher import Teacher

#: Prefix of the name of a step's snapshot, as of the step's folder.
STEP_PREFIX = 'step_'


def step_teacher_name(step: int) -> str:
    """Return the name of the snapshot of a step: 'step_00', 'step_01', ..."""
    return f'{STEP_PREFIX}{step:02d}'


def draw_names(names: Sequence[str], count: int | None, seed: int) -> tuple[str, ...]:
    """Draw some of the names without replacement; every subset is equally likely.

    Args:
        names: Names to draw from.
        count: Number of names to draw; None, or at least the number of ``names``, takes all.
        seed: Seed of the draw. Equal seeds draw equal names.

    Returns:
        The drawn names in their original order.
    """
    if count is None or count >= len(names):
        return tuple(names)
    chosen = np.random.default_rng(seed).choice(len(names), size=count, replace=False)
    return tuple(names[index] for index in sorted(chosen))


@dataclass(frozen=True)
class TeacherRecords:
    """The records of the snapshots for a batch.

    Attributes:
        last: Record of the last step's snapshot; None if no part reads it.
        named: Records of the named snapshots that a part reads and that were drawn, by name,
            in the order in which the snapshots were learnt.
    """

    last: NetworkOutput | None = None
    named: dict[str, NetworkOutput] = field(default_factory=dict)


class Teachers:
    """The snapshots that a step's distillers and losses read, one network each.

    Like :class:`~mmseg_cil.models.teacher.Teacher` this class is no ``nn.Module``.
    Snapshots that are given under two names, with the same arguments, are one
    network, which runs once for a batch.

    Args:
        last: Arguments of the last step's ``Teacher`` besides the model, or None.
        named: Arguments of further snapshots by name, in the order in which they were
            learnt: 'step_00', 'step_01', ... for earlier steps, other names as a method
            gives them.
        needs: The needs of the distillers.
        losses_read: Losses of the heads read the last snapshot.
        draw: Number of the snapshots of earlier steps that run for a batch,
            drawn by :func:`draw_names`. All by default.
        form: The form in which the snapshots run. Plain by default.

    Raises:
        InputError: ``draw`` is no positive number, or a distiller reads what compiled teachers
            do not have.
    """

    def __init__(
        self,
        last: Mapping[str, Any] | None,
        named: Mapping[str, Mapping[str, Any]],
        needs: Iterable[Needs] = (),
        losses_read: bool = False,
        draw: int | None = None,
        form: TeacherForm | None = None,
    ) -> None:
        if draw is not None and (isinstance(draw, bool) or not isinstance(draw, int) or draw < 1):
            raise InputError(
                f'method.teacher_draw must be a positive number of teachers to draw '
                f'for a batch, or None for all of them, got {draw!r}'
            )
        needs = list(needs)
        compiled = form is not None and form.compile is not False
        if compiled and any(need.pre_activations for need in needs):
            raise InputError(
                'method.teacher_form.compile: a distiller of this method reads the maps of stages '
                'before their last activation (Needs.pre_activations), which compiled code does '
                'not keep: leave compile out; the other keys of teacher_form work'
            )
        reads_last = losses_read or any(need.teacher for need in needs)
        self._last = dict(last) if last is not None and reads_last else None
        self._wanted = {name for need in needs for name in need.names}
        reads_all = any(need.all_teachers for need in needs)
        self._named = {
            name: dict(entries)
            for name, entries in named.items()
            if reads_all or name in self._wanted
        }
        # Where features alone are read, the heads do not run.
        self._with_outputs = losses_read or any(
            need.outputs or need.auxiliary for need in needs if need.teacher or need.teachers
        )
        self._form = form
        self._draw = draw
        self._seed = 0
        self._networks: dict[tuple, Teacher] = {}

    @property
    def configs(self) -> dict[str | None, dict[str, Any]]:
        """Arguments of all snapshots that a part reads, by name; the last snapshot's under None."""
        configs: dict[str | None, dict[str, Any]] = {} if self._last is None else {None: self._last}
        configs.update(self._named)
        return configs

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the available snapshots that a distiller reads."""
        return tuple(self._named)

    @property
    def last(self) -> Teacher | None:
        """The last step's snapshot; None if no part reads it, and before :meth:`load`."""
        return None if self._last is None else self._networks.get(_key(self._last))

    @property
    def networks(self) -> list[Teacher]:
        """All loaded networks, each once."""
        return list(self._networks.values())

    def named(self, name: str) -> Teacher:
        """Return a loaded snapshot by its name."""
        return self._networks[_key(self._named[name])]

    def load(self, model: Mapping[str, Any]) -> None:
        """Build the networks and load their weights.

        Args:
            model: Config of the student's plain form.

        Raises:
            InputError: A snapshot that a distiller reads is missing, or ``Teacher`` raises it.
        """
        missing = sorted(self._wanted - self._named.keys())
        if missing:
            raise InputError(
                f'a distiller reads the teachers {missing}, which this step has not '
                f'(it has {list(self._named)}): method.teachers="all" gives those of '
                'earlier steps, sub-steps of the method give others'
            )
        for config in self.configs.values():
            if _key(config) not in self._networks:
                self._networks[_key(config)] = Teacher(model, form=self._form, **config)

    def check_loaded(self) -> None:
        """Check that :meth:`load` was called.

        Raises:
            RuntimeError: :meth:`load` was not called.
        """
        if any(_key(config) not in self._networks for config in self.configs.values()):
            raise RuntimeError('the teacher is not loaded: call init_weights() before training')

    def set_seed(self, seed: int) -> None:
        """Set the seed of the next draws, which must be the same on all ranks."""
        self._seed = seed

    def drawn(self) -> tuple[str, ...]:
        """Return the names of the snapshots that run for the next batch."""
        steps = [name for name in self._named if name.startswith(STEP_PREFIX)]
        chosen = draw_names(steps, self._draw, self._seed)
        return tuple(name for name in self._named if name in chosen or name not in steps)

    def run(
        self,
        inputs: Tensor,
        pre_activations: bool = False,
        auxiliary: bool = False,
        through: Callable[[Teacher, Callable[[], NetworkOutput]], NetworkOutput] | None = None,
    ) -> TeacherRecords:
        """Run every network that is needed once.

        Args:
            inputs: Normalised images ``(N, 3, H, W)``.
            pre_activations: Keep the pre-activations of the backbone's stages too.
            auxiliary: Run the auxiliary heads of named snapshots too.
            through: Function that is called with a network and the function that runs it, and
                returns the record (see :class:`~mmseg_cil.models.shared_trunk.SharedTrunk`).
        """
        names = self.drawn()
        with_auxiliary = {_key(self._named[name]) for name in names} if auxiliary else set()
        records: dict[tuple, NetworkOutput] = {}
        for name, config in self.configs.items():
            key = _key(config)
            if key not in records and (name is None or name in names):
                network = self._networks[key]
                run = functools.partial(
                    network, inputs, pre_activations, key in with_auxiliary, self._with_outputs
                )
                records[key] = run() if through is None else through(network, run)
        return TeacherRecords(
            last=None if self._last is None else records[_key(self._last)],
            named={name: records[_key(self._named[name])] for name in names},
        )


def _key(config: Mapping[str, Any]) -> tuple:
    """Return a key that identifies a snapshot: all its arguments."""
    return tuple(sorted((key, repr(value)) for key, value in config.items()))
