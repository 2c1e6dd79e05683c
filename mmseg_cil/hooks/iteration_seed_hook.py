"""Random numbers that depend on the iteration alone, whether or not training was resumed."""

from __future__ import annotations

import random

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.runner import Runner
from torch import nn

from mmseg_cil.contracts import IterationSeeded, StepHook
from mmseg_cil.registry import HOOKS


@HOOKS.register_module()
class IterationSeedHook(StepHook):
    """A hook that seeds all generators at the start of every iteration.

    The seed is made of the run's seed, the step, the iteration and the rank,
    so that a resumed run draws the numbers (of dropout, say) that an unbroken run
    would have drawn, with no generator state in the checkpoint, on any number of
    processes. Every :class:`~mmseg_cil.contracts.IterationSeeded` module is handed a seed
    made of all but the rank, so that it draws the same numbers on all ranks.

    Args:
        seed: The run's seed.
        step: The walk's step.
    """

    priority = 'VERY_HIGH'
    rehearsed = True

    def __init__(self, seed: int, step: int) -> None:
        self.seed = seed
        self.step = step
        self._modules: list[IterationSeeded] | None = None

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        """Seed ``random``, NumPy and torch (all devices), and modules that draw for all ranks."""
        state = _state(self.seed, self.step, runner.iter, get_rank())
        random.seed(state)
        np.random.seed(state)
        torch.manual_seed(state)
        shared = _state(self.seed, self.step, runner.iter)
        for module in self._drawing(runner.model):
            module.set_iteration_seed(shared)

    def _drawing(self, model: nn.Module) -> list[IterationSeeded]:
        if self._modules is None:
            self._modules = [
                module for module in model.modules() if isinstance(module, IterationSeeded)
            ]
        return self._modules


def _state(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
