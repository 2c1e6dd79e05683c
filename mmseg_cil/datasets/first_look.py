"""Check of a few samples before training: the pipeline must read what the class index read."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from mmseg_cil.datasets.class_index import ClassIndex
from mmseg_cil.datasets.file_checks import MASK_MODES
from mmseg_cil.datasets.items import Items
from mmseg_cil.datasets.mask_ids import check_labelled, odd_masks
from mmseg_cil.datasets.members import ReadMember
from mmseg_cil.datasets.orientation import check_orientation
from mmseg_cil.datasets.pipeline import seeded
from mmseg_cil.datasets.view import IncrementalDataset
from mmseg_cil.errors import InputError

# Number of evenly spread images that are checked besides the first image of every kind of mask;
# also the greatest number of images that Pillow cannot judge.
_SAMPLES = 6


def first_look(view: IncrementalDataset) -> list[str]:
    """Check the images and masks of a split as its pipeline loads them.

    Args:
        view: View of the split, at any step.

    Returns:
        Notes for the user, one sentence each.

    Raises:
        InputError: Image and mask are turned differently, the pipeline reads other
            ids than the mask's file holds, or no mask shows an object.
    """
    notes = []
    left_out = view.protocol.taxonomy.left_out
    if left_out:
        notes.append(f'void_ids leaves out the classes {", ".join(left_out)}')
    for read in view.data.read(look_around=True).members:
        notes += _look_at(view, read)
    return notes


def _look_at(view: IncrementalDataset, read: ReadMember) -> list[str]:
    """Check one data set as :func:`first_look` does."""
    items, index, foreground = read.items, read.index, read.member.meaning.foreground
    notes = list(items.notes)
    masks = [mask for _, mask in items.paths]
    check_labelled(index, masks, foreground, view.split)
    notes += odd_masks(index, masks, foreground, view.split)
    if not _loads_files(items):
        return notes

    def until(info: dict[str, Any], key: str) -> dict[str, Any]:
        """Return the sample once a transform has made a key; empty if the sample is given up."""
        with seeded(view.seed, view.step, 0):
            return view.pipeline_of(read.member.place).until(copy.deepcopy(info), key) or {}

    notes += check_orientation(
        index, items.paths, lambda row: until(items.infos[row], 'img').get('img'), view.split
    )
    for row in _rows(index):
        data = until(items.infos[row], 'gt_seg_map')
        _check_mask(
            view.split, items.infos[row], data, index.presence[row], int(index.headers[row, 5])
        )
    if read.member.own is not None:
        _check_sample(view, read)
    return notes


def _check_sample(view: IncrementalDataset, read: ReadMember) -> None:
    """Refuse a data set of a step whose pipeline cannot make a sample of its first image."""
    info = {**copy.deepcopy(read.items.infos[0]), 'sample_idx': 0}
    with seeded(view.seed, view.step, 0):
        sample = view.pipeline_of(read.member.place)(info)
    if sample is not None and 'inputs' not in sample and read.member.own is not None:
        raise InputError(
            f'{read.member.own.where}, data.{view.split}: its pipeline makes no inputs: end it '
            "with dict(type='PackSegInputs')"
        )


def _loads_files(items: Items) -> bool:
    return all('img' not in info for info in items.infos[:1])


def _rows(index: ClassIndex) -> Sequence[int]:
    """Return the first image of every mask mode, some that Pillow cannot judge, and others."""
    _, firsts = np.unique(index.headers[:, 5], return_index=True)
    unknown = np.flatnonzero(index.headers[:, 0] == 0)[:_SAMPLES]
    spread = np.linspace(0, len(index.names) - 1, min(_SAMPLES, len(index.names))).round()
    return sorted({*firsts.tolist(), *unknown.tolist(), *spread.astype(int).tolist()})


def _check_mask(
    split: str, info: dict[str, Any], data: dict[str, Any], presence: np.ndarray, mode: int
) -> None:
    """Compare the ids that the pipeline loads with the ids that the class index found."""
    mask = data.get('gt_seg_map')
    if mask is None:
        return
    path, known = info['seg_map_path'], np.flatnonzero(presence).tolist()
    if mask.ndim != 2:
        raise InputError(
            f'{path} (Pillow mode {MASK_MODES[mode]}) is loaded with the shape {mask.shape}, not '
            '(H, W): as colours and not as ids. Use LoadAnnotations with imdecode_backend='
            "'pillow', its default"
        )
    found = np.unique(mask).tolist()
    # Pixels that a user's own loader leaves out are void.
    if set(found) - {255} - set(known) or (
        255 in found and 255 not in known and MASK_MODES[mode] == '1'
    ):
        raise InputError(
            f'{path} (Pillow mode {MASK_MODES[mode]}) holds the ids {known}, but LoadAnnotations '
            f'in the pipeline of the {split} split reads {found}: masks are to be read as '
            "they are (imdecode_backend='pillow', the default), and the protocol says which id is "
            'which class'
        )
