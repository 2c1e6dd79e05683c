"""Walking one stock config over two steps, and what came of it."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import re
import signal
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, DefaultScope
from mmengine.runner import Runner
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmseg_cil.engine.preflight import parts
from mmseg_cil.engine.preflight.model import check_model
from mmseg_cil.engine.preflight.prepare import prepare_walk
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.errors import InputError
from mmseg_cil.registry import MODELS
from stock.catalogue import read
from stock.data import STEPS, on_tiny_data, write_data
from stock.shrink import crop_for, shrunk

WORKS, REFUSED, FAILS = 'works', 'refused', 'fails'


@HOOKS.register_module()
class QuickNormsHook(Hook):
    """Lets norms take the statistics of the last batch nearly whole.

    After two iterations with MMSegmentation's momentum they are far from what the network
    computes: a deep one without pre-trained weights (DDRNet, PIDNet) then overflows in evaluation
    mode, as a teacher runs.
    """

    def before_train(self, runner: Runner) -> None:
        """Give all batch norms their momentum."""
        for module in runner.model.modules():
            if isinstance(module, _BatchNorm):
                module.momentum = 0.9


def walk(file: str, method: str, rehearse: bool, folder: Path) -> dict[str, Any]:
    """Walk a stock config with a method; return what came of it and why.

    Args:
        file: Below MMSegmentation's configs.
        method: Name of a file in ``configs/_base_/methods``.
        rehearse: Whether the walk tries a batch before training, as walks do by default.
        folder: For data and work directory.
    """
    begun = False
    try:
        cfg = _config(file, method, folder)
        cfg.rehearsal = rehearse
        scheduler = WalkRunner(cfg, folder / 'w').open()
        begun = True
        scheduler.run()
        for step in range(len(STEPS)):
            _check_plain(folder / 'w' / f'step_{step:02d}')
        scores = json.loads((folder / 'w' / 'metrics.json').read_text())['steps']
        assert len(scores) == len(STEPS) and scores[-1]['mIoU']['all'] is not None
        _check_finite(folder / 'w')
    except InputError as error:
        return _result(FAILS if begun else REFUSED, str(error))
    except Exception as error:
        return _result(FAILS, _one_line(error), traceback.format_exc())
    return _result(WORKS)


def check_all(files: list[str], method: str, folder: Path) -> dict[str, Any]:
    """Check configs of one kind as a walk does before training; return the result of each.

    The network, which is what they share, is built for the first one alone.

    Args:
        files: Below MMSegmentation's configs.
        method: Name of a file in ``configs/_base_/methods``.
        folder: For data and work directories.
    """
    build = parts._network
    networks: dict[int, nn.Module] = {}

    def build_once(cfg: Config, step: int) -> nn.Module:
        check_model(cfg.model)
        if step not in networks:
            networks[step] = build(cfg, step)
        return networks[step]

    parts._network = build_once
    found = {file: check(file, method, folder / str(i)) for i, file in enumerate(files)}
    outcomes = collections.Counter(result['outcome'] for result in found.values())
    reasons = sorted({result['reason'] for result in found.values() if result['reason']})
    return dict(
        outcome=' '.join(f'{count} {name}' for name, count in outcomes.items()),
        reason=' | '.join(reasons),
        trace='',
        files=found,
    )


def check(file: str, method: str, folder: Path) -> dict[str, Any]:
    """Check a stock config as a walk does before training; return what came of it and why."""
    try:
        prepare_walk(_config(file, method, folder), folder / 'w')
    except InputError as error:
        return _result(REFUSED, str(error))
    except Exception as error:
        return _result(FAILS, _one_line(error), traceback.format_exc())
    return _result(WORKS)


def forked(run: Callable[..., dict[str, Any]], *args: Any, timeout: float) -> dict[str, Any]:
    """Run a function in a forked process with a folder of its own; return what it returns.

    Args:
        run: Called with ``args`` and the folder.
        args: Further arguments.
        timeout: Seconds until the process is ended.
    """
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix='stock_') as name:
        folder = Path(name)
        child = os.fork()
        if child == 0:
            _run_child(run, args, folder)
        ended = _wait(child, timeout)
        output = folder / 'result.json'
        result: dict[str, Any] = (
            json.loads(output.read_text())
            if output.is_file()
            else _result(
                FAILS, f'no end within {timeout:.0f} s' if not ended else 'the process died'
            )
        )
    return {**result, 'seconds': round(time.monotonic() - start, 1)}


def _run_child(run: Callable[..., dict[str, Any]], args: tuple[Any, ...], folder: Path) -> None:
    """Run the function and write what it returns; never return."""
    try:
        log = os.open(folder / 'log.txt', os.O_WRONLY | os.O_CREAT)
        os.dup2(log, 1)
        os.dup2(log, 2)
        result = run(*args, folder)
        (folder / 'result.tmp').write_text(json.dumps(result))
        (folder / 'result.tmp').rename(folder / 'result.json')
    finally:
        os._exit(0)


def _wait(child: int, seconds: float) -> bool:
    """Return whether a process ended in time; one that did not is ended."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if os.waitpid(child, os.WNOHANG)[0]:
            return True
        time.sleep(0.1)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def _config(file: str, method: str, folder: Path) -> Config:
    try:
        stock = read(file)
    except Exception as error:
        # As the command line says it, in one message.
        raise InputError(f'the config {file} cannot be read: {_one_line(error)}') from error
    size = crop_for(stock.model)
    data = write_data(folder / 'data', size)
    return on_tiny_data(stock, data, shrunk(stock.model.to_dict()), method, size)


def _check_plain(step: Path) -> None:
    """Make sure that MMSegmentation alone builds a step's network and takes its weights."""
    cfg = Config.fromfile(step / 'config.py')
    state = torch.load(step / 'checkpoint.pth', weights_only=True)['state_dict']
    with DefaultScope.overwrite_default_scope('mmseg'):
        network = MODELS.parent.build(cfg.model)
    network.load_state_dict(state, strict=True)
    bad = [name for name, value in state.items() if not value.isfinite().all()]
    assert not bad, f'weights that are not finite: {bad[:3]}'


def _check_finite(work_dir: Path) -> None:
    for path in work_dir.glob('step_*/*/vis_data/scalars.json'):
        for line in path.read_text().splitlines():
            values = json.loads(line)
            bad = [
                key
                for key, value in values.items()
                if isinstance(value, float) and value != value and 'loss' in key
            ]
            assert not bad, f'losses that are not numbers: {bad}'


def _one_line(error: Exception) -> str:
    return re.sub(r'\s+', ' ', f'{type(error).__name__}: {error}')[:400]


def _result(outcome: str, reason: str = '', trace: str = '') -> dict[str, Any]:
    return dict(outcome=outcome, reason=reason, trace=trace)
