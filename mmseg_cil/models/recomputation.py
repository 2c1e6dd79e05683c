"""Modules whose activations are computed again in the backward pass, to save memory."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any

from mmseg.models.decode_heads.ema_head import EMAModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.checkpoint import checkpoint

from mmseg_cil.errors import InputError
from mmseg_cil.models.plain import PLAIN_PREFIXES

#: Attribute of MMSegmentation's blocks that says that their activations are computed again.
WITH_CP = 'with_cp'
#: Key of MMEngine's Runner with the names of modules whose activations are computed again.
KEY = 'activation_checkpointing'


def recompute_activations(network: nn.Module, names: Sequence[str] | str | None = None) -> int:
    """Let modules of a network keep no activations for the backward pass, in place.

    The modules are those that are named, and the blocks that MMSegmentation's ``with_cp=True`` asks
    for. MMEngine's ``turn_on_activation_checkpointing`` and MMSegmentation's blocks use
    PyTorch's reentrant form, which here would be wrong in silence: batch norms count a batch twice,
    a module whose inputs need no gradient (the backbone) does not learn, maps that a distiller
    watches inside of a module have no gradient, and ``torch.autograd.grad`` fails. This function
    uses the other form, and norms leave their statistics alone when they run again. Losses and
    gradients are those without it, bit by bit on a CPU, for PyTorch gives the second run the
    random numbers of the first.

    Args:
        network: The segmentor.
        names: Names of modules of the backbone, the neck or the heads, such as ``'backbone'`` or
            ``['backbone.layer3', 'decode_head']``.

    Returns:
        Number of modules that are computed again.

    Raises:
        InputError: :func:`named_modules_of` raises it.
    """
    modules = [*named_modules_of(network, names), *_asking(network)]
    keep_activations(network)
    for module in modules:
        forward = module.__dict__.get('forward', type(module).forward)
        # A copy of the module has a copy of this function, which calls the copy.
        module.forward = functools.partial(_run, forward, module)
    return len(modules)


def keep_activations(network: nn.Module) -> None:
    """Take ``with_cp=True`` from a network, in place.

    A teacher has no backward pass of its own. Where one runs through it to the images, as DF-GR's
    generator needs it, the reentrant form would hide the norms' inputs from their gradients.

    Args:
        network: The segmentor.
    """
    for module in network.modules():
        if getattr(module, WITH_CP, False):
            module.with_cp = False  # type: ignore[assignment]


def named_modules_of(network: nn.Module, names: Sequence[str] | str | None) -> list[nn.Module]:
    """Return the modules that ``activation_checkpointing`` names.

    Args:
        network: The segmentor.
        names: See :func:`recompute_activations`.

    Raises:
        InputError: There is no such module, or its activations cannot be computed again.
    """
    listed = [names] if isinstance(names, str) else list(names or ())
    known = dict(network.named_modules())
    found = []
    for name in listed:
        module = known.get(name) if isinstance(name, str) else None
        if module is None or not f'{name}.'.startswith(PLAIN_PREFIXES):
            parts = [prefix.rstrip('.') for prefix in PLAIN_PREFIXES if prefix.rstrip('.') in known]
            raise InputError(
                f'{KEY} names {name!r}; it must be a list of names of {parts} or of modules in '
                f"them, such as {KEY}=['backbone.layer3']"
            )
        if type(module).forward is nn.Module.forward:
            raise InputError(
                f'{KEY} names {name}, a {type(module).__name__} that never runs itself: name the '
                f'modules in it, such as {name}.0'
            )
        if any(isinstance(part, EMAModule) for part in module.modules()):
            raise InputError(
                f'{KEY} names {name}, which has an EMAModule: its bases move at every run, so a '
                'second run would compute something else: leave it out'
            )
        found.append(module)
    return found


def asks_for_recomputation(network: nn.Module) -> bool:
    """Return whether ``with_cp=True`` stands at a block of the network."""
    return bool(_asking(network))


def _asking(network: nn.Module) -> list[nn.Module]:
    """Return the innermost modules with ``with_cp``; a backbone hands it on to its blocks."""
    asking = [module for module in network.modules() if getattr(module, WITH_CP, False)]
    return [
        module
        for module in asking
        if not any(
            part is not module and getattr(part, WITH_CP, False) for part in module.modules()
        )
    ]


def _run(forward: Callable[..., Any], module: nn.Module, *inputs: Any, **named: Any) -> Any:
    return checkpoint(
        forward,
        module,
        *inputs,
        use_reentrant=False,
        context_fn=lambda: (contextlib.nullcontext(), _StatisticsAtRest(module)),
        **named,
    )


class _StatisticsAtRest:
    """A context in which norms leave their statistics of past batches as they are.

    In the block the norms update copies: without statistics they would save fewer tensors than in
    the first run, which PyTorch refuses. A graph that is kept for several backward passes enters
    the context several times.

    Args:
        module: The module that runs again.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self._former: list[list[tuple[nn.Module, dict[str, Tensor | None]]]] = []

    def __enter__(self) -> None:
        norms = [part for part in self.module.modules() if isinstance(part, _NormBase)]
        self._former.append([(norm, dict(norm._buffers)) for norm in norms if norm.training])
        for norm, own in self._former[-1]:
            copies = {
                name: value if value is None else value.clone() for name, value in own.items()
            }
            norm._buffers.update(copies)

    def __exit__(self, *error: object) -> None:
        for norm, own in self._former.pop():
            norm._buffers.update(own)
