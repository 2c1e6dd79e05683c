"""Two processes of one job on this machine, started as torchrun would start them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

FOLDER = Path(__file__).parent

#: Calls ``MODULE NAME ARGUMENT ...`` as one process of a group.
CALL = """
import importlib, sys
import torch
from mmseg_cil.engine.runner.distributed import process_group
torch.set_num_threads(1)
module, name, *arguments = sys.argv[1:]
with process_group('pytorch', 'gloo'):
    getattr(importlib.import_module(module), name)(*arguments)
"""


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return int(probe.getsockname()[1])


def start_two(arguments: Sequence[str | Path], log: Path) -> list[subprocess.Popen]:
    """Starts ``python ARGUMENTS`` as ranks 0 and 1; output goes to ``LOG.0`` and ``LOG.1``."""
    common = {
        'OMP_NUM_THREADS': '1',
        'CUDA_VISIBLE_DEVICES': '-1',
        'WORLD_SIZE': '2',
        'MASTER_ADDR': '127.0.0.1',
        'MASTER_PORT': str(free_port()),
        'PYTHONPATH': str(FOLDER),
    }
    processes = []
    for rank in range(2):
        own = {'RANK': str(rank), 'LOCAL_RANK': str(rank)}
        with open(f'{log}.{rank}', 'w') as file:
            processes.append(
                subprocess.Popen(
                    [sys.executable, *map(str, arguments)],
                    stdout=file,
                    stderr=file,
                    env={**os.environ, **common, **own},
                )
            )
    return processes


def run_two(
    arguments: Sequence[str | Path], log: Path, timeout: float = 240
) -> list[tuple[int, str]]:
    """Exit status and output of both ranks; both are killed when the time is over."""
    processes = start_two(arguments, log)
    try:
        statuses = [process.wait(timeout) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return [(status, Path(f'{log}.{rank}').read_text()) for rank, status in enumerate(statuses)]


def in_two_processes(
    function: Callable[..., object], *arguments: str | Path, log: Path, timeout: float = 240
) -> None:
    """Calls a function in both processes of a group; both must return from it.

    Args:
        function: Of a module of this folder, at its top level.
        arguments: The function is given them as strings.
        log: As in :func:`start_two`.
        timeout: Seconds after which both are killed.
    """
    call = ['-c', CALL, function.__module__, function.__name__, *arguments]
    for status, output in run_two(call, log, timeout):
        assert status == 0, output[-3000:]
