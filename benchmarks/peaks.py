"""Measures of memory for the benchmarks, on a CPU and on a GPU."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

MEBI = 2**20


class Peak(NamedTuple):
    """Memory of a run, in MiB.

    Attributes:
        above: Greatest number of bytes in use during the run, beyond those in use before it.
        left: Bytes in use after it, beyond those before it.
    """

    above: float
    left: float


def peak_of(run: Callable[[], Any], device: str = 'cpu') -> Peak:
    """Run a function once and measure the memory of its tensors.

    On a GPU PyTorch's allocator counts. On a CPU PyTorch's profiler tells every allocation of the
    allocator and its release, those inside of operators included; buffers of libraries such as
    oneDNN are not among them, and neither is a release of what was allocated before.

    Args:
        run: Function without arguments; what it returns is dropped before the memory that is left
            is counted.
        device: 'cpu', or a name that begins with 'cuda'.
    """
    gc.collect()
    if device.startswith('cuda'):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        most, after = torch.cuda.max_memory_allocated(), torch.cuda.memory_allocated()
        return Peak((most - before) / MEBI, (after - before) / MEBI)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        run()
    # mypy: the profiler always has results after its block.
    events = profiled.profiler.kineto_results.events()  # type: ignore[union-attr]
    changes = [(event.start_ns(), event.nbytes()) for event in events if event.name() == '[memory]']
    now = most = 0
    for _, change in sorted(changes, key=lambda pair: pair[0]):
        now += change
        most = max(most, now)
    return Peak(most / MEBI, now / MEBI)


def saved_of(form: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> float:
    """Return the MiB that autograd keeps of a forward pass, beyond the inputs.

    Args:
        form: Function of the inputs.
        inputs: The first gets a gradient.
    """
    student = inputs[0].detach().requires_grad_()
    known = {given.untyped_storage().data_ptr() for given in (student, *inputs)}
    saved: dict[int, tuple[Tensor, int]] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            # The tensor is kept, or its address could be used again.
            saved[storage.data_ptr()] = tensor, storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        value = form(student, *inputs[1:])
    del value
    return sum(size for _, size in saved.values()) / MEBI


def resident_peak(run: Callable[[], Any]) -> float:
    """Run a function once and return by how many MiB the resident memory of the process grew.

    The figure is right for a process that has freed nothing before; Linux alone.

    Raises:
        OSError: The system tells no peak of the resident memory, or does not let it begin anew.
    """
    gc.collect()
    # 5 lets the peak begin anew at the present value.
    Path('/proc/self/clear_refs').write_text('5')
    before = resident('VmRSS')
    run()
    return resident('VmHWM') - before


def resident(key: str) -> float:
    """Return an entry of this process's status in MiB: VmRSS now, VmHWM at its peak."""
    for line in Path(f'/proc/{os.getpid()}/status').read_text().splitlines():
        if line.startswith(f'{key}:'):
            return int(line.split()[1]) / 1024
    raise OSError(f'this system tells no {key}')


def held_by(parts: list[Any], optimizer: torch.optim.Optimizer) -> float:
    """Return the MiB of what stays between steps: weights, buffers and the optimizer's state."""
    tensors = [tensor for part in parts for tensor in (*part.parameters(), *part.buffers())]
    tensors += [
        value
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, Tensor)
    ]
    sizes = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors
    }
    return sum(sizes.values()) / MEBI
