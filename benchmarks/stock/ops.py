"""Plain PyTorch in place of compiled operators that the installed MMCV may lack.

CCNet, PSANet and PointRend import theirs from ``mmcv.ops``, which is there only where MMCV
was compiled. The operators here compute the same, slower.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

_Places = tuple[int, tuple[Tensor, Tensor], Tensor, tuple[Tensor, Tensor]]


def stand_in() -> bool:
    """Put plain operators in place of the compiled ones, where these are missing.

    It must be called before MMSegmentation is imported.

    Returns:
        Whether they were missing.
    """
    try:
        importlib.import_module('mmcv._ext')
    except ImportError:
        sys.modules['mmcv._ext'] = _Operators('mmcv._ext')
        importlib.import_module('mmcv.ops')
        # MMEngine asks for the module whether MMCV was compiled, which it was not.
        del sys.modules['mmcv._ext']
        return True
    return False


class _Operators(ModuleType):
    """The module of compiled operators: those that are not below fail when they are called."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__'):
            raise AttributeError(name)

        def missing(*args: Any, **kwargs: Any) -> None:
            raise NotImplementedError(f'{name} is not compiled')

        return missing

    @staticmethod
    def psamask_forward(attention: Tensor, output: Tensor, **sizes: int) -> None:
        """Put a position's attention to each neighbour at the neighbour's place in the map."""
        for mask, (y, x), channel, (row, column) in _neighbours(**sizes):
            output[:, channel, row, column] = attention[:, mask, y, x]

    @staticmethod
    def psamask_backward(gradient: Tensor, result: Tensor, **sizes: int) -> None:
        """Collect the gradients of :meth:`psamask_forward`."""
        for mask, (y, x), channel, (row, column) in _neighbours(**sizes):
            result[:, mask, y, x] = gradient[:, channel, row, column]


def _neighbours(
    psa_type: int,
    num_: int,
    h_feature: int,
    w_feature: int,
    h_mask: int,
    w_mask: int,
    half_h_mask: int,
    half_w_mask: int,
) -> Iterator[_Places]:
    """Yield for each entry of the mask its number, the positions, and where they are written.

    Type 0, 'collect', writes at the position, in the channel of the neighbour; type 1,
    'distribute', writes at the neighbour, in the channel of the position.
    """
    rows, columns = torch.meshgrid(torch.arange(h_feature), torch.arange(w_feature), indexing='ij')
    for i in range(h_mask):
        for j in range(w_mask):
            down, right = rows + i - half_h_mask, columns + j - half_w_mask
            inside = (down >= 0) & (down < h_feature) & (right >= 0) & (right < w_feature)
            own, other = (rows[inside], columns[inside]), (down[inside], right[inside])
            channel, place = (other, own) if psa_type == 0 else (own, other)
            yield i * w_mask + j, own, channel[0] * w_feature + channel[1], place
