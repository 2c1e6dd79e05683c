"""Arguments of PyTorch's compiler as a config has them, for the student and for teachers."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from mmseg_cil.errors import InputError
from mmseg_cil.utils.near import near

#: Arguments of ``torch.compile`` besides the model.
OPTIONS = ('fullgraph', 'dynamic', 'backend', 'mode', 'options', 'disable')
#: Modes whose graphs reuse the memory of their outputs, which losses still read.
_CUDA_GRAPHS = ('reduce-overhead', 'max-autotune')
_INDUCTOR = 'inductor'


def compile_options(value: Any, key: str = 'compile') -> dict[str, Any] | None:
    """Read the key ``compile`` of a config, which MMEngine's Runner has too.

    Random numbers of compiled code are those that the plain code would draw (PyTorch's
    ``fallback_random``), so that compiling does not change which units dropout leaves out.

    Args:
        value: True, False, None, or a dict of arguments of ``torch.compile``.
        key: Where the config has it, for messages.

    Returns:
        Arguments of ``torch.compile``; None where nothing is compiled.

    Raises:
        InputError: The value cannot be used.
    """
    if value is None or value is False:
        return None
    if value is not True and not isinstance(value, Mapping):
        raise InputError(
            f'{key} is {value!r}; it must be True, False or a dict of arguments of '
            "torch.compile, such as dict(backend='inductor')"
        )
    options = {} if value is True else dict(value)
    for name in options:
        if name not in OPTIONS:
            meant = near(str(name), OPTIONS)
            hint = f'did you mean {meant!r}? It' if meant else 'it'
            raise InputError(f'{key} has the unknown key {name!r}: {hint} has {list(OPTIONS)}')
    if options.get('mode') in _CUDA_GRAPHS:
        raise InputError(
            f'{key}.mode is {options["mode"]!r}, which uses CUDA graphs: these overwrite '
            "maps that a method's losses read later: use 'default' or 'max-autotune-no-cudagraphs'"
        )
    if options.get('backend', _INDUCTOR) == _INDUCTOR:
        mode = options.pop('mode', None)
        known = {} if mode in (None, 'default') else _options_of_mode(mode, key)
        options['options'] = {**known, 'fallback_random': True, **(options.get('options') or {})}
    return options


def _options_of_mode(mode: str, key: str) -> dict[str, Any]:
    from torch._inductor import list_mode_options

    try:
        return dict(list_mode_options(mode))
    except RuntimeError as error:
        raise InputError(f'{key}.mode is {mode!r}: {error}') from error


def try_compiler(value: Any) -> None:
    """Compile a line of code with the options of a config, to find out whether that works.

    Args:
        value: The key ``compile`` of a config.

    Raises:
        InputError: The options are wrong, or there is no compiler.
    """
    options = compile_options(value)
    if options is None:
        return
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    # A line of its own, for a function that PyTorch has compiled once is not compiled again.
    line: Callable[..., Any] = own_code(lambda module, inputs: inputs.sin() + 1)
    try:
        torch.compile(line, **options)(None, torch.zeros(4, device=device))
    except Exception as error:
        text = ' '.join(str(error).split())
        raise InputError(
            f'compile={value!r} does not work here ({type(error).__name__}: {text[:300]}): on CPUs '
            'PyTorch needs a C++ compiler (g++), on GPUs Triton; leave compile out, or name '
            'another backend'
        ) from error
    finally:
        torch._dynamo.reset()


def own_code(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that calls another, with a code object of its own.

    PyTorch counts how often it has compiled a code object, and gives up after some times. Blocks of
    one class share their code, so each needs a function of its own.
    """

    def call(module: nn.Module | None, *inputs: Any, **named: Any) -> Any:
        return forward(module, *inputs, **named)

    assert inspect.isfunction(call)
    return types.FunctionType(
        call.__code__.replace(), call.__globals__, call.__name__, None, call.__closure__
    )
