"""Another learning rate for the rows of new classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.runner import Runner
from torch import Tensor

from mmseg_cil.contracts import StepHook, network_of
from mmseg_cil.models.heads import classifier_holder
from mmseg_cil.models.segmentors import IncrementalEncoderDecoder
from mmseg_cil.registry import HOOKS
from mmseg_cil.utils.values import check_number


@HOOKS.register_module()
class RowRateHook(StepHook):
    """Lets the classifiers' rows of new classes learn at another rate than the other rows.

    After each update the change of these rows is multiplied by the factor, which is the update of
    an optimizer with such a rate: SGD and Adam alike, weight decay included. The hook acts in steps
    after the first one that trained, in all heads.

    Args:
        factor: Rate of the new rows over that of the classifier.

    Raises:
        InputError: ``factor`` is not above 0.
    """

    # The hook acts before any hook that saves or averages weights.
    priority = 'ABOVE_NORMAL'
    rehearsed = True

    def __init__(self, factor: float = 10.0) -> None:
        check_number(self, 'factor', factor, above=True)
        self.factor = factor
        #: Views of the network's new rows, and their values before the update.
        self._rows: list[Tensor] = []
        self._before: list[Tensor] = []

    def before_train(self, runner: Runner) -> None:
        """Find the rows."""
        model = network_of(runner)
        self._rows = []
        if not isinstance(model, IncrementalEncoderDecoder) or not model.step.trained:
            return
        known = model.step.num_known
        for head in model.heads.values():
            classifier: Any = getattr(classifier_holder(head), 'conv_seg', None)
            if classifier is not None and known < model.step.num_seen:
                self._rows += [value.detach()[known:] for value in classifier.parameters()]

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        """Note the values before the update."""
        self._before = [rows.clone() for rows in self._rows]

    @torch.no_grad()
    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: object = None,
        outputs: Mapping[str, Any] | None = None,
    ) -> None:
        """Multiply the change."""
        for rows, before in zip(self._rows, self._before, strict=True):
            rows.copy_(before + self.factor * (rows - before))
