"""The harmonic mean of old and new mIoU (hIoU), which is high only where both are high."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Key of the harmonic mean among the means of the parts, and its head in tables.
HARMONIC = 'hIoU'
#: Keys of a step's entry whose means have a harmonic mean.
_KINDS = ('mIoU', 'mIoU_with_background', 'mIoU_without_background')


def harmonic_mean(first: float | None, other: float | None) -> float | None:
    """Return 2ab / (a + b); 0 where both are 0, None where either is undefined.

    Args:
        first: a, 0 or more.
        other: b, 0 or more.

    Example:
        >>> harmonic_mean(0.75, 0.25), harmonic_mean(0.0, 0.0), harmonic_mean(None, 0.5)
        (0.375, 0.0, None)
    """
    if first is None or other is None:
        return None
    total = first + other
    return 2 * first * other / total if total else 0.0


def with_harmonic(means: Mapping[str, float | None]) -> dict[str, float | None]:
    """Return the means of the parts with the harmonic mean of old and new as ``'hIoU'``.

    Args:
        means: Means by part, with ``'old'`` and ``'new'`` where these are known. A harmonic mean
            that is there already stays.
    """
    found = harmonic_mean(means.get('old'), means.get('new'))
    return {**means, HARMONIC: means.get(HARMONIC, found)}


def entry_with_harmonic(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return a step's entry of ``metrics.json`` with the harmonic means, which old files lack.

    Args:
        entry: The entry; not changed.
    """
    result = dict(entry)
    for kind in _KINDS:
        if isinstance(entry.get(kind), Mapping):
            result[kind] = with_harmonic(entry[kind])
    if isinstance(entry.get('data_sets'), Mapping):
        result['data_sets'] = {
            name: {**part, 'mIoU': with_harmonic(part.get('mIoU') or {})}
            for name, part in entry['data_sets'].items()
        }
    return result
