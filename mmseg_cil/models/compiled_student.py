"""Parts of a network that PyTorch's compiler runs while the network trains."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from mmseg.models.decode_heads import IterativeDecodeHead, PointHead
from torch import nn

from mmseg_cil.contracts import IterationSeeded
from mmseg_cil.models.compile_options import own_code
from mmseg_cil.models.head_losses import loss_modules
from mmseg_cil.models.heads import (
    all_auxiliary_heads,
    classifier_holder,
    decode_heads,
    has_own_target,
)
from mmseg_cil.models.network_output import last_activations


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
        options: Arguments of ``torch.compile``, see
            :func:`~mmseg_cil.models.compile_options.compile_options`.

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
        found = _COMPILED[forward, place, key] = torch.compile(own_code(forward), **options)
    return found


def _run(
    compiled: Callable[..., Any],
    forward: Callable[..., Any],
    module: nn.Module,
    *inputs: Any,
    **named: Any,
) -> Any:
    learns = module.training and torch.is_grad_enabled()
    return (compiled if learns else forward)(module, *inputs, **named)
