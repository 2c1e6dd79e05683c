"""Parts of a network that PyTorch's compiler runs while the network trains."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any

import torch
from mmseg.models.decode_heads import IterativeDecodeHead, PointHead
from torch import nn

from mmseg_cil.contracts import IterationSeeded
from mmseg_cil.errors import InputError
from mmseg_cil.models.head_losses import loss_modules
from mmseg_cil.models.heads import (
    all_auxiliary_heads,
    classifier_holder,
    decode_heads,
    has_own_target,
)
from mmseg_cil.models.network_output import last_activations
from mmseg_cil.utils.near import near

#: Arguments of ``torch.compile`` besides the model.
OPTIONS = ('fullgraph', 'dynamic', 'backend', 'mode', 'options', 'disable')
#: Modes whose graphs reuse the memory of their outputs, which losses still read.
_CUDA_GRAPHS = ('reduce-overhead', 'max-autotune')
_INDUCTOR = 'inductor'


def compile_options(value: Any) -> dict[str, Any] | None:
    """Read the key ``compile`` of a config, which MMEngine's Runner has too.

    Random numbers of compiled code are those that the plain code would draw (PyTorch's
    ``fallback_random``), so that compiling does not change which units dropout leaves out.

    Args:
        value: True, False, None, or a dict of arguments of ``torch.compile``.

    Returns:
        Arguments of ``torch.compile``; None where nothing is compiled.

    Raises:
        InputError: The value cannot be used.
    """
    if value is None or value is False:
        return None
    if value is not True and not isinstance(value, Mapping):
        raise InputError(
            f'compile is {value!r}; it must be True, False or a dict of arguments of '
            "torch.compile, such as dict(backend='inductor')"
        )
    options = {} if value is True else dict(value)
    for key in options:
        if key not in OPTIONS:
            meant = near(str(key), OPTIONS)
            hint = f'did you mean {meant!r}? It' if meant else 'it'
            raise InputError(f'compile has the unknown key {key!r}: {hint} has {list(OPTIONS)}')
    if options.get('mode') in _CUDA_GRAPHS:
        raise InputError(
            f'compile.mode is {options["mode"]!r}, which uses CUDA graphs: these overwrite '
            "maps that a method's losses read later: use 'default' or 'max-autotune-no-cudagraphs'"
        )
    if options.get('backend', _INDUCTOR) == _INDUCTOR:
        mode = options.pop('mode', None)
        known = {} if mode in (None, 'default') else _options_of_mode(mode)
        options['options'] = {**known, 'fallback_random': True, **(options.get('options') or {})}
    return options


def _options_of_mode(mode: str) -> dict[str, Any]:
    from torch._inductor import list_mode_options

    try:
        return dict(list_mode_options(mode))
    except RuntimeError as error:
        raise InputError(f'compile.mode is {mode!r}: {error}') from error


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
    line: Callable[..., Any] = _own_code(lambda module, inputs: inputs.sin() + 1)
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


def compile_network(network: Any, options: Mapping[str, Any]) -> int:
    """Let PyTorch's compiler run the parts of a segmentor in which nobody looks, in place.

    MMEngine compiles ``train_step``. A walk's training step is more than a network: methods watch
    maps, run teachers, draw and count. So the step stays as it is, and the parts of the student are
    compiled: backbone, neck, and the layers of the heads before dropout and classifier. Where a
    distiller reads maps before the last activation of each stage, the blocks of a stage but the
    last one are compiled one by one. Names of weights stay as they are.

    Compiled code runs in training alone: images of other sizes in evaluation, and passes of hooks,
    run as ever.

    Args:
        network: The segmentor.
        options: Arguments of ``torch.compile``, see :func:`compile_options`.

    Returns:
        Number of parts that are compiled, each at its first run.
    """
    parts = compiled_parts(network)
    for place, part in enumerate(parts):
        forward = part.__dict__.get('forward', type(part).forward)
        compiled = _compiled(forward, place, repr(sorted(options.items())), options)
        # A copy of the module has a copy of this function, which calls the copy.
        part.forward = functools.partial(_run, compiled, forward, part)
    return len(parts)


def compiled_parts(network: Any) -> list[nn.Module]:
    """Return the largest modules of a segmentor that nobody looks into while it trains."""
    # A module with a seed of its own for each iteration would be compiled anew at each of them.
    seeded: list[Any] = [part for part in network.modules() if isinstance(part, IterationSeeded)]
    drawing: set[nn.Module] = {*seeded}
    stages = last_activations(network.backbone) if network._needs_stages else []
    found = _parts_of(network.backbone, {*drawing, *stages})
    if network.with_neck:
        found += _parts_of(network.neck, drawing)
    for head in (*decode_heads(network).values(), *all_auxiliary_heads(network).values()):
        if not isinstance(head, PointHead) and not has_own_target(head):
            found += _parts_of(head, {*drawing, *_watched_in(head)})
    return found


def _watched_in(head: nn.Module) -> set[nn.Module]:
    """Return the modules of a head that taps watch, and those that do not run in its forward."""
    holder: Any = classifier_holder(head)
    names = ('conv_seg', 'dropout', 'sampler', 'loss_decode')
    watched = {getattr(part, name, None) for part in (head, holder) for name in names}
    if isinstance(head, IterativeDecodeHead):
        watched |= set(head.kernel_update_head)
    return {part for part in (*watched, *loss_modules(head)) if isinstance(part, nn.Module)}


def _parts_of(module: nn.Module, watched: set[nn.Module]) -> list[nn.Module]:
    runs = type(module).forward is not nn.Module.forward
    if runs and not watched & set(module.modules()):
        # A single layer is as fast as it is.
        return [module] if any(True for _ in module.children()) else []
    return [
        part
        for child in module.children()
        if child not in watched
        for part in _parts_of(child, watched)
    ]


#: Compiled functions by what they run, their place in the network, and the compiler's options.
_COMPILED: dict[tuple[Callable[..., Any], int, str], Callable[..., Any]] = {}


def _compiled(
    forward: Callable[..., Any], place: int, key: str, options: Mapping[str, Any]
) -> Callable[..., Any]:
    """Return the compiled function of a part, the same for the networks of all steps of a walk.

    PyTorch keeps the code that it has compiled for a function, and compiles again only where
    something differs that matters, such as a shape. Most of a network is the same at every step.
    """
    found = _COMPILED.get((forward, place, key))
    if found is None:
        found = _COMPILED[forward, place, key] = torch.compile(_own_code(forward), **options)
    return found


def _own_code(forward: Callable[..., Any]) -> Callable[..., Any]:
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


def _run(
    compiled: Callable[..., Any],
    forward: Callable[..., Any],
    module: nn.Module,
    *inputs: Any,
    **named: Any,
) -> Any:
    learns = module.training and torch.is_grad_enabled()
    return (compiled if learns else forward)(module, *inputs, **named)
