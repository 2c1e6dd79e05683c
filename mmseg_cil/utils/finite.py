"""Search for weights and losses that are no finite numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from mmengine.dist import all_reduce
from torch import Tensor

from mmseg_cil.errors import InputError

#: Advice for the message where training has diverged.
ADVICE = (
    'Lower the learning rate (optim_wrapper.optimizer.lr, or lr in step_overrides) or the '
    'weight of the loss that is not finite, limit gradients '
    '(optim_wrapper.clip_grad=dict(max_norm=...)), begin with a warm-up (LinearLR in '
    'param_scheduler), or leave mixed precision (--amp) away'
)


def not_finite(tensors: Mapping[str, Any]) -> list[str]:
    """Return the names of the tensors that hold NaN or an infinity; wait for the device once.

    An additive mask, of zeros and negative infinities alone, is sound.

    Args:
        tensors: Values by name; values without floating-point numbers are passed over.
    """
    floating = {
        name: value
        for name, value in tensors.items()
        if isinstance(value, Tensor)
        and (value.is_floating_point() or value.is_complex())
        and value.numel()
    }
    by_device: dict[torch.device, list[str]] = {}
    for name, value in floating.items():
        by_device.setdefault(value.device, []).append(name)
    suspects: list[str] = []
    for names in by_device.values():
        flags = torch.stack([torch.isfinite(floating[name]).all() for name in names]).tolist()
        suspects += [name for name, fine in zip(names, flags, strict=True) if not fine]
    return [name for name in suspects if not _is_mask(floating[name])]


def _is_mask(value: Tensor) -> bool:
    if value.is_complex() or not (value == 0).any():
        return False
    return bool(((value == 0) | (value == -torch.inf)).all())


def require_finite(tensors: Mapping[str, Any], what: str, advice: str) -> None:
    """Refuse weights that hold NaN or an infinity.

    Args:
        tensors: Values by name.
        what: Description of the owner of the weights, for the message.
        advice: A sentence of advice, for the message.

    Raises:
        InputError: Some weights hold NaN or an infinity.
    """
    _refuse(not_finite(tensors), what, advice)


def require_finite_everywhere(tensors: Mapping[str, Any], what: str, advice: str) -> None:
    """Refuse as :func:`require_finite` does, in all processes as soon as one finds any."""
    found = not_finite(tensors)
    number = torch.tensor(len(found))
    # Parameters are equal in all processes, but norm statistics need not be.
    all_reduce(number, op='max')
    if number and not found:
        raise InputError(f'{what}: some hold NaN or infinity, in another process. {advice}')
    _refuse(found, what, advice)


def _refuse(found: list[str], what: str, advice: str) -> None:
    if found:
        raise InputError(f'{what}: {named(found)} hold NaN or infinity. {advice}')


def named(names: Iterable[str], most: int = 3) -> str:
    """Return names for a message: the first few, and the number of the others."""
    listed = list(names)
    rest = len(listed) - most
    return ', '.join(listed[:most]) + (f' and {rest} more' if rest > 0 else '')
