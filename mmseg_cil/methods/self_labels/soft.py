"""Soft self-labels: the greatest probabilities of each cell of an image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from mmengine.runner import Runner
from torch import Tensor
from torch.nn import functional

from mmseg_cil.contracts import FurtherMap
from mmseg_cil.errors import InputError
from mmseg_cil.methods.self_labels.files import LabelFolder
from mmseg_cil.methods.self_labels.labelling import LabellingHook, Writer
from mmseg_cil.models.teacher import Teacher
from mmseg_cil.registry import HOOKS, TRANSFORMS
from mmseg_cil.utils.step_context import StepContext
from mmseg_cil.utils.values import check_number

#: Number of the first cell in a map. Smaller numbers are no cells, such as the 255 of padding.
FIRST_CELL = 256


@HOOKS.register_module()
class SoftSelfLabelsHook(LabellingHook):
    """Keeps the greatest class probabilities of each cell of a step's images.

    See :class:`LabellingHook` for the network and for the folder of the labels. The probabilities
    of a cell are the means over the cell's pixels. The hook keeps the greatest of them with their
    classes, rescaled so that they sum to 1.

    The hook acts at all steps after the first one that trained, in domain-incremental walks too.

    Args:
        top_k: Number of classes kept per cell; all classes if there are fewer. Defaults to 5.
        cell: Pixels along each side of a cell. 1 keeps ``top_k`` probabilities for every pixel,
            each in three bytes. Defaults to 4.

    Raises:
        InputError: A number is not whole, or not positive.
    """

    def __init__(self, top_k: int = 5, cell: int = 4) -> None:
        for name, value in (('top_k', top_k), ('cell', cell)):
            check_number(self, name, value, least=1, whole=True)
        self.top_k = top_k
        self.cell = cell

    def settings(self, step: StepContext) -> dict[str, Any]:
        """See :meth:`LabellingHook.settings`."""
        if step.num_old > FIRST_CELL:
            raise InputError(
                f'SoftSelfLabelsHook knows {FIRST_CELL} old classes at most, and step '
                f'{step.index} has {step.num_old}: a class has a byte'
            )
        return dict(kind='soft', top_k=self.top_k, cell=self.cell, classes=step.num_old)

    def writer(self, runner: Runner, network: Teacher, folder: LabelFolder) -> Writer:
        """See :meth:`LabellingHook.writer`."""

        def write(path: str, logits: Tensor) -> None:
            values, classes = greatest_probabilities(logits, self.top_k, self.cell)
            folder.write_table(
                path,
                cell=np.array(self.cell),
                size=np.array(logits.shape[2:]),
                values=values.cpu().numpy(),
                classes=classes.cpu().numpy(),
            )

        return write


def greatest_probabilities(logits: Tensor, top_k: int, cell: int) -> tuple[Tensor, Tensor]:
    """Return the greatest probabilities of the cells of an image, and their classes.

    Args:
        logits: ``(1, O, H, W)``.
        top_k: Number of probabilities per cell; O if O is smaller.
        cell: Pixels along each side of a cell; cells at the lower right may be smaller.

    Returns:
        Probabilities, float16, and classes, uint8, both ``(cells, k)``, cells row by row.
    """
    probabilities = logits.float().softmax(dim=1)
    if cell > 1:
        # At the border, the mean is over the pixels inside the image.
        probabilities = functional.avg_pool2d(
            probabilities, cell, ceil_mode=True, count_include_pad=False
        )
    values, classes = probabilities[0].flatten(1).T.topk(min(top_k, logits.shape[1]), dim=1)
    values = values / values.sum(dim=1, keepdim=True)
    return values.half(), classes.to(torch.uint8)


@TRANSFORMS.register_module()
class SelfLabelCells(FurtherMap):
    """Numbers the cells of an image, so that crops and flips leave each pixel its soft labels.

    Without a complete folder of ``SoftSelfLabelsHook``, as at the first step and after a step, no
    pixel has a cell.

    Args:
        step_folder: Folder of the step; the walk sets it.
    """

    needs_step_folder = True

    def __init__(self, step_folder: str) -> None:
        self.folder = LabelFolder(step_folder)

    def read(self, results: Mapping[str, Any]) -> np.ndarray:
        """Return the number of each pixel's cell, from :data:`FIRST_CELL` on; 0 without a cell.

        The numbers are whole, in float32, which every transform of masks accepts.

        Raises:
            InputError: The file of the image is missing, damaged or of another size.
        """
        height, width = results['gt_seg_map'].shape[:2]
        if not self.folder.is_done():
            return np.zeros((height, width), np.float32)
        table = self.folder.read_table(results['img_path'])
        if tuple(table['size']) != (height, width):
            raise InputError(
                f'the network labelled {results["img_path"]} at the size {tuple(table["size"])}, '
                f'but its mask has {(height, width)}: the map stands behind LoadAnnotations, '
                'before anything changes the size of image and mask'
            )
        cell = int(table['cell'])
        columns = -(-width // cell)
        places = np.arange(height)[:, None] // cell * columns + np.arange(width) // cell
        return (places + FIRST_CELL).astype(np.float32)
