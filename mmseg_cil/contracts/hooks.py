"""The contract of hooks that act before and after a step."""

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
    """Return the segmentor of a Runner, without its distributed wrapper."""
    return unwrapped(runner.model)


class StepHook(Hook):
    """A hook that keeps something of a finished step, or checks a step beforehand.

    MMEngine's own methods (``before_train``, ``after_train_iter``, ...) are available too.
    """

    #: Whether the hook takes part in the rehearsal before training.
    rehearsed: bool = False
    #: Public names of a hook that only look like names of the contract.
    own_names: ClassVar[Sequence[str]] = ()

    def check_network(self, network: nn.Module) -> None:
        """Check a step's network before anything is trained.

        Raises:
            InputError: The hook does not fit the network.
        """

    def check_state(self, runner: Runner) -> None:
        """Check the state of training before it is saved over a good state.

        Raises:
            InputError: The state must not be saved.
        """

    def change_weights(self, runner: Runner) -> None:
        """Change the weights of a step that has trained, in place; every process calls this.

        ``after_train`` of all hooks has been called, averaged weights (of an ``EMAHook``) are in
        place, and the network is in plain form again. The changed weights must be the same on all
        processes.
        No hook has kept anything of the step yet, whatever the order of hooks. The method is not
        called for a step that was taken over from another walk.
        """

    def after_step(self, runner: Runner) -> None:
        """Keep something of a step in ``runner.work_dir``; every process calls this.

        The weights are final: :meth:`change_weights` of all hooks has been called, and the network
        has not been exported yet.
        """

    def has_kept(self, folder: Path) -> bool:
        """Return whether a step's folder has the files that :meth:`after_step` would leave.

        If the folder lacks them, because another method trained the step, :meth:`after_step` is
        called for the step now.
        """
        return True

    def stand_in(self, model: nn.Module, batches: Iterable[DataBatch], folder: Path) -> None:
        """Write files of the kind that :meth:`after_step` leaves, for the rehearsal.

        Args:
            model: The segmentor at a step.
            batches: Collated samples.
            folder: Folder of the step.
        """
