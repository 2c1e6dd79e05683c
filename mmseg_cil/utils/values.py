"""Checks of users' values when an object is built, and not hours later."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from mmseg_cil.errors import InputError
from mmseg_cil.utils.near import near


def check_number(
    owner: object,
    name: str,
    value: Any,
    least: float = 0.0,
    most: float = math.inf,
    above: bool = False,
    whole: bool = False,
) -> None:
    """Refuse a value that is no number in a range.

    Args:
        owner: The object whose argument the value is.
        name: Name of the argument.
        value: The given value.
        least: The least allowed value.
        most: The greatest allowed value.
        above: Whether the value must be greater than ``least``.
        whole: Whether the value must be a whole number.

    Raises:
        InputError: The value is no such number, NaN or infinite.
    """
    numeric = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    fits = numeric and math.isfinite(value) and least <= value <= most
    if fits and not (above and value == least):
        return
    limits = f'above {least:g}' if above else f'{least:g} or more'
    if most < math.inf:
        limits += f', {most:g} at most'
    raise InputError(
        f'{type(owner).__name__}: {name} must be a {"whole " * whole}number, '
        f'{limits}; got {value!r}'
    )


def check_choice(owner: object, name: str, value: object, choices: Iterable[str]) -> None:
    """Refuse a value that is none of a few words.

    Args:
        owner: The object whose argument the value is, or a text that names the object.
        name: Name of the argument.
        value: The given value.
        choices: The allowed values.

    Raises:
        InputError: The value is none of the choices.
    """
    known = tuple(choices)
    if value in known:
        return
    said = owner if isinstance(owner, str) else type(owner).__name__
    meant = near(value, known) if isinstance(value, str) else None
    hint = f'; did you mean {meant!r}?' if meant else ''
    raise InputError(f'{said}: {name} must be one of {known}, got {value!r}{hint}')


def check_weights(owner: object, **values: Any) -> None:
    """Refuse arguments, by name, that are no weights of a loss: finite numbers, 0 or more."""
    for name, value in values.items():
        check_number(owner, name, value)


def check_sizes(owner: object, name: str, values: Any) -> None:
    """Refuse a value that is no list of at least one whole number above 0."""
    if isinstance(values, str) or not isinstance(values, Sequence) or not values:
        raise InputError(
            f'{type(owner).__name__}: {name} must be a list of whole numbers above 0; '
            f'got {values!r}'
        )
    for value in values:
        check_number(owner, name, value, least=1, whole=True)
