"""Optimizers that do without PyTorch's compiler while nobody has imported it.

Methods of PyTorch's optimizers import ``torch._dynamo``, which takes about a second, only to tell
the compiler to pass over them. A process that compiles nothing has nobody to tell. Once something
has imported the compiler (``torch.compile`` does), the methods are PyTorch's own again.
"""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer

_COMPILER = 'torch._dynamo'
#: The attribute of a function that holds its form that the compiler passes over.
_PASSED_OVER = '__dynamo_disable'


def spare_compiler() -> None:
    """Let the optimizers of :mod:`torch.optim` do without the compiler until it is imported.

    Methods of another form than that of the PyTorch versions known here stay as they are.
    """
    passed_over, differentiable = _passed_over_code(), _differentiable_code()
    for method in vars(Optimizer).values():
        if _code(method) is passed_over is not None:
            _spare_passed_over(method)
    for kind in list(vars(torch.optim).values()):
        step = vars(kind).get('step') if isinstance(kind, type) else None
        if _code(step) is differentiable is not None:
            kind.step = _spared_step(step)


def _spare_passed_over(method: Any) -> None:
    """Spare a method that is decorated with ``torch._disable_dynamo``."""
    function = method.__wrapped__

    @functools.wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        if _COMPILER not in sys.modules:
            return function(*args, **options)
        # Without this attribute, the method makes the form that is passed over.
        if getattr(function, _PASSED_OVER, None) is call:
            delattr(function, _PASSED_OVER)
        return method(*args, **options)

    if not hasattr(function, _PASSED_OVER):
        setattr(function, _PASSED_OVER, call)


def _spared_step(step: Any) -> Callable[..., Any]:
    """Return the spared form of a ``step`` that PyTorch runs with ``differentiable`` gradients."""
    function = step.__wrapped__

    @functools.wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        if _COMPILER in sys.modules:
            return step(*args, **options)
        with torch.set_grad_enabled(args[0].defaults['differentiable']):
            return function(*args, **options)

    return call


def _code(function: Any) -> types.CodeType | None:
    wraps = getattr(function, '__wrapped__', None) is not None
    return getattr(function, '__code__', None) if wraps else None


def _nothing() -> None:
    """Do nothing; PyTorch's decorators are looked at on this function."""


def _passed_over_code() -> types.CodeType | None:
    """Return the code of methods that the compiler passes over; None in another PyTorch."""
    try:
        from torch._compile import _disable_dynamo

        code = _code(_disable_dynamo(_nothing))
    except (ImportError, AttributeError, TypeError):
        return None
    return code if code is not None and _PASSED_OVER in code.co_consts else None


def _differentiable_code() -> types.CodeType | None:
    """Return the code of optimizers' steps; None in another PyTorch."""
    try:
        from torch.optim.optimizer import _use_grad_for_differentiable

        code = _code(_use_grad_for_differentiable(_nothing))
    except (ImportError, AttributeError, TypeError):
        return None
    known = {'_dynamo', 'graph_break', 'set_grad_enabled'}
    return code if code is not None and known <= set(code.co_names) else None
