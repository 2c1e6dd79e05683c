"""A hook that gives a method the batches which its losses are easily wrong for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from mmseg_cil.contracts import network_of
from mmseg_cil.protocols.taxonomy import IGNORE
from mmseg_cil.registry import HOOKS
from mmseg_cil.utils.step_context import StepContext

#: Labels ``(1, H, W)`` of the images of a batch.
Labels = list[Tensor]


def _void(labels: Tensor) -> Tensor:
    return torch.full_like(labels, IGNORE)


def _without_new(labels: Tensor, step: StepContext) -> Tensor:
    return labels.where((labels < step.num_old) | (labels == IGNORE), 0)


#: Batches by name: each makes labels from those of a batch and the step. Fewer labels keep the
#: first images alone.
BATCHES: dict[str, Callable[[Labels, StepContext], Labels]] = {
    'no pixel of a new class': lambda batch, step: [_without_new(image, step) for image in batch],
    'background alone': lambda batch, step: [torch.zeros_like(image) for image in batch],
    # Without background there is nothing to label by an old network either.
    'a new class alone': lambda batch, step: [
        torch.full_like(image, step.num_seen - 1) for image in batch
    ],
    'void alone': lambda batch, step: [_void(image) for image in batch],
    'a single image': lambda batch, step: batch[:1],
    'a void image beside others': lambda batch, step: [_void(batch[0]), *batch[1:]],
}


@HOOKS.register_module()
class OddBatchesHook(Hook):
    """A hook that changes the batches of later steps, and checks what the network learns from them.

    The iterations of a step take turns through :data:`BATCHES`. After each iteration, losses and
    weights must be finite.
    """

    priority = 'HIGHEST'

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict[str, Any] | None = None
    ) -> None:
        """Put other labels into the samples of the batch."""
        step: Any = network_of(runner).step
        if not step.index or data_batch is None:
            return
        samples = data_batch['data_samples']
        labels = BATCHES[_name(batch_idx)]([sample.gt_sem_seg.data for sample in samples], step)
        for sample, changed in zip(samples, labels, strict=False):
            sample.gt_sem_seg.data = changed
        for key in ('inputs', 'data_samples'):
            data_batch[key] = data_batch[key][: len(labels)]

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
