"""Random numbers that depend on where training stands, not on how it came there."""

from __future__ import annotations

import random

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmseg_cil.registry import HOOKS


@HOOKS.register_module()
class IterationSeedHook(Hook):
    """Seeds all generators at the start of every iteration.

    The seed is made of the run's seed, the step, the iteration and the rank,
    so that a resumed run draws what the unbroken one would have drawn (dropout,
    say) with no generator state in the checkpoint, on any number of processes.

    Args:
        seed: The run's seed.
        step: The walk's step.
    """

    priority = 'VERY_HIGH'

    def __init__(self, seed: int, step: int) -> None:
        self.seed = seed
        self.step = step

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        """Seeds ``random``, NumPy and torch (all devices)."""
        sequence = np.random.SeedSequence((self.seed, self.step, runner.iter, get_rank()))
        state = int(sequence.generate_state(1)[0])
        random.seed(state)
        np.random.seed(state)
        torch.manual_seed(state)
