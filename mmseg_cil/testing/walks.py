"""Helpers for tests of walks: a protocol by domain, logs, kills and comparisons of weights."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from mmengine.dist import get_rank
from mmengine.runner import Runner

from mmseg_cil.contracts import network_of
from mmseg_cil.engine.paths import step_folder
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.hooks import IterationSeedHook
from mmseg_cil.testing.tiny import weights

#: Function that tells whether to kill the walk before the next iteration.
When = Callable[[IterationSeedHook, Runner], bool]


def seasons(*steps: Sequence[str]) -> dict[str, Any]:
    """Return the protocol of a walk over domains of the tiny data.

    Args:
        steps: For every step the domains that it trains on, among 'early', 'late' and
            'last': pictures 0 to 3, 4 to 9 and 10 to 15.
    """
    patterns = dict(early='*_00[0-3]', late='*_00[4-9]', last='*_01*')
    return dict(
        name='seasons',
        dataset='tiny',
        domain_steps=[list(domains) for domains in steps],
        domains=[dict(name=name, pattern=pattern) for name, pattern in patterns.items()],
    )


def logged(work_dir: Path, step: int, sub_step: str = '') -> list[dict[str, Any]]:
    """Return the scalars of the training iterations of a step, or of a sub-step of it."""
    folder = step_folder(work_dir, step) / sub_step
    lines = [
        json.loads(line)
        for path in sorted(folder.glob('*/vis_data/scalars.json'))
        for line in path.read_text().splitlines()
    ]
    trained = [line for line in lines if 'loss' in line]
    # Without this check, a test of all lines would pass if there were none.
    assert trained, f'no iteration is logged in {folder}'
    return trained


class Killed(Exception):
    """The exception that ends a walk where the death of its process would."""


def at(step: int, iteration: int) -> When:
    """Return the condition of an iteration of a step, for :func:`killed`."""
    return lambda hook, runner: hook.step == step and runner.iter == iteration


@contextlib.contextmanager
def killed(when: When) -> Iterator[None]:
    """Kill the walk in the block before the first iteration that fits; there must be one.

    Args:
        when: Condition on the hook that seeds the iterations, and on its Runner.

    Raises:
        AssertionError: The block ended without such an iteration.
    """
    before = IterationSeedHook.before_train_iter

    def kill(self: IterationSeedHook, runner: Runner, *args: Any, **kwargs: Any) -> None:
        if when(self, runner):
            raise Killed
        before(self, runner, *args, **kwargs)

    with mock.patch.object(IterationSeedHook, 'before_train_iter', kill):
        try:
            yield
        except Killed:
            return
    raise AssertionError('the walk ended before the iteration that it was to be killed in')


def assert_same_weights(first: Path, other: Path, *steps: int) -> None:
    """Make sure that the checkpoints of two walks are equal bit by bit.

    Raises:
        AssertionError: A weight is missing or differs; the message names it and its step.
    """
    for step in steps:
        expected, found = weights(first, step), weights(other, step)
        assert expected.keys() == found.keys(), step
        for key, value in expected.items():
            assert torch.equal(value, found[key]), (step, key)


def keep_own_networks(folder: Path) -> None:
    """Make this process save every later step's network as its own ``STEP_RANK.pth``."""
    save = WalkRunner._save_step

    def keep(self: WalkRunner, step: int, runner: Runner, *args: Any) -> None:
        save(self, step, runner, *args)
        state = network_of(runner).state_dict()
        torch.save(state, folder / f'{step}_{get_rank()}.pth')

    WalkRunner._save_step = keep  # type: ignore[method-assign, assignment]
