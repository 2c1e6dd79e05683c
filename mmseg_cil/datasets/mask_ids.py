"""What the ids in the masks of a dataset must mean."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ..errors import InputError
from .class_index import ClassIndex

_LISTED = 10


def check_mask_ids(
    index: ClassIndex, mask_paths: Sequence[str], allowed: Iterable[int], owner: str
) -> None:
    """Refuses masks with ids that are no class and not void.

    Args:
        index: The index of N masks.
        mask_paths: The N mask files, for the message.
        allowed: The mask ids that have a meaning, void included.
        owner: Who gives them that meaning, for the message ('voc_15-1').

    Raises:
        InputError: Some mask holds another id; the message names the ids, the
            files (ten at most, and the count) and what to do.
    """
    allowed = sorted(set(allowed))
    unknown = index.presence.copy()
    unknown[:, allowed] = False
    rows = np.flatnonzero(unknown.any(axis=1))
    if not len(rows):
        return
    ids = np.flatnonzero(unknown.any(axis=0)).tolist()
    lines = [f'{len(rows)} of {len(mask_paths)} masks hold ids that {owner} does not know: {ids}']
    lines += [
        f'  {mask_paths[row]}: {np.flatnonzero(unknown[row]).tolist()}' for row in rows[:_LISTED]
    ]
    if len(rows) > _LISTED:
        lines.append(f'  ... and {len(rows) - _LISTED} more')
    lines.append(
        f'Known ids: {_ranges(allowed)}. Check that the dataset type, its seg_map_suffix and the '
        'protocol belong together (Cityscapes needs *_labelTrainIds.png), and write 255 where '
        'pixels are to be ignored.'
    )
    raise InputError('\n'.join(lines))


def _ranges(values: Sequence[int]) -> str:
    """Writes sorted integers as '0-20, 255'."""
    parts: list[list[int]] = []
    for value in values:
        if parts and value == parts[-1][1] + 1:
            parts[-1][1] = value
        else:
            parts.append([value, value])
    return ', '.join(f'{a}-{b}' if b > a else f'{a}' for a, b in parts)
