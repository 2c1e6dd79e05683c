"""The warning, given once, that a penalty is out of all proportion to the other losses."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from mmseg_cil.registry import HOOKS

PREFIX = 'regularise.'
#: The ratios of a penalty to the other losses beyond which a warning is given. Our choice: in the
#: published settings and in ours the ratio is between 0.001 and 10 once the weights have moved.
FAR_ABOVE, FAR_BELOW = 100.0, 1e-4


@HOOKS.register_module()
class PenaltyScaleHook(Hook):
    """A hook that warns where the losses of regularisers are far above or below all others.

    The penalties and the other losses are summed on their device and read every
    ``interval`` iterations, when their means since the last look are compared: a
    penalty far above the other losses leaves the step nothing to learn. A penalty
    far below them, which does nothing, is looked for over the whole step only,
    because a penalty begins at 0. A warning is given once per step.

    Args:
        interval: Iterations between two looks.
    """

    priority = 'LOW'

    def __init__(self, interval: int = 50) -> None:
        self.interval = max(interval, 10)
        self._told = False
        self._sums: Tensor | None = None
        self._count = 0
        #: Sums of penalty and other losses over the step, and their number.
        self._step = (0.0, 0.0, 0)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: dict | None = None
    ) -> None:
        """Add up the losses of an iteration."""
        if not isinstance(outputs, Mapping) or self._told:
            return
        losses = {
            name: value.detach()
            for name, value in outputs.items()
            if 'loss' in name and isinstance(value, Tensor)
        }
        penalties = [value for name, value in losses.items() if name.startswith(PREFIX)]
        if not penalties or 'loss' not in losses:
            return
        values = torch.stack([sum(penalties, losses['loss'].new_zeros(())), losses['loss']])
        self._sums = values if self._sums is None else self._sums + values
        self._count += 1
        done = runner.iter + 1
        if self._count >= self.interval or done >= runner.max_iters:
            self._look(runner, is_end=done >= runner.max_iters)

    def _look(self, runner: Runner, is_end: bool) -> None:
        assert self._sums is not None
        penalty, total = self._sums.double().tolist()
        count, self._sums, self._count = self._count, None, 0
        others = total - penalty
        self._step = (self._step[0] + penalty, self._step[1] + others, self._step[2] + count)
        if penalty > FAR_ABOVE * others > 0:
            self._tell(
                runner,
                'above',
                penalty,
                others,
                count,
                'leaves hardly anything to be learnt: lower',
            )
        elif is_end and abs(self._step[0]) < FAR_BELOW * self._step[1]:
            self._tell(runner, 'below', *self._step, 'keeps nothing: raise')

    def _tell(
        self, runner: Runner, where: str, penalty: float, others: float, count: int, effect: str
    ) -> None:
        self._told = True
        runner.logger.warning(
            f'the penalty of the regularisers is far {where} the other losses, '
            f'{penalty / count:.3g} against {others / count:.3g} in the mean of the last {count} '
            f'iterations; it {effect} the loss_weight of method.regularisers'
        )
