"""MMSegmentation's random crop, which counts the labels of a crop faster."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmseg.datasets.transforms import RandomCrop as MMSegRandomCrop

from mmseg_cil.registry import TRANSFORMS

#: Number of crops that are tried at most, as in MMSegmentation.
_ATTEMPTS = 10


@TRANSFORMS.register_module()
class RandomCrop(MMSegRandomCrop):
    """MMSegmentation's ``RandomCrop``, with the same crops from the same random numbers.

    With ``cat_max_ratio`` the stock transform sorts all labels of each crop that it tries, a
    quarter of the time of VOC's whole pipeline; here the labels are counted. A config of a walk
    that names ``RandomCrop`` gets this class; ``mmseg.RandomCrop`` is the stock transform.
    """

    def crop_bbox(self, results: dict[str, Any]) -> tuple[int, int, int, int]:
        """Draw the box of a crop: top, bottom, left and right."""
        mask = results.get('gt_seg_map')
        counts = self.cat_max_ratio < 1.0
        if not counts or mask is None or mask.dtype != np.uint8 or mask.ndim != 2:
            box: tuple[int, int, int, int] = super().crop_bbox(results)
            return box
        height, width = results['img'].shape[:2]
        box = self._draw(height, width)
        for _ in range(_ATTEMPTS):
            if self._is_mixed(self.crop(mask, box)):
                break
            box = self._draw(height, width)
        return box

    def _draw(self, height: int, width: int) -> tuple[int, int, int, int]:
        tall, wide = self.crop_size
        top = np.random.randint(0, max(height - tall, 0) + 1)
        left = np.random.randint(0, max(width - wide, 0) + 1)
        return top, top + tall, left, left + wide

    def _is_mixed(self, labels: np.ndarray) -> bool:
        """Return whether a crop has several labels, none of too great a share."""
        counts = np.bincount(labels.ravel(), minlength=256)
        if 0 <= self.ignore_index < 256:
            counts[self.ignore_index] = 0
        several = np.count_nonzero(counts) > 1
        return bool(several and np.max(counts) / np.sum(counts) < self.cat_max_ratio)
