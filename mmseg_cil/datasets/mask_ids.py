"""Checks of the ids in the masks of a dataset."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np

from mmseg_cil.datasets.class_index import ClassIndex
from mmseg_cil.datasets.file_checks import MASK_MODES
from mmseg_cil.errors import InputError
from mmseg_cil.protocols.taxonomy import IGNORE

_LISTED = 10
# The least share of masks with 0 and 255 alone that is reported.
_SUSPICIOUS = 0.2


def check_mask_ids(
    index: ClassIndex,
    mask_paths: Sequence[str],
    allowed: Iterable[int],
    owner: str,
    setting: str = 'protocol.void_ids',
) -> None:
    """Refuse masks with ids that are no class and not void.

    Args:
        index: The index of N masks.
        mask_paths: The N mask files, for the message.
        allowed: The mask ids that have a meaning, void included.
        owner: The name of what gives them that meaning, for the message ('voc_15-1').
        setting: The setting that names ids of pixels that belong to no class.

    Raises:
        InputError: Some mask holds another id; the message names the ids, the
            files (ten at most, and the count) and a remedy.
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
        'protocol belong together (Cityscapes needs *_labelTrainIds.png). Ids of pixels that '
        f'belong to no class are named with {setting}, such as void_ids={ids[:3]}.'
    )
    used = np.flatnonzero(index.presence.any(axis=0))
    if not (used % 17).any() and len(used) > 1:
        lines.append(
            'All ids are multiples of 17: PNG stretches masks of 1, 2 or 4 bits a pixel over '
            '0..255 (16 grey levels are 0, 17, 34, ...); write them with 8 bits a pixel.'
        )
    raise InputError('\n'.join(lines))


def check_labelled(
    index: ClassIndex, mask_paths: Sequence[str], foreground: Collection[int], split: str
) -> None:
    """Refuse masks that show void pixels but no pixel of a class.

    Args:
        index: The index of N masks.
        mask_paths: The N mask files, for the message.
        foreground: Mask ids that show a class besides the background.
        split: The split, for the message.

    Raises:
        InputError: The masks hold 0 and 255, or 255, alone, as drawing programs write them.
    """
    ids = set(np.flatnonzero(index.presence.any(axis=0)).tolist())
    if not ids <= {0, IGNORE} or IGNORE not in ids or ids & {*foreground}:
        return
    held = ' and '.join(map(str, sorted(ids)))
    raise InputError(
        f'all {len(mask_paths)} masks of the {split} split hold {held} alone, such as '
        f'{mask_paths[0]}: 255 is void in MMSegmentation, so no pixel of an object has a label. '
        'Programs that draw write objects as 255 (white): write the id of the class '
        'in its place, as in Image.fromarray((numpy.array(mask) == 255).astype("uint8")).'
    )


def odd_masks(
    index: ClassIndex, mask_paths: Sequence[str], foreground: Collection[int], split: str
) -> list[str]:
    """Report masks that look unintended: with 0 and 255 alone, or with one bit a pixel.

    Args:
        index: The index of N masks.
        mask_paths: The N mask files, for the message.
        foreground: Mask ids that show a class besides the background.
        split: The split, for the message.

    Returns:
        A sentence for each kind of such masks.
    """
    notes = []
    others = index.presence.copy()
    others[:, [0, IGNORE]] = False
    binary = index.presence[:, 0] & index.presence[:, IGNORE] & ~others.any(axis=1)
    share = binary.mean() if len(binary) else 0.0
    if share >= _SUSPICIOUS and 0 not in foreground:
        first = mask_paths[int(binary.argmax())]
        notes.append(
            f'{int(binary.sum())} of {len(mask_paths)} masks of the {split} split hold 0 and 255 '
            f'alone, such as {first}: 255 is void, so if objects are meant by it, they have no '
            'label'
        )
    one_bit = index.headers[:, 5] == MASK_MODES.index('1')
    if 0 < one_bit.sum() < len(one_bit):
        first = mask_paths[int(one_bit.argmax())]
        notes.append(
            f'{int(one_bit.sum())} of {len(mask_paths)} masks of the {split} split have one bit a '
            f'pixel, such as {first}, and the others eight: their white is read as id 1, not 255'
        )
    return notes


def _ranges(values: Sequence[int]) -> str:
    """Return sorted integers as text such as '0-20, 255'."""
    parts: list[list[int]] = []
    for value in values:
        if parts and value == parts[-1][1] + 1:
            parts[-1][1] = value
        else:
            parts.append([value, value])
    return ', '.join(f'{a}-{b}' if b > a else f'{a}' for a, b in parts)
