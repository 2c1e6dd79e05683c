"""The number format in which losses are computed."""

from __future__ import annotations

from torch import Tensor


def at_least_float32(logits: Tensor) -> Tensor:
    """Convert half precision to float32; float32 and float64 stay as they are.

    Under autocast a network's logits come in float16 or bfloat16, and
    ``logsumexp`` and ``logaddexp``, unlike ``log_softmax``, are not among the
    functions that autocast computes in float32. An explicit conversion gives our
    losses the precision (and the memory) of PyTorch's cross-entropy.
    """
    return logits.float() if logits.itemsize < 4 else logits
