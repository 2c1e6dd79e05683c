"""Giving a changed network its plain form for a while; see :class:`NetworkChange`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from mmseg_cil.contracts import NetworkChange

#: What a change hands on to the next step, in a step's folder.
CHANGE_NAME = 'network_change.pth'


@contextmanager
def plain_weights(model: nn.Module) -> Iterator[None]:
    """Give a segmentor its plain form in the block, in which it takes weights to begin with.

    Args:
        model: The segmentor. One that nothing changes stays as it is.
    """
    change, kept = getattr(model, '_change', None), getattr(model, '_change_file', None)
    if not isinstance(change, NetworkChange):
        yield
        return
    with change.plain_form(model):
        yield
    change.begin(model, kept)
