"""Networks out of the wrappers that training puts around them."""

from __future__ import annotations

from mmengine.model import is_model_wrapper
from torch import nn


def unwrapped(model: nn.Module) -> nn.Module:
    """Return a network out of its distributed wrapper, or as it is where it has none.

    Args:
        model: As a Runner holds it.
    """
    return model.module if is_model_wrapper(model) else model  # type: ignore[return-value]
