"""Numbers of a config that are NaN or infinite."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from mmengine.config import Config

from mmseg_cil.errors import InputError

#: Settings that may be infinite: in ``clip_grad``, an infinite norm type is the largest element.
_MAY_BE_INFINITE = ('norm_type',)


def require_finite_settings(cfg: Config | Mapping[str, Any]) -> None:
    """Refuse a config in which a number is NaN or infinite, wherever it stands.

    Args:
        cfg: The user's config with ``--cfg-options``, where ``nan`` and ``inf`` are numbers too.

    Raises:
        InputError: A number is NaN or infinite.
    """
    for key, value in _not_finite(cfg, ''):
        raise InputError(f'{key} is {value}; it must be a finite number')


def _not_finite(node: Any, where: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping | Config):
        for key, value in node.items():
            yield from _not_finite(value, f'{where}.{key}' if where else str(key))
    elif isinstance(node, (list, tuple, set)):
        for i, value in enumerate(node):
            yield from _not_finite(value, f'{where}.{i}')
    elif isinstance(node, (float, np.floating)) and not math.isfinite(node):
        may_be = where.rpartition('.')[2] in _MAY_BE_INFINITE and node == math.inf
        if not may_be:
            yield where, float(node)
    elif (
        isinstance(node, np.ndarray)
        and np.issubdtype(node.dtype, np.inexact)
        and not np.isfinite(node).all()
    ):
        yield where, 'an array with NaN or infinity'
