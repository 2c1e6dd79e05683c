"""What every sub-step has: its place in a walk, its config, and what it leaves behind."""

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
    """What a sub-step begins with.

    Attributes:
        step: What its step begins with.
        snapshot: Checkpoint and number of classes of the step itself, which is
            trained; None for a sub-step before it.
        folder: Where the sub-step writes.
    """

    step: StepInputs
    snapshot: dict[str, Any] | None
    folder: Path


class SubStep:
    """Something trained in ``step_XX/<name>/`` by a Runner of its own.

    It is trained once: what it has finished is recorded in the journal with
    the hashes of its files, and a kill in the middle of it resumes it.

    Args:
        name: Name of its folder and its record. The class's own by default.

    Raises:
        InputError: The name cannot be that of a folder.
    """

    #: Of folder and record.
    name: str = ''
    #: 'before': the step needs what it leaves; 'after': it needs the step's checkpoint.
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
        """Whether it is trained at a step.

        By default wherever the step trains, and, before a step, an earlier one has.
        """
        learnt = any(walk.trains(earlier) for earlier in range(step))
        return walk.trains(step) and (self.when == 'after' or learnt)

    def iterations(self, walk: Walk, step: int) -> int:
        """How long it trains at a step where it applies, for the estimate of time."""
        return walk.iterations[step]

    def check(self, walk: Walk) -> None:
        """Looks for what would not work, before anything of the walk is trained.

        Raises:
            InputError: Something would not.
        """

    def derive_config(self, walk: Walk, step: int, inputs: SubStepInputs) -> Config:
        """The config of its Runner, but for folder, checkpoints, seed and progress.

        It is also called before the walk, with paths of files that are not there yet.
        """
        raise NotImplementedError

    def finish(self, runner: Runner, folder: Path) -> Sequence[str]:
        """Writes what is to stay; called by every process when its training is over.

        Args:
            runner: Its Runner.
            folder: Its folder, where the main process writes (atomically).

        Returns:
            The names of the files, equal on all processes.
        """
        raise NotImplementedError

    def stand_in(self, runner: Runner, folder: Path) -> None:
        """Write files of the kind that :meth:`finish` leaves, in little time, for the rehearsal.

        Args:
            runner: Its Runner, after one iteration.
            folder: Its folder.
        """
        self.finish(runner, folder)

    def hand_on(self, cfg: Config, walk: Walk, step: int, folder: Path) -> None:
        """Puts what it leaves into the config of its step, in place; before a step only.

        Args:
            cfg: Config of the step.
            walk: The walk.
            step: The step.
            folder: Folder of this sub-step; its files may not be there yet.
        """

    def replace_teachers(self, walk: Walk, steps: Sequence[int]) -> dict[int, dict[str, Any]]:
        """Snapshots to learn from in place of the steps' checkpoints; after a step only.

        Args:
            walk: The walk.
            steps: Earlier steps that trained.

        Returns:
            Arguments of a :class:`~mmseg_cil.models.teacher.Teacher`, but for the
            number of classes, by step; none by default.
        """
        return {}

    def rescore(self, walk: Walk, step: int, folder: Path, launcher: str) -> dict[str, Any]:
        """Scores in :attr:`summary`, computed again as the walk is evaluated now.

        Called by every process where the evaluation has changed since it was finished.

        Args:
            walk: The walk.
            step: The step.
            folder: Folder of this sub-step, finished.
            launcher: MMEngine's launcher.

        Returns:
            What changes in the summary; nothing by default.
        """
        return {}
