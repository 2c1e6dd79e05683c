"""The machinery that computes a walk: a change of it is no other setting, but other rounding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.dist import get_world_size

#: The names of these values in a note; a value that was not recorded is not compared.
_NAMES = {
    'processes': 'processes',
    'threads': 'threads a process',
    'device': 'device',
    'torch': 'PyTorch',
}


def computing() -> dict[str, Any]:
    """Return processes, threads, device and PyTorch, as far as they decide the rounding of sums."""
    on_gpu = torch.cuda.is_available()
    return {
        'processes': get_world_size(),
        # With a GPU, threads only load data, which come out the same.
        'threads': None if on_gpu else torch.get_num_threads(),
        'device': torch.cuda.get_device_name() if on_gpu else 'cpu',
        'torch': torch.__version__,
    }


def note_of_change(header: Mapping[str, Any]) -> str | None:
    """Return a note if the walk of a journal was computed otherwise so far; None if it was not.

    Args:
        header: Header of the journal.
    """
    before = {
        'processes': header.get('world_size'),
        'torch': (header.get('versions') or {}).get('torch'),
        **(header.get('computing') or {}),
    }
    now = computing()
    changes = [
        f'{name} {before[key]} before, {now[key]} now'
        for key, name in _NAMES.items()
        if None not in (before.get(key), now[key]) and before[key] != now[key]
    ]
    if not changes:
        return None
    return (
        f'note: this walk goes on with another way of computing ({"; ".join(changes)}): sums '
        'are rounded otherwise, so its weights will not be bit for bit those of an unbroken '
        'walk'
    )
