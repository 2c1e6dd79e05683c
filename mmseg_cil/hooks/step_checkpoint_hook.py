"""Saving the state of a step in training so that a kill loses little and spoils nothing."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmengine.dist import (
    all_gather_object,
    broadcast,
    broadcast_object_list,
    get_rank,
    get_world_size,
)
from mmengine.fileio import register_backend
from mmengine.fileio.backends import LocalBackend
from mmengine.hooks import EMAHook, Hook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from torch import Tensor, nn

from mmseg_cil.contracts import StepHook, network_of
from mmseg_cil.registry import HOOKS
from mmseg_cil.utils.hashed_file import write_hashed
from mmseg_cil.utils.weights_files import NotDataError, read_weights

RESUME_NAME = 'resume.pth'
#: Keys of the state's ``meta``: the identity of its walk and step, and the ranks' own buffers.
IDENTITY_KEY = 'walk_step'
BUFFERS_KEY = 'rank_buffers'


class AtomicLocalBackend(LocalBackend):
    """MMEngine's local files, but replaced whole or not at all, with a hash beside each file."""

    def put(self, obj: bytes | io.BytesIO, filepath: str | Path) -> None:
        """Write bytes to a file atomically."""
        write_hashed(filepath, obj.getvalue() if isinstance(obj, io.BytesIO) else obj)


register_backend('mmseg_cil_atomic', AtomicLocalBackend, force=True)


@HOOKS.register_module()
class StepCheckpointHook(Hook):
    """A hook that keeps ``resume.pth`` in the step's folder: one file, always whole.

    MMEngine's ``CheckpointHook`` deletes the former checkpoint before it writes
    the next, and writes in place; a kill or a full disk in between loses both.
    The state itself (weights, optimizer, schedules, message hub) is what
    ``Runner.save_checkpoint`` saves, and ``Runner.resume`` reads. With several
    processes, the state also holds the buffers of each process, such as norm
    statistics that are not synchronised, and each process gets its own back.

    All processes save at the same iteration, by the clock of rank 0. The processes
    do not exchange the time at every iteration, for which each would have to wait
    for its device, but only where the time is expected to be up: rank 0 tells the
    others how many iterations that is away.

    Where gradients of several iterations make one update (``accumulative_counts``),
    a save waits for the update: no state holds a gradient that is half gathered.

    Args:
        interval: Iterations between saves.
        max_minutes: Minutes since the last save after which the state is saved too,
            so that slow iterations do not put hours at risk.
        identity: Identity of the state: plain values by name, written into the state.
    """

    priority = 'VERY_LOW'

    def __init__(
        self,
        interval: int = 1000,
        max_minutes: float = 10.0,
        identity: Mapping[str, Any] | None = None,
    ) -> None:
        self.interval = interval
        self.max_seconds = 60.0 * max_minutes
        self.identity: dict[str, Any] = ConfigDict(identity or {}).to_dict()
        self._last_save = (0.0, 0)
        self._next_look = 0
        self._is_due = False
        self._per_update = 1
        self._is_checked = False

    def before_train(self, runner: Runner) -> None:
        """Start the clock."""
        self._last_save = (time.monotonic(), runner.iter)
        self._next_look = runner.iter + 1
        self._is_due = False
        self._per_update = iterations_per_update(runner.optim_wrapper)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: object = None
    ) -> None:
        """Save the state when a save is due."""
        done = runner.iter + 1
        # After the last iteration the step's own checkpoint follows at once.
        if done >= runner.max_iters:
            return
        self._is_due = self._is_due or done % self.interval == 0 or self._time_is_up(done)
        if self._is_due and done % self._per_update == 0:
            self.save(runner)
            self._last_save = (time.monotonic(), done)
            self._next_look = done + 1
            self._is_due = False

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Put this process's own buffers in the place of rank 0's."""
        buffers = (checkpoint.get('meta') or {}).get(BUFFERS_KEY) or []
        if len(buffers) == get_world_size():
            _take_back(runner, checkpoint, buffers[get_rank()])
        elif any(buffers):
            runner.logger.warning(
                f'the state was saved by {len(buffers)} processes, this job has '
                f'{get_world_size()}: all go on with the norm statistics of the first, so the '
                'result will not be that of an unbroken run'
            )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Leave out the functions that some schedules include in their state.

        A state is data, and each schedule has its own functions already.
        """
        schedules = checkpoint.get('param_schedulers') or []
        for listed in schedules.values() if isinstance(schedules, Mapping) else [schedules]:
            listed[:] = [
                {key: value for key, value in state.items() if not callable(value)}
                for state in listed
            ]

    def _time_is_up(self, done: int) -> bool:
        """Return whether to save by the clock; the answer is the same on all processes."""
        if done < self._next_look:
            return False
        seconds = time.monotonic() - self._last_save[0]
        left = self.max_seconds - seconds
        pace = seconds / (done - self._last_save[1])
        wait = torch.tensor(0 if left <= 0 else max(1, int(left / max(pace, 1e-6))))
        if get_world_size() == 1:
            # There is no other process to agree with: look every time, for the pace may change.
            wait.clamp_(max=1)
        broadcast(wait)
        self._next_look = done + int(wait)
        return int(wait) == 0

    def save(self, runner: Runner) -> None:
        """Save the state after this iteration; every process must call this."""
        for hook in runner.hooks:
            # A new state takes the place of a good one only after it has been checked.
            if isinstance(hook, StepHook):
                hook.check_state(runner)
        runner.save_checkpoint(
            runner.work_dir,
            RESUME_NAME,
            meta={IDENTITY_KEY: self.identity, BUFFERS_KEY: rank_buffers(_modules(runner))},
            by_epoch=False,
            backend_args=dict(backend='mmseg_cil_atomic'),
        )
        path = Path(runner.work_dir) / RESUME_NAME
        if not self._is_checked and get_rank() == 0 and path.is_file():
            self._is_checked = True
            _check_readable(path, runner)


