"""The end of a training by a signal, with its state saved."""

from __future__ import annotations

import time

import torch
from mmengine.dist import all_reduce, barrier, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmseg_cil.hooks.step_checkpoint_hook import StepCheckpointHook, iterations_per_update
from mmseg_cil.registry import HOOKS
from mmseg_cil.utils.stopping import Stopped, asked_to_stop, wait_for_training

#: Seconds between two times at which several processes ask each other for signals.
_LOOK_S = 2.0


@HOOKS.register_module()
class StopHook(Hook):
    """A hook that saves the state after the iteration of a signal, and ends the process.

    With gathered gradients (``accumulative_counts``) the hook waits for their update.
    A signal may reach one process of several, or all: the processes ask each other
    every two seconds, so that no process has to wait for its device in every
    iteration; they save together and end together. During validation, a signal
    ends the process at once.

    Args:
        step: The step in training.
        name: Name of the sub-step in training.
    """

    # The hook acts after all other changes of an iteration.
    priority = 'LOWEST'

    def __init__(self, step: int, name: str = '') -> None:
        self.step = step
        self.name = name
        self._asked = 0
        self._last_look = (0.0, 0)
        self._next_look = 0

    def before_train(self, runner: Runner) -> None:
        """Let signals wait for the end of an iteration from now on."""
        self._asked = 0
        self._last_look, self._next_look = (time.monotonic(), runner.iter), runner.iter + 1
        wait_for_training(True)

    def after_train(self, runner: Runner) -> None:
        """Let signals wait no longer."""
        wait_for_training(False)

    def before_val(self, runner: Runner) -> None:
        """Let no signal wait while images are tested."""
        wait_for_training(False)

    def after_val(self, runner: Runner) -> None:
        """Let signals wait again, as training goes on."""
        wait_for_training(True)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: dict | None = None
    ) -> None:
        """End the training where a signal has asked for it.

        Raises:
            Stopped: A signal has asked for the end.
        """
        done = runner.iter + 1
        is_last = done >= runner.max_iters
        if not self._asked and (done >= self._next_look or is_last):
            self._look(done)
        if self._asked and (is_last or done % iterations_per_update(runner.optim_wrapper) == 0):
            self._stop(runner, done)

    def _look(self, done: int) -> None:
        """Find out whether any process was sent a signal; all processes get the same answer."""
        asked = asked_to_stop() or 0
        self._next_look = done + 1
        if get_world_size() > 1:
            since, first = self._last_look
            pace = (time.monotonic() - since) / max(1, done - first)
            ahead = max(1, int(_LOOK_S / max(pace, 1e-6)))
            # All processes go by the pace of rank 0.
            numbers = torch.tensor([ahead if get_rank() == 0 else 0, asked])
            all_reduce(numbers, op='max')
            self._next_look, asked = done + int(numbers[0]), int(numbers[1])
        self._last_look = (time.monotonic(), done)
        self._asked = asked

    def _stop(self, runner: Runner, done: int) -> None:
        for hook in runner.hooks:
            if isinstance(hook, StepCheckpointHook):
                hook.save(runner)
        if get_world_size() > 1:
            # No process ends while another still writes: a launcher would end the other too.
            barrier()
        part = f', sub-step {self.name},' if self.name else ''
        raise Stopped(
            self._asked,
            f'step {self.step}{part} is saved after iteration {done} of {runner.max_iters}',
        )
