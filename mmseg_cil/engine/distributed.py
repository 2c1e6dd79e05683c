"""The process group of a walk: one for all its steps, on CPU or GPU, on one node or several."""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable
from typing import TypeVar

import torch
import torch.distributed as torch_dist
from mmengine.dist import barrier, get_dist_info, init_dist

from mmseg_cil.errors import InputError

Result = TypeVar('Result')

LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')


def setup_process_group(launcher: str, backend: str | None = None, timeout_s: int = 7200) -> None:
    """Joins the process group, where there is to be one.

    It is made before any Runner, which would only know how to make one on
    GPUs, and stays up for all steps. On a machine without a GPU the backend is
    gloo. The timeout covers what the main process does alone: building the
    class index, and saving.

    Args:
        launcher: 'none' for a single process, else who started the processes.
        backend: 'nccl', 'gloo', ...; by default nccl where there is a GPU.
        timeout_s: Seconds after which a process that waits for another gives up.

    Raises:
        InputError: The launcher is unknown, or its environment variables are missing.
    """
    if launcher not in LAUNCHERS:
        raise InputError(f'unknown --launcher {launcher!r}: use one of {list(LAUNCHERS)}')
    if launcher == 'none' or torch_dist.is_initialized():
        return
    needed = {'pytorch': 'RANK', 'slurm': 'SLURM_PROCID', 'mpi': 'OMPI_COMM_WORLD_RANK'}[launcher]
    if needed not in os.environ:
        raise InputError(f'--launcher {launcher} needs the environment variable {needed}, which is '
                         'not set: start through tools/dist_train.sh (torchrun) or srun')
    if not torch.cuda.is_available() and launcher == 'pytorch':
        torch_dist.init_process_group(
            backend or 'gloo', timeout=datetime.timedelta(seconds=timeout_s))
    else:
        init_dist(launcher, backend or ('nccl' if torch.cuda.is_available() else 'gloo'),
                  timeout=timeout_s)


def batch_per_process(global_batch: int, world_size: int) -> int:
    """Images a process draws for one iteration.

    Raises:
        InputError: The processes do not divide the batch.
    """
    if global_batch < 1 or global_batch % world_size:
        divisors = [n for n in range(1, global_batch + 1) if global_batch % n == 0]
        raise InputError(
            f'global_batch_size={global_batch} cannot be shared by {world_size} processes: start '
            f'{divisors} of them, or set --cfg-options global_batch_size='
            f'{max(1, round(global_batch / world_size)) * world_size}')
    return global_batch // world_size


def main_process_first(work: Callable[[], Result]) -> Result:
    """Does ``work`` on the main process, then on the others, which find what it cached.

    Where the processes share no file system, each does all of it.
    """
    rank, world_size = get_dist_info()
    if rank == 0:
        result = work()
    if world_size > 1:
        barrier()
    return result if rank == 0 else work()
