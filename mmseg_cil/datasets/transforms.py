"""Mapping of the ids of a mask to the labels of a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from mmseg_cil.errors import InputError
from mmseg_cil.registry import TRANSFORMS


def map_labels(seg_map: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Replace every pixel's id by the table's entry for it.

    Args:
        seg_map: Ids, integers in 0..255, of any shape (H, W).
        table: uint8 (256,), the label of every id.

    Returns:
        uint8 (H, W): ``table[seg_map]``.

    Raises:
        InputError: ``seg_map`` is not two-dimensional or holds a value
            outside 0..255.

    Example:
        >>> table = np.full(256, 255, np.uint8)
        >>> table[[0, 7]] = 0, 1
        >>> map_labels(np.array([[0, 7], [3, 255]], np.uint8), table)
        array([[  0,   1],
               [255, 255]], dtype=uint8)
    """
    if seg_map.ndim != 2:
        raise InputError(
            f'a label map has the shape {seg_map.shape}, not (H, W): the mask was read as a '
            "colour image. Use LoadAnnotations with imdecode_backend='pillow', its default."
        )
    if seg_map.dtype != np.uint8:
        if seg_map.size and (seg_map.min() < 0 or seg_map.max() > 255):
            raise InputError(
                f'a label map holds {seg_map.min()}..{seg_map.max()}; ids must be in 0..255 '
                '(255: ignored). Look for a transform that fills or changes labels.'
            )
        seg_map = seg_map.astype(np.uint8)
    return cv2.LUT(seg_map, table)


@TRANSFORMS.register_module()
class MapLabels(BaseTransform):
    """A transform that maps the ids of the mask to the labels of a step by one table.

    :class:`IncrementalDataset` puts this transform right before ``PackSegInputs``, so
    after the crop: fewer pixels are mapped, and a crop by class
    (``RandomCrop(cat_max_ratio=...)``) sees the mask as the file holds it.

    Required and modified key: ``gt_seg_map``, uint8 (H, W). A sample with a table of
    its own as ``label_table`` (an exemplar has one) is mapped by that table.

    Args:
        table: 256 labels in 0..255, by mask id.
    """

    def __init__(self, table: Sequence[int] | np.ndarray) -> None:
        values = np.asarray(table)
        if values.shape != (256,) or values.min() < 0 or values.max() > 255:
            raise InputError('MapLabels: the table must hold 256 labels in 0..255')
        self.table = values.astype(np.uint8)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Map ``results['gt_seg_map']``.

        Args:
            results: The sample after the preceding transforms.

        Returns:
            The same dictionary with the labels of the step.

        Raises:
            InputError: No preceding transform loaded the mask.
        """
        if 'gt_seg_map' not in results:
            raise InputError(
                'the pipeline loads no mask: put dict(type="LoadAnnotations") before PackSegInputs'
            )
        table = results.get('label_table', self.table)
        try:
            results['gt_seg_map'] = map_labels(results['gt_seg_map'], table)
        except InputError as error:
            raise InputError(f'{results.get("seg_map_path", "a mask")}: {error}') from None
        return results

    def __repr__(self) -> str:
        kept = int((self.table != 255).sum())
        return f'{type(self).__name__}({kept} of 256 ids kept)'
