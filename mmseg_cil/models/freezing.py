"""Freezing of parts of a segmentor by a method's :class:`Freezing`."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from mmseg_cil.contracts.freezing import Freezing
from mmseg_cil.errors import InputError
from mmseg_cil.models.plain import PLAIN_PREFIXES
from mmseg_cil.utils.patterns import is_named


def norms_with_statistics(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield name and module of every norm of a segmentor that has running statistics.

    Norms are recognised by their ``running_mean``, so synchronised norms and those of MMCV count.
    """
    for name, module in model.named_modules():
        if isinstance(getattr(module, 'running_mean', None), Tensor) and _is_plain(name):
            yield name, module


def modules_with_mode(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield name and module of everything in a segmentor that may compute otherwise in evaluation.

    These are the modules without inner ones, among them norms and dropout, and attention. Modules
    that consist of others are left out: PIDNet and DDRNet return fewer outputs in evaluation.
    """
    for name, module in model.named_modules():
        alone = next(module.children(), None) is None
        if (alone or isinstance(module, nn.MultiheadAttention)) and _is_plain(name):
            yield name, module


def hold_modes(model: nn.Module, freezing: Freezing) -> None:
    """Put the named norms, and the modules named for evaluation, into evaluation mode.

    The modules are looked up at each call: a Runner may replace norms by synchronised ones, and a
    method may change the network.

    Args:
        model: The segmentor, in training mode.
        freezing: Freezing of the method.
    """
    for patterns, modules in (
        (freezing.norm_statistics, norms_with_statistics),
        (freezing.evaluation, modules_with_mode),
    ):
        if patterns:
            for name, module in modules(model):
                if is_named(name, patterns):
                    module.eval()


def freeze_parameters(model: nn.Module, freezing: Freezing) -> None:
    """Take the named parameters of a segmentor out of training, once the segmentor is built.

    A whole part of the segmentor ('decode_head') may have no norm with statistics, so that a
    recipe which holds statistics also fits heads with layer norms and heads with only a
    classifier.

    Args:
        model: The segmentor, as the method has changed it.
        freezing: Freezing of the method.

    Raises:
        InputError: A pattern finds nothing.
    """
    norms = [name for name, _ in norms_with_statistics(model)]
    modules = [name for name, _ in modules_with_mode(model)]
    parameters = {
        name: parameter for name, parameter in model.named_parameters() if _is_plain(name)
    }
    for key, patterns, names, what in (
        ('norm_statistics', freezing.norm_statistics, norms, 'norm with running statistics'),
        ('evaluation', freezing.evaluation, modules, 'module'),
        ('parameters', freezing.parameters, list(parameters), 'parameter'),
        ('excepted', freezing.excepted, list(parameters), 'parameter'),
        ('rates', freezing.rates, list(parameters), 'parameter'),
    ):
        whole = [name for name, _ in model.named_children() if _is_plain(f'{name}.')]
        for pattern in patterns:
            if key == 'norm_statistics' and pattern in ('*', *whole):
                continue
            if not any(is_named(name, [pattern]) for name in names):
                shown = f'; there are {names[0]}, ..., {names[-1]}' if names else ''
                raise InputError(
                    f'method.freezing.{key} has {pattern!r}, and the network has no {what} of '
                    f'that name or within a module of that name{shown}'
                )
    for name, parameter in parameters.items():
        if is_named(name, freezing.parameters) and not is_named(name, freezing.excepted):
            parameter.requires_grad_(False)


def _is_plain(name: str) -> bool:
    return name.startswith(PLAIN_PREFIXES)
