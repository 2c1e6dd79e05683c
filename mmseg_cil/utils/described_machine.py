"""MMEngine's description of the machine, made once for a process that has many Runners."""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from mmseg_cil.utils.deferred import deferred

#: The module whose ``collect_env`` a Runner calls.
_RUNNER = 'mmengine.runner.runner'
#: The one entry of the description that is of the moment.
_SEED = 'numpy_random_seed'


@contextlib.contextmanager
def described_once() -> Iterator[None]:
    """Let Runners in the block log the description of the machine that the first of them made.

    The description takes a process that asks the compiler for its version.
    """
    runner: Any = importlib.import_module(_RUNNER)
    collect = runner.collect_env
    runner.collect_env = lambda: _described(collect)
    try:
        yield
    finally:
        runner.collect_env = collect


def _described(collect: Any) -> dict[str, Any]:
    found = dict(_first(collect))
    if _SEED in found:
        found[_SEED] = np.random.get_state()[1][0]  # type: ignore[index]
    return found


@functools.cache
def _first(collect: Any) -> dict[str, Any]:
    # Only an error on Windows needs it, and it is a large package.
    with deferred({'distutils': ('errors',)}):
        described: dict[str, Any] = collect()
    return described
