"""Hooks for walks in several processes that are compared with a walk in a single process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from mmseg_cil.contracts import network_of
from mmseg_cil.engine.paths import step_folder
from mmseg_cil.registry import HOOKS


@HOOKS.register_module()
class LossRecordHook(Hook):
    """A hook that writes ``losses.RANK.json`` into the step's folder."""

    def before_train(self, runner: Runner) -> None:
        """Begin with an empty list of losses."""
        self.losses: list[float] = []

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: object = None,
        outputs: Mapping[str, Any] | None = None,
    ) -> None:
        """Keep the loss of an iteration."""
        assert outputs is not None
        self.losses.append(outputs['loss'].item())

    def after_train(self, runner: Runner) -> None:
        """Write all losses, in order."""
        path = Path(runner.work_dir) / f'losses.{get_rank()}.json'
        path.write_text(json.dumps(self.losses))


@HOOKS.register_module()
class SharesOfABatchHook(Hook):
    """A hook that switches off batch statistics and dropout, which differ for shares of a batch.

    Batch norms normalise with their running statistics, and dropout drops nothing. The mean of
    the losses of equal shares of a batch is then the loss of the batch.
    """

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        """Switch batch norms and dropout to evaluation, also in modules that a method added."""
        for module in network_of(runner).modules():
            if isinstance(module, (_BatchNorm, _DropoutNd)):
                module.eval()


def mean_losses(work_dir: str | Path, step: int, processes: int) -> list[float]:
    """Return the loss of every iteration of a step, as the mean over processes.

    The processes have equal shares of the batch, so the mean is the loss of the whole batch.
    """
    folder = step_folder(work_dir, step)
    own = [json.loads((folder / f'losses.{rank}.json').read_text()) for rank in range(processes)]
    return [sum(values) / processes for values in zip(*own, strict=True)]
