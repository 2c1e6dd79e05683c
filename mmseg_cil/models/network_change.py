"""The plain form of a changed network, for a while; see :class:`NetworkChange`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from mmseg_cil.contracts import NetworkChange

#: File in a step's folder with the tensors that a change hands on to the next step.
CHANGE_NAME = 'network_change.pth'


@contextmanager
def plain_weights(model: nn.Module) -> Iterator[None]:
    """Give a segmentor its plain form in the block, in which its initial weights are loaded.

    Args:
        model: The segmentor. A segmentor without a change stays as it is.
    """
    change, kept = getattr(model, '_change', None), getattr(model, '_change_file', None)
    if not isinstance(change, NetworkChange):
        yield
        return
    with change.plain_form(model):
        yield
    change.begin(model, kept)
