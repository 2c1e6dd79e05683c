"""The state of a process that a trial before training changes, and its restoration."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import random
import warnings
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import torch
import torch.distributed as torch_dist
import torch.multiprocessing
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope, init_default_scope
from mmengine.visualization import Visualizer

from mmseg_cil.engine.config.step_visualizer import kinds_of
from mmseg_cil.utils.young_garbage import young_garbage


@contextlib.contextmanager
def clean_state() -> Iterator[None]:
    """Silence a block, and restore the state of the process that training in it may change.

    Output and warnings of the block are not shown; a warning is shown when it is given again
    later. :func:`restored_state` says which state is restored.
    """
    with restored_state(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter('ignore')
        yield


@contextlib.contextmanager
def restored_state() -> Iterator[None]:
    """Restore, after a block, the state of the process that training in it may change.

    This state consists of random states, flags of cuDNN, of determinism and of worker processes,
    the number of threads, filters of warnings, environment variables, and the instances that
    MMEngine keeps by name (loggers, message hubs, visualizers, scopes). Memory of GPUs is
    released. State that a user's own modules keep in themselves is unknown and stays.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(young_garbage())
        stack.callback(_free_memory)
        for kept in (_random_states, _flags, _environment, _instances, warnings.catch_warnings):
            stack.enter_context(kept())
        yield


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Let a block run as if there were no other processes, though there is a process group.

    Nothing in the block waits for other processes: neither MMEngine's functions nor PyTorch's
    norms over all processes. The other processes may wait for this one meanwhile.
    """
    former = torch_dist.is_initialized
    torch_dist.is_initialized = lambda: False
    try:
        yield
    finally:
        torch_dist.is_initialized = former


@contextlib.contextmanager
def _random_states() -> Iterator[None]:
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
        if devices is not None:
            torch.cuda.set_rng_state_all(devices)
        elif torch.cuda.is_initialized():
            # Without the block, the devices would have begun with the CPU's seed.
            torch.cuda.manual_seed_all(torch.initial_seed())


@contextlib.contextmanager
def _flags() -> Iterator[None]:
    cudnn = torch.backends.cudnn
    former = cudnn.benchmark, cudnn.deterministic
    determinism = _determinism()
    workers = torch.multiprocessing.get_start_method(allow_none=True)
    threads, torch_threads = cv2.getNumThreads(), torch.get_num_threads()
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.deterministic = former
        if determinism != _determinism():
            # To set it, PyTorch imports its compiler, which takes about a second.
            torch.use_deterministic_algorithms(determinism[0], warn_only=determinism[1])
        torch.multiprocessing.set_start_method(workers, force=True)
        cv2.setNumThreads(threads)
        torch.set_num_threads(torch_threads)


def _determinism() -> tuple[bool, bool]:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    former = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - former.keys():
            del os.environ[name]
        os.environ.update(former)


@contextlib.contextmanager
def _instances() -> Iterator[None]:
    # Each class has a dictionary, some classes share one, and MMEngine replaces some.
    former = {kind: (kind._instance_dict, dict(kind._instance_dict)) for kind in _managers()}
    for instances, _ in former.values():
        instances.clear()
    init_default_scope('mmseg_cil')
    try:
        yield
    finally:
        for kind in _managers():
            kind._instance_dict.clear()
        for kind, (instances, content) in former.items():
            kind._instance_dict = instances
            instances.clear()
            instances.update(content)


def _managers() -> Iterator[Any]:
    for base in (MMLogger, MessageHub, Visualizer, DefaultScope):
        yield from kinds_of(base)


def _free_memory() -> None:
    gc.collect()
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
        # The peak is logged as the memory that training needs.
        torch.cuda.reset_peak_memory_stats()
