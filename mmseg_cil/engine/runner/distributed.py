"""The process group of a walk: one for all its steps, on CPU or GPU, on one node or several."""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
import torch.distributed as torch_dist
from mmengine.dist import barrier, get_world_size, init_dist

from mmseg_cil.errors import InputError
from mmseg_cil.utils.main_process import decided_by_main

Result = TypeVar('Result')

__all__ = [
    'LAUNCHERS',
    'batch_per_process',
    'decided_by_main',
    'leave_process_group',
    'main_process_first',
    'process_group',
    'setup_process_group',
]

LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')


@contextlib.contextmanager
def process_group(
    launcher: str, backend: str | None = None, timeout_s: int = 7200
) -> Iterator[None]:
    """Join the process group for a ``with`` block; arguments of :func:`setup_process_group`.

    The group is left in order, after an error too: the group's threads can abort a
    process that merely ends, whose exit status is then lost. Other processes that wait
    for a process that has left fail, and do not wait on.
    """
    setup_process_group(launcher, backend, timeout_s)
    try:
        yield
        if get_world_size() > 1:
            # No process leaves while another still works with the group.
            barrier()
    except BaseException:
        leave_process_group(failed=True)
        raise
    leave_process_group()


def leave_process_group(failed: bool = False) -> None:
    """Destroy the process group, where there is one.

    Args:
        failed: Whether this process leaves because of an error; the other processes may
            be waiting for it, or be dead.
    """
    if not torch_dist.is_initialized():
        return
    if failed and 'nccl' in torch_dist.get_backend():
        # Destroying would wait for the other processes; the end of this process does the rest.
        abort = getattr(torch_dist.group.WORLD, 'abort', None)
        if abort is not None:
            abort()
        return
    torch_dist.destroy_process_group()


def setup_process_group(launcher: str, backend: str | None = None, timeout_s: int = 7200) -> None:
    """Join the process group, where there is to be one.

    The group is made before any Runner, which would only know how to make one
    on GPUs, and stays up for all steps. On a machine without a GPU the backend
    is gloo. The timeout covers the work that rank 0 does alone: building the
    class index, and saving.

    Args:
        launcher: 'none' for a single process, else the launcher that started the processes.
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
        raise InputError(
            f'--launcher {launcher} needs the environment variable {needed}, which is '
            'not set: start through tools/dist_train.sh (torchrun) or srun'
        )
    try:
        if not torch.cuda.is_available() and launcher == 'pytorch':
            torch_dist.init_process_group(
                backend or 'gloo', timeout=datetime.timedelta(seconds=timeout_s)
            )
        else:
            init_dist(
                launcher,
                backend or ('nccl' if torch.cuda.is_available() else 'gloo'),
                timeout=timeout_s,
            )
    except (ValueError, KeyError, AssertionError) as error:
        # Variables are missing or no numbers, or the address is none.
        raise InputError(
            f'--launcher {launcher}: {error}; start through tools/dist_train.sh (torchrun) or srun'
        ) from error


def batch_per_process(global_batch: int, world_size: int) -> int:
    """Return the number of images that a process draws for one iteration.

    Raises:
        InputError: The processes do not divide the batch.
    """
    if global_batch < 1 or global_batch % world_size:
        divisors = [n for n in range(1, global_batch + 1) if global_batch % n == 0]
        raise InputError(
            f'global_batch_size={global_batch} cannot be shared by {world_size} processes: start '
            f'{divisors} of them, or set --cfg-options global_batch_size='
            f'{max(1, round(global_batch / world_size)) * world_size}'
        )
    return global_batch // world_size


def main_process_first(work: Callable[[], Result]) -> Result:
    """Do ``work`` on rank 0, then on the other processes, which find the files it cached.

    Where the processes share no file system, each process does all of the work. The errors are
    those of :func:`~mmseg_cil.utils.main_process.decided_by_main`.
    """
    own: list[Result] = []
    decided_by_main(lambda: own.append(work()))
    return own[0] if own else work()
