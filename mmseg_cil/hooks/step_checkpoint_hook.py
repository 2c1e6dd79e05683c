"""Saving the state of a step in training so that a kill loses little and spoils nothing."""

from __future__ import annotations

import io
import time
from pathlib import Path

from mmengine.fileio import register_backend
from mmengine.fileio.backends import LocalBackend
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmseg_cil.registry import HOOKS
from mmseg_cil.utils.atomic import atomic_write

RESUME_NAME = 'resume.pth'


class AtomicLocalBackend(LocalBackend):
    """MMEngine's local files, but a file is replaced whole or not at all."""

    def put(self, obj: bytes | io.BytesIO, filepath: str | Path) -> None:
        """Writes bytes to a file atomically."""
        content = obj.getvalue() if isinstance(obj, io.BytesIO) else obj
        atomic_write(filepath, lambda file: file.write(content))


register_backend('mmseg_cil_atomic', AtomicLocalBackend, force=True)


@HOOKS.register_module()
class StepCheckpointHook(Hook):
    """Keeps ``resume.pth`` in the step's folder: one file, always whole.

    MMEngine's ``CheckpointHook`` deletes the former checkpoint before it writes
    the next, and writes in place; a kill or a full disk in between loses both.
    The state itself (weights, optimizer, schedules, message hub) is what
    ``Runner.save_checkpoint`` saves, and ``Runner.resume`` reads.

    Args:
        interval: Iterations between saves.
        max_minutes: Also save when so many minutes have passed since the last
            save, so that slow iterations do not put hours at risk.
    """

    priority = 'VERY_LOW'

    def __init__(self, interval: int = 1000, max_minutes: float = 10.0) -> None:
        self.interval = interval
        self.max_seconds = 60.0 * max_minutes
        self._last_save = 0.0

    def before_train(self, runner: Runner) -> None:
        """Starts the clock."""
        self._last_save = time.monotonic()

    def after_train_iter(self,
                         runner: Runner,
                         batch_idx: int,
                         data_batch: object = None,
                         outputs: object = None) -> None:
        """Saves when it is time to."""
        is_last = runner.iter + 1 >= runner.max_iters
        due = (runner.iter + 1) % self.interval == 0 \
            or time.monotonic() - self._last_save > self.max_seconds
        # After the last iteration the step's own checkpoint follows at once.
        if due and not is_last:
            runner.save_checkpoint(
                runner.work_dir,
                RESUME_NAME,
                by_epoch=False,
                backend_args=dict(backend='mmseg_cil_atomic'))
            self._last_save = time.monotonic()
