"""Two processes of one job on this machine, started as torchrun would start them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

FOLDER = Path(__file__).parent


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return int(probe.getsockname()[1])


def start_two(arguments: Sequence[str | Path], log: Path) -> list[subprocess.Popen]:
    """Starts ``python ARGUMENTS`` as ranks 0 and 1; output goes to ``LOG.0`` and ``LOG.1``."""
    common = {'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': '-1', 'WORLD_SIZE': '2',
              'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': str(free_port()),
              'PYTHONPATH': str(FOLDER)}
    processes = []
    for rank in range(2):
        own = {'RANK': str(rank), 'LOCAL_RANK': str(rank)}
        with open(f'{log}.{rank}', 'w') as file:
            processes.append(subprocess.Popen(
                [sys.executable, *map(str, arguments)], stdout=file, stderr=file,
                env={**os.environ, **common, **own}))
    return processes


def run_two(arguments: Sequence[str | Path], log: Path,
            timeout: float = 240) -> list[tuple[int, str]]:
    """Exit status and output of both ranks; both are killed when the time is over."""
    processes = start_two(arguments, log)
    try:
        statuses = [process.wait(timeout) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return [(status, Path(f'{log}.{rank}').read_text()) for rank, status in enumerate(statuses)]
