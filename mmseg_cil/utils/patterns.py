"""Patterns of names of modules and parameters."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase


def is_named(name: str, patterns: Iterable[str]) -> bool:
    """Return whether a dotted name, or the name of a module around it, matches a pattern.

    Example:
        >>> is_named('backbone.layer1.0.bn1', ['backbone.layer1'])
        True
        >>> is_named('backbone.layer10.bn1', ['backbone.layer1'])
        False
        >>> is_named('backbone.layer10.bn1', ['*.bn?'])
        True
    """
    return any(
        fnmatchcase(name, pattern) or fnmatchcase(name, f'{pattern}.*') for pattern in patterns
    )
