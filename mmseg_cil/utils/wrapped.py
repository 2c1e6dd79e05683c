"""Access to networks inside the wrappers that training puts around them."""

from __future__ import annotations

from mmengine.model import is_model_wrapper
from torch import nn


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the network inside a distributed wrapper, or the network itself without a wrapper.

    Args:
        model: The model of a Runner.
    """
    return model.module if is_model_wrapper(model) else model  # type: ignore[return-value]
