"""The base class of sub-steps: their place in a walk, their config, and the files they leave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

from mmseg_cil.engine.config.step_config import StepInputs
from mmseg_cil.engine.walk import Walk
from mmseg_cil.errors import InputError

WHEN = ('before', 'after')


@dataclass(frozen=True)
class SubStepInputs:
    """The inputs that a sub-step begins with.

    Attributes:
        step: The inputs that the step begins with.
        snapshot: Checkpoint and number of classes of the trained step itself;
            None for a sub-step before the step.
        folder: Folder that the sub-step writes to.
    """

    step: StepInputs
    snapshot: dict[str, Any] | None
    folder: Path


class SubStep:
    """A training in ``step_XX/<name>/`` by a Runner of its own.

    A sub-step is trained once: the journal records a finished sub-step with the
    hashes of its files, and a sub-step that was killed is resumed.

    Args:
        name: Name of the sub-step's folder and record. The class's own by default.

    Raises:
        InputError: The name cannot be that of a folder.
    """

    #: Name of the folder and of the record.
    name: str = ''
    #: 'before': the step needs the sub-step's files; 'after': the sub-step needs the step's
    #: checkpoint.
    when: str = 'before'
    #: Numbers for the journal's record; filled by :meth:`finish`, equal on all processes.
    summary: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, name: str | None = None) -> None:
        self.name = name or self.name
        if not self.name.isidentifier():
            raise InputError(
                f'the name {self.name!r} of the sub-step {type(self).__name__} cannot '
                'be that of its folder: use letters, digits and underscores'
            )

    def applies(self, walk: Walk, step: int) -> bool:
        """Return whether the sub-step is trained at a step.

        By default, it is trained wherever the step trains and, if it comes before the step, an
        earlier step has trained.
        """
        learnt = any(walk.trains(earlier) for earlier in range(step))
        return walk.trains(step) and (self.when == 'after' or learnt)

    def iterations(self, walk: Walk, step: int) -> int:
        """Return the iterations of training at a step where it applies, for the time estimate."""
        return walk.iterations[step]

    def check(self, walk: Walk) -> None:
        """Check that the sub-step will work, before anything of the walk is trained.

        Raises:
            InputError: Something would not work.
        """

    def derive_config(self, walk: Walk, step: int, inputs: SubStepInputs) -> Config:
        """Return the config of the Runner, except for folder, checkpoints, seed and progress.

        The method is also called before the walk, with paths of files that do not exist yet.
        """
        raise NotImplementedError

    def finish(self, runner: Runner, folder: Path) -> Sequence[str]:
        """Write the files that are to stay; every process calls this when training is over.

        Args:
            runner: Runner of the sub-step.
            folder: Folder of the sub-step, where rank 0 writes (atomically).

        Returns:
            The names of the files, equal on all processes.
        """
        raise NotImplementedError

    def stand_in(self, runner: Runner, folder: Path) -> None:
        """Write files of the kind that :meth:`finish` leaves, in little time, for the rehearsal.

        Args:
            runner: Runner of the sub-step, after one iteration.
            folder: Folder of the sub-step.
        """
        self.finish(runner, folder)

    def hand_on(self, cfg: Config, walk: Walk, step: int, folder: Path) -> None:
        """Put the sub-step's files into the config of its step, in place; before a step only.

        Args:
            cfg: Config of the step.
            walk: The walk.
            step: The step.
            folder: Folder of this sub-step; its files may not be there yet.
        """

    def replace_teachers(self, walk: Walk, steps: Sequence[int]) -> dict[int, dict[str, Any]]:
        """Return snapshots to learn from in place of the steps' checkpoints; after a step only.

        Args:
            walk: The walk.
            steps: Earlier steps that trained.

        Returns:
            Arguments of a :class:`~mmseg_cil.models.teacher.Teacher`, except for the
            number of classes, by step; none by default.
        """
        return {}

    def rescore(self, walk: Walk, step: int, folder: Path, launcher: str) -> dict[str, Any]:
        """Return the scores in :attr:`summary`, computed again as the walk is evaluated now.

        Every process calls this where the evaluation has changed since the sub-step finished.

        Args:
            walk: The walk.
            step: The step.
            folder: Folder of this sub-step, finished.
            launcher: MMEngine's launcher.

        Returns:
            The values of the summary that change; none by default.
        """
        return {}
