"""Factors of the learning rate for parameters by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch.nn import Parameter
from torch.optim import Optimizer

from mmseg_cil.utils.patterns import is_named


def rate_of(name: str, rates: Mapping[str, float]) -> float:
    """Return the factor of a parameter: that of the longest pattern which matches, or 1.

    Patterns of one length are taken in the order of the alphabet. Both rules are those of
    MMEngine's ``paramwise_cfg.custom_keys``.

    Example:
        >>> rate_of('backbone.layer1.0.conv1.weight', {'backbone': 0.1, 'backbone.layer1': 0.01})
        0.01
        >>> rate_of('decode_head.conv_seg.weight', {'backbone': 0.1})
        1.0
    """
    matching = [pattern for pattern in rates if is_named(name, [pattern])]
    if not matching:
        return 1.0
    return float(rates[min(matching, key=lambda pattern: (-len(pattern), pattern))])


def scale_rates(
    optimizer: Optimizer,
    parameters: Iterable[tuple[str, Parameter]],
    rates: Mapping[str, float],
) -> None:
    """Multiply the learning rates of parameters that are named, in place.

    A group whose parameters have several factors is split into one group a factor, in the order
    in which the factors occur in it. All other options of a group stay. The optimizer must not have
    stepped yet.

    Args:
        optimizer: Optimizer of these parameters, or of some of them.
        parameters: Names and parameters of the network.
        rates: Factors by pattern, see :class:`~mmseg_cil.contracts.Freezing`.
    """
    factors = {id(parameter): rate_of(name, rates) for name, parameter in parameters}

    def factor(parameter: Parameter) -> float:
        return factors.get(id(parameter), 1.0)

    optimizer.param_groups[:] = [
        part for group in optimizer.param_groups for part in _split(group, factor)
    ]


def _split(group: dict[str, Any], factor: Callable[[Parameter], float]) -> list[dict[str, Any]]:
    """Return the parts of a group of parameters, each with its learning rate."""
    each = [factor(parameter) for parameter in group['params']]
    parts = []
    for value in dict.fromkeys(each):
        part = {**group, 'lr': group['lr'] * value}
        # Some constructors name the parameters of a group.
        for key in ('params', 'param_names'):
            if key in group:
                part[key] = [
                    entry for entry, own in zip(group[key], each, strict=True) if own == value
                ]
        parts.append(part)
    return parts
