"""A hook that gives a method the batches which its losses are easily wrong for."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from mmseg_cil.contracts import network_of
from mmseg_cil.registry import HOOKS
from mmseg_cil.utils.step_context import StepContext

#: Label of a void pixel.
VOID = 255


def _without_new(labels: Tensor, step: StepContext) -> Tensor:
    return labels.where((labels < step.num_old) | (labels == VOID), 0)


#: Batches by name: each makes the labels of a sample from its labels ``(1, H, W)`` and the step.
BATCHES: dict[str, Callable[[Tensor, StepContext], Tensor]] = {
    'no pixel of a new class': _without_new,
    'background alone': lambda labels, step: torch.zeros_like(labels),
    # Without background there is nothing to label by an old network either.
    'a new class alone': lambda labels, step: torch.full_like(labels, step.num_seen - 1),
    'void alone': lambda labels, step: torch.full_like(labels, VOID),
    'a single image': lambda labels, step: labels,
    'a void image beside others': lambda labels, step: labels,
}


@HOOKS.register_module()
class OddBatchesHook(Hook):
    """A hook that changes the batches of later steps, and checks what the network learns from them.

    The iterations of a step take turns through :data:`BATCHES`. A single image is the first of the
    batch. After each iteration, losses and weights must be finite.
    """

    priority = 'HIGHEST'

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict[str, Any] | None = None
    ) -> None:
        """Put other labels into the samples of the batch."""
        step: Any = network_of(runner).step
        if not step.index or data_batch is None:
            return
        name = _name(batch_idx)
        samples = copy.deepcopy(data_batch['data_samples'])
        for number, sample in enumerate(samples):
            labels = sample.gt_sem_seg.data
            empty = name == 'a void image beside others' and number == 0
            changed = torch.full_like(labels, VOID) if empty else BATCHES[name](labels, step)
            sample.gt_sem_seg.data = changed
        count = 1 if name == 'a single image' else len(samples)
        data_batch.update(
            inputs=data_batch['inputs'][:count],
            data_samples=samples[:count],
        )

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: object = None,
        outputs: Mapping[str, Any] | None = None,
    ) -> None:
        """Look at losses and weights.

        Raises:
            AssertionError: A number is not finite.
        """
        network = network_of(runner)
        where = f'step {network.step.index}, a batch of {_name(batch_idx)}'
        for key, value in (outputs or {}).items():
            assert torch.isfinite(torch.as_tensor(value)).all(), f'{where}: {key} is {value}'
        for key, value in network.state_dict().items():
            assert torch.isfinite(value).all(), f'{where}: {key} is not finite after the update'


def _name(iteration: int) -> str:
    return list(BATCHES)[iteration % len(BATCHES)]
