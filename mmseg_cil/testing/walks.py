"""A protocol, a log, a kill in the middle of a walk, and what is compared afterwards."""

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

#: Whether an iteration that is about to begin is the one to be killed in.
When = Callable[[IterationSeedHook, Runner], bool]


def seasons(*steps: Sequence[str]) -> dict[str, Any]:
    """Return the protocol of a walk over domains of the tiny data.

    Args:
        steps: For every step, which of the domains 'early', 'late' and 'last' it
            trains on: pictures 0 to 3, 4 to 9 and 10 to 15.
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
    # Else a test of all lines would pass without any.
    assert trained, f'no iteration is logged in {folder}'
    return trained


class Killed(Exception):
    """Ends a walk where the death of its process would."""


def at(step: int, iteration: int) -> When:
    """Return an iteration of a step, for :func:`killed`."""
    return lambda hook, runner: hook.step == step and runner.iter == iteration


@contextlib.contextmanager
def killed(when: When) -> Iterator[None]:
    """Kill the walk in the block before the first iteration that fits; it must come to that.

    Args:
        when: Says it of the hook that seeds an iteration, and its Runner.

    Raises:
        AssertionError: It did not come to that.
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


def assert_same_weights(one: Path, other: Path, *steps: int) -> None:
    """Make sure that the checkpoints of two walks are equal bit by bit.

    Raises:
        AssertionError: A weight is missing or differs; the message names it and its step.
    """
    for step in steps:
        expected, found = weights(one, step), weights(other, step)
        assert expected.keys() == found.keys(), step
        for key, value in expected.items():
            assert torch.equal(value, found[key]), (step, key)


def keep_own_networks(folder: Path) -> None:
    """From now on this process saves every step's network as its own ``STEP_RANK.pth``."""
    save = WalkRunner._save_step

    def keep(self: WalkRunner, step: int, runner: Runner, *args: Any) -> None:
        save(self, step, runner, *args)
        state = network_of(runner).state_dict()
        torch.save(state, folder / f'{step}_{get_rank()}.pth')

    WalkRunner._save_step = keep  # type: ignore[method-assign, assignment]
