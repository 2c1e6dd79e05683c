"""Holding the classifier's rows of old classes still."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from mmseg_cil.contracts import network_of
from mmseg_cil.models.segmentors import IncrementalEncoderDecoder
from mmseg_cil.registry import HOOKS


@HOOKS.register_module()
class FrozenRowsHook(Hook):
    """A hook that puts the rows of old classes back after each iteration.

    The walk adds the hook where ``method.freezing`` has ``old_rows``. The rows are those of every
    layer that has grown by the step's classes, in all heads, with their values when training
    begins, hence after the initialisation of new classes. As the rows are put back rather than left
    out of training, they are safe from weight decay and momentum too; norms of gradients include
    the gradients of these rows.
    """

    # The hook acts before any hook that saves or averages weights.
    priority = 'ABOVE_NORMAL'

    def __init__(self) -> None:
        #: Views of the network's rows, and the rows' values.
        self._rows: list[tuple[Tensor, Tensor]] = []

    def before_train(self, runner: Runner) -> None:
        """Note the rows; those of a resumed step are the same."""
        model = network_of(runner)
        self._rows = []
        if not isinstance(model, IncrementalEncoderDecoder) or not model.step.trained:
            return
        own = dict(model.named_parameters())
        for name, before in model.previous_state().items():
            if name in own and own[name].shape != before.shape:
                rows = own[name].detach()[tuple(slice(0, size) for size in before.shape)]
                self._rows.append((rows, rows.clone()))

    @torch.no_grad()
    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: object = None,
        outputs: Mapping[str, Any] | None = None,
    ) -> None:
        """Put the rows back."""
        for rows, value in self._rows:
            rows.copy_(value)
