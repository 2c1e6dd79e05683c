"""Looking for garbage only among what is new."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def young_garbage() -> Iterator[None]:
    """Let the collector look, in a block, only through what is made in it: that is much faster."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
