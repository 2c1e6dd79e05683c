"""Self-labels in the training pipeline, where they follow crops and flips."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mmseg_cil.contracts import FurtherMap
from mmseg_cil.errors import InputError
from mmseg_cil.methods.self_labels.files import LabelFolder
from mmseg_cil.methods.self_labels.reference import UNSURE
from mmseg_cil.registry import TRANSFORMS


@TRANSFORMS.register_module()
class SelfLabelMap(FurtherMap):
    """Reads the labels that ``SelfLabelsHook`` has written for an image.

    Without a complete folder of labels, as at the first step and after a step, all pixels are
    unsure.

    Args:
        step_folder: Folder of the step; the walk sets it.
    """

    needs_step_folder = True

    def __init__(self, step_folder: str) -> None:
        self.folder = LabelFolder(step_folder)

    def read(self, results: Mapping[str, Any]) -> np.ndarray:
        """Return ids of old classes, or 255 where the network was not sure.

        Raises:
            InputError: The file of the image is missing, damaged or of another size.
        """
        size = results['gt_seg_map'].shape[:2]
        if not self.folder.is_done():
            return np.full(size, UNSURE, np.uint8)
        labels = self.folder.read(results['img_path'])
        if labels.shape != size:
            raise InputError(
                f'the network gave {results["img_path"]} labels of size {labels.shape}, but its '
                f'mask has {size}: the map stands behind LoadAnnotations, before anything changes '
                'the size of image and mask'
            )
        return labels
