"""What a method does before and after a step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from mmseg_cil.contracts.records import DataBatch
from mmseg_cil.utils.wrapped import unwrapped


def network_of(runner: Runner) -> nn.Module:
    """Return the segmentor of a Runner, out of its distributed wrapper."""
    return unwrapped(runner.model)


class StepHook(Hook):
    """A hook that keeps something of a finished step, or asks about a step beforehand.

    MMEngine's own moments (``before_train``, ``after_train_iter``, ...) are there too.
    """

    #: It takes part in the rehearsal before training.
    rehearsed: bool = False
    #: Public names of a hook that only look like names of the contract.
    own_names: ClassVar[Sequence[str]] = ()

    def check_network(self, network: nn.Module) -> None:
        """Look at a step's network before anything is trained.

        Raises:
            InputError: The hook does not fit it.
        """

    def check_state(self, runner: Runner) -> None:
        """Look at the training before its state is saved over a good state.

        Raises:
            InputError: The state must not be saved.
        """

    def change_weights(self, runner: Runner) -> None:
        """Change the weights of a step that has trained, in place; every process calls.

        ``after_train`` of all hooks is over, averaged weights are in place, the network is plain
        again. What it becomes must be the same on all processes. No hook has kept anything of
        the step yet, whatever the order of hooks. A step that was taken over from another walk
        stays as it was.
        """

    def after_step(self, runner: Runner) -> None:
        """Keep something of a step in ``runner.work_dir``; every process calls.

        The weights are final: :meth:`change_weights` of all hooks is over, and the network has
        not been exported yet.
        """

    def has_kept(self, folder: Path) -> bool:
        """Return whether a step's folder has what :meth:`after_step` would leave there.

        Where it has not, because another method trained the step, :meth:`after_step` is
        called for it now.
        """
        return True

    def stand_in(self, model: nn.Module, batches: Iterable[DataBatch], folder: Path) -> None:
        """Write, for the rehearsal, files of the kind that :meth:`after_step` leaves.

        Args:
            model: The segmentor at a step.
            batches: Collated samples.
            folder: Folder of the step.
        """
