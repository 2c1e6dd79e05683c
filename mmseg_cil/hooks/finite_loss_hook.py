"""Stopping a training whose loss is no finite number."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from mmengine.dist import all_gather_object, all_reduce, get_world_size
from mmengine.runner import Runner
from torch import Tensor

from mmseg_cil.contracts import StepHook, network_of
from mmseg_cil.errors import InputError
from mmseg_cil.hooks.step_checkpoint_hook import RESUME_NAME
from mmseg_cil.models.parsed_losses import is_trained_on
from mmseg_cil.registry import HOOKS
from mmseg_cil.utils.finite import ADVICE, require_finite_everywhere

#: The first iteration of a loss that is not finite, where all losses have been finite.
_NONE = 2**62


class _Record:
    """The first iteration in which losses of certain names were not finite, kept on their device.

    Args:
        values: Losses of an iteration.
    """

    def __init__(self, values: Tensor) -> None:
        self.first = torch.full((), _NONE, dtype=torch.int64, device=values.device)
        self.values = self.last = values

    def add(self, values: Tensor, iteration: int) -> None:
        """Note an iteration, without waiting for the values."""
        is_first = ~torch.isfinite(values).all() & (self.first == _NONE)
        self.first = torch.where(is_first, iteration, self.first)
        self.values = torch.where(is_first, values, self.values)
        self.last = values


@HOOKS.register_module()
class FiniteLossHook(StepHook):
    """A hook that ends the training at the first loss that is NaN or infinite.

    The iteration of such a loss, with the parts of the loss, is kept on the device
    and looked at every ``interval`` iterations, at the end, and before a state is
    saved; a process alone on the CPU looks in every iteration. All processes look
    at the same iterations and end together. Gradients that are not finite are
    left to the loss scaler of mixed precision, which skips them; without a scaler
    they spoil the weights, and so the next loss, or are found in the weights when
    these are to be saved.

    Args:
        step: The step in training.
        interval: Iterations between two looks.
        name: Name of the sub-step in training.
    """

    # The hook acts before the state is saved.
    priority = 'LOW'

    def __init__(self, step: int, interval: int = 50, name: str = '') -> None:
        self.step = step
        self.interval = interval
        self.name = name
        self._records: dict[tuple[str, ...], _Record] = {}
        self._names: tuple[str, ...] = ()
        self._rates: dict[int, float] = {}

    @property
    def place(self) -> str:
        """The name of the step or sub-step in training, in words."""
        return f'step {self.step}' + (f', sub-step {self.name}' if self.name else '')

    def before_train(self, runner: Runner) -> None:
        """Refuse initial weights that are not finite."""
        require_finite_everywhere(
            _state(runner),
            f'{self.place} begins with weights that are unusable',
            'They are those of the step before, of load_from, or pre-trained: give others',
        )

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        """Keep the learning rate of the iteration."""
        rates = runner.optim_wrapper.get_lr()
        first = next(iter(rates.values()), None)
        if first:
            self._rates[runner.iter] = first[0]

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: dict | None = None
    ) -> None:
        """Note the losses of an iteration, and look at them where that is due."""
        done = runner.iter + 1
        losses = (
            {
                name: value
                for name, value in (outputs or {}).items()
                if is_trained_on(name) and isinstance(value, Tensor)
            }
            if isinstance(outputs, Mapping)
            else {}
        )
        if losses:
            self._note(losses, runner.iter)
        device = next((loss.device.type for loss in losses.values()), 'cpu')
        alone = get_world_size() == 1 and device == 'cpu'
        if alone or done % self.interval == 0 or done >= runner.max_iters:
            self.look(runner)

    def _note(self, losses: Mapping[str, Tensor], iteration: int) -> None:
        device = next(iter(losses.values())).device
        values = torch.stack(
            [
                loss.detach().mean().to(device, torch.float32, non_blocking=True)
                for loss in losses.values()
            ]
        )
        # Some losses may not be there in every iteration.
        self._names = tuple(losses)
        if self._names not in self._records:
            self._records[self._names] = _Record(values)
        self._records[self._names].add(values, iteration)

    def look(self, runner: Runner) -> None:
        """Wait for the losses so far, and check them; every process must call this.

        Raises:
            InputError: In some process, a loss was not finite.
        """
        own = {names: int(record.first) for names, record in self._records.items()}
        first = torch.tensor(min(own.values(), default=_NONE))
        all_reduce(first, op='min')
        if first == _NONE:
            # The learning rates of past iterations are not needed any more.
            self._rates = {key: rate for key, rate in self._rates.items() if key >= runner.iter}
            return
        told = [
            _listed(names, self._records[names].values)
            for names, place in own.items()
            if place == first
        ]
        parts = [each for of_rank in all_gather_object(told) for each in of_rank]
        self._stop(runner, int(first), parts[0])

    def check_state(self, runner: Runner) -> None:
        """Check that the state to be saved is finite; every process must call this.

        Raises:
            InputError: A loss was not finite, or a weight is not.
        """
        self.look(runner)
        last = self._records.get(self._names)
        parts = '' if last is None else f' the loss is {_listed(self._names, last.last)}'
        require_finite_everywhere(
            _state(runner),
            f'{self.place}: training has diverged. At iteration {runner.iter + 1} '
            f'of {runner.max_iters}{parts}{self._rate(runner.iter)}, and of the weights after it',
            f'{ADVICE}. {self._saved(runner)}',
        )

    def _rate(self, iteration: int) -> str:
        rate = self._rates.get(iteration)
        return '' if rate is None else f', the learning rate {rate:g}'

    def _stop(self, runner: Runner, iteration: int, parts: str) -> None:
        raise InputError(
            f'{self.place}: training has diverged. At iteration {iteration + 1} of '
            f'{runner.max_iters} the loss is {parts}{self._rate(iteration)}. {ADVICE}. '
            f'{self._saved(runner)}'
        )

    def _saved(self, runner: Runner) -> str:
        return (
            f'Then start again with --resume --accept-changes, which begins {self.place} anew '
            f'(the steps before it stay); --resume alone goes on from {runner.work_dir}/'
            f'{RESUME_NAME}, the last state with finite weights, if there is one'
        )


def _listed(names: tuple[str, ...], losses: Tensor) -> str:
    """Return the total loss and its parts as a text, parts that are not finite first."""
    values = dict(zip(names, losses.tolist(), strict=True))
    total = values.pop('loss', math.nan)
    parts = sorted(values, key=lambda name: math.isfinite(values[name]))
    listed = ', '.join(f'{name} {values[name]:g}' for name in parts)
    return f'{total:g} ({listed})' if listed else f'{total:g}'


def _state(runner: Runner) -> dict[str, Tensor]:
    state: dict[str, Tensor] = network_of(runner).state_dict()
    return state