def _check_readable(path: Path, runner: Runner) -> None:
    """Warn where a part that the user wrote makes a state unreadable."""
    try:
        read_weights(path, mmap=True)
    except NotDataError as error:
        runner.logger.warning(
            f'the training could not go on from {path}: it holds {error.holds}, and is read as '
            'data, which cannot run code. A hook, optimizer or schedule of your own keeps that in '
            'its state: keep tensors, numbers and text there'
        )


def iterations_per_update(wrapper: OptimWrapper) -> int:
    """Return the iterations after which no parameter's gradient waits for its update.

    Args:
        wrapper: Wrapper of the optimizer, or of several optimizers with counts of their own.
    """
    wrappers = wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]
    return math.lcm(*(wrapped._accumulative_counts for wrapped in wrappers))


def _modules(runner: Runner) -> nn.ModuleDict:
    """Return the network, and its averages (EMA) that hooks keep."""
    model = network_of(runner)
    averages = [hook.ema_model for hook in runner.hooks if isinstance(hook, EMAHook)]
    return nn.ModuleDict(
        {'model': model, **{f'average_{i}': average for i, average in enumerate(averages)}}
    )


def _take_back(runner: Runner, checkpoint: dict[str, Any], buffers: Mapping[str, Tensor]) -> None:
    """Put buffers of :func:`_modules` into their places while a state is loaded."""
    # The network is loaded from the checkpoint next; averages have been loaded already.
    own = None
    for key, value in buffers.items():
        if key.startswith('model.'):
            checkpoint['state_dict'][key.removeprefix('model.')] = value
        else:
            own = own or _modules(runner).state_dict()
            own[key].copy_(value)


def rank_buffers(model: nn.Module) -> list[dict[str, Tensor]]:
    """Return every process's buffers, on the CPU, as far as they differ from those of rank 0.

    Every process must call this. Parameters are equal on all processes, and so are most buffers.

    Args:
        model: Network without a distributed wrapper.

    Returns:
        Buffers by their key in the state dict, for every rank.
    """
    names = {name for name, _ in model.named_buffers()}
    own = {key: value.cpu() for key, value in model.state_dict().items() if key in names}
    first = [own]
    broadcast_object_list(first)
    differing = (
        {}
        if get_rank() == 0
        else {key: value for key, value in own.items() if not torch.equal(value, first[0][key])}
    )
    gathered: list[dict[str, Tensor]] = all_gather_object(differing)
    return gathered
