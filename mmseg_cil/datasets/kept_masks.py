"""Decoded masks of training images, kept in memory up to a limit."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from mmseg.datasets.transforms import LoadAnnotations

#: Key of a config for the megabytes of masks that each loader keeps.
KEY = 'keep_masks'
_MEGABYTE = 10**6


class KeptMasks:
    """Load masks by ``LoadAnnotations``, and keep them for the next pass over the images.

    Masks are kept as they are decoded, one byte a pixel, until the limit is reached; other masks
    are decoded each time. A kept mask is copied for each sample, because transforms may write
    into it. Each worker of a loader has masks of its own, which end with the step. A mask file
    that changes during a step is not read again.

    Args:
        megabytes: Limit of the memory, in units of 1,000,000 bytes.
    """

    def __init__(self, megabytes: float) -> None:
        self._left = int(megabytes * _MEGABYTE)
        self._masks: dict[Hashable, np.ndarray] = {}

    def __len__(self) -> int:
        """Return the number of kept masks."""
        return len(self._masks)

    def load(self, transform: LoadAnnotations, sample: dict[str, Any]) -> dict[str, Any]:
        """Return a sample with its mask, as the transform would.

        Args:
            transform: The transform; see :func:`keeps`.
            sample: The sample before it.
        """
        key = _key(transform, sample)
        kept = self._masks.get(key)
        if kept is not None:
            sample['gt_seg_map'] = kept.copy()
            sample['seg_fields'].append('gt_seg_map')
            return sample
        sample = transform(sample)
        mask = sample['gt_seg_map']
        if mask.nbytes <= self._left:
            self._masks[key] = mask.copy()
            self._left -= mask.nbytes
        return sample


def keeps(transform: Any) -> bool:
    """Return whether a transform is MMSegmentation's own, whose results are known in full."""
    return type(transform) is LoadAnnotations


def _key(transform: LoadAnnotations, sample: Mapping[str, Any]) -> Hashable:
    """Return all that the labels of a mask depend on."""
    label_map = sample.get('label_map')
    return (
        sample['seg_map_path'],
        transform.imdecode_backend,
        sample.get('reduce_zero_label'),
        None if label_map is None else tuple(label_map.items()),
    )
