"""The progress of the walk, and the time that it will take."""

from __future__ import annotations

import datetime
import time
from collections.abc import Sequence

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmseg_cil.registry import HOOKS


@HOOKS.register_module()
class WalkProgressHook(Hook):
    """A hook that logs the remaining time of the step and of the whole walk.

    The walk's estimate counts the iterations of the steps to come at this
    step's mean time per iteration; evaluation is not counted.

    Args:
        step: The step in training.
        iterations: Iterations of every step of the walk; 0 for steps that are not
            to be walked now.
        interval: Iterations between two lines.
        sub_steps: Iterations of sub-steps that are still to come, counted alike.
        name: Name of the sub-step in training; only its own time is logged then.
    """

    priority = 'VERY_LOW'

    def __init__(
        self,
        step: int,
        iterations: Sequence[int],
        interval: int = 50,
        sub_steps: int = 0,
        name: str = '',
    ) -> None:
        self.step = step
        self.iterations = list(iterations)
        self.interval = interval
        self.sub_steps = sub_steps
        self.name = name
        self._start = (0.0, 0)

    def before_train(self, runner: Runner) -> None:
        """Start the clock."""
        self._start = (time.monotonic(), runner.iter)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: object = None
    ) -> None:
        """Log a line every ``interval`` iterations."""
        done = runner.iter + 1
        if done % self.interval and done != runner.max_iters:
            return
        start, first = self._start
        per_iteration = (time.monotonic() - start) / (done - first)
        step_left = (runner.max_iters - done) * per_iteration
        if self.name:
            runner.logger.info(
                f'step {self.step}, sub-step {self.name}: iteration {done} of '
                f'{runner.max_iters}, {per_iteration:.2f} s each; left: {_clock(step_left)}'
            )
            return
        later = sum(self.iterations[self.step + 1 :]) + self.sub_steps
        walk_left = step_left + later * per_iteration
        runner.logger.info(
            f'step {self.step} of 0..{len(self.iterations) - 1}: iteration {done} of '
            f'{runner.max_iters}, {per_iteration:.2f} s each; left: step {_clock(step_left)}, '
            f'walk {_clock(walk_left)}'
        )


def _clock(seconds: float) -> str:
    return str(datetime.timedelta(seconds=round(seconds)))
