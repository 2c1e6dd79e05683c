"""Garbage collection that looks at new objects alone."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def young_garbage() -> Iterator[None]:
    """Let the collector look only at objects made in the block, which is much faster."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
