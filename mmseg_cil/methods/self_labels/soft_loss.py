"""The loss towards soft self-labels."""

from __future__ import annotations

import torch
from mmseg.utils import SampleList
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mmseg_cil.errors import InputError
from mmseg_cil.losses.decode_loss import DecodeLoss
from mmseg_cil.losses.pixel_logits import PixelLogits
from mmseg_cil.methods.self_labels.files import LabelFolder
from mmseg_cil.methods.self_labels.labelling import SelfLabelLoss
from mmseg_cil.methods.self_labels.soft import FIRST_CELL
from mmseg_cil.registry import MODELS
from mmseg_cil.utils.devices import to_device
from mmseg_cil.utils.step_context import StepContext


@MODELS.register_module()
class SoftSelfLabelLoss(SelfLabelLoss, DecodeLoss):
    r"""Cross-entropy towards the probabilities that the network gave before the step.

    .. math:: -\frac{1}{O} \Big[ q_0 \log(p_0 + \sum_{c \ge O} p_c)
              + \sum_{0 < c < O} q_c \log p_c \Big]

    The form is that of MiB's distillation (Cermelli et al., CVPR 2020, equations 7 and 8), and the
    loss equals MiB's if all classes of every pixel are kept and images are not augmented. Classes
    that were not kept have q = 0. Without new classes, or without a background, each class is
    compared with itself.

    The loss stands in ``loss_decode`` beside the loss on labels, for any head, and needs a
    ``SoftSelfLabelsHook`` among the hooks and ``further_map=dict(type='SelfLabelCells')``. The
    mean is over all pixels; pixels without a cell (padding) count as 0.

    Args:
        loss_weight: Factor of the loss. Defaults to 10.0, as in MiB.
        loss_name: Name in the log. Defaults to 'loss_soft_self_labels'.
    """

    needs_hook = 'SoftSelfLabelsHook'

    knows_hidden_classes = True

    def __init__(self, loss_weight: float = 10.0, loss_name: str = 'loss_soft_self_labels') -> None:
        super().__init__(loss_weight, False, loss_name)
        self._step: StepContext | None = None
        self._folder: LabelFolder | None = None
        self._cells: Tensor | None = None
        self._values: Tensor | None = None
        self._classes: Tensor | None = None

    def set_step(self, step: StepContext) -> None:
        """Take the classes of the step."""
        self._step = step

    def set_folder(self, step_folder: str) -> None:
        """Take the folder of the step, whose images are all labelled by now."""
        self._folder = LabelFolder(step_folder)

    def receive_samples(self, samples: SampleList) -> None:
        """Take cells and probabilities of the batch.

        Raises:
            InputError: The pipeline numbers no cells.
        """
        self._cells = None
        if self._folder is None:
            return
        maps = [sample.gt_edge_map.data if 'gt_edge_map' in sample else None for sample in samples]
        found = next((cell_map for cell_map in maps if cell_map is not None), None)
        if found is None:
            raise InputError(
                'SoftSelfLabelLoss reads soft self-labels, and the training pipeline has none: set '
                "method.further_map=dict(type='SelfLabelCells')"
            )
        tables = [
            None if cell_map is None else self._folder.read_table(sample.img_path)
            for cell_map, sample in zip(maps, samples, strict=True)
        ]
        known = next(table for table in tables if table is not None)
        # Images that a generator draws have no table.
        whole = [known if table is None else table for table in tables]
        # (N, H, W): number of the cell of each pixel.
        self._cells = torch.cat(
            [torch.zeros_like(found) if cell_map is None else cell_map for cell_map in maps]
        )
        # (N, cells, k), where images with fewer cells are padded.
        self._values, self._classes = (
            to_device(
                pad_sequence([torch.from_numpy(table[key]) for table in whole], batch_first=True),
                found.device,
            )
            for key in ('values', 'classes')
        )

    def cuts(self) -> tuple[int, ...]:
        """Return the bounds of the background, the old classes and all classes."""
        return () if self._step is None else (1, self._step.num_old, self._step.num_seen)

    def per_pixel(self, pixels: PixelLogits) -> tuple[Tensor, Tensor]:
        """See :meth:`DecodeLoss.per_pixel`.

        Raises:
            InputError: The head's labels have another shape than the map of cells.
        """
        assert pixels.labels is not None
        if self._cells is None:
            nothing = pixels.labels.new_zeros(pixels.labels.shape, dtype=torch.float32)
            return nothing, pixels.ignored
        if self._cells.shape != pixels.labels.shape:
            raise InputError(
                f'SoftSelfLabelLoss has cells of shape {tuple(self._cells.shape)} and labels of '
                f'shape {tuple(pixels.labels.shape)}: a head that learns from points, or '
                'self-supervision, changes the labels alone; take another decode head, or leave '
                'it out'
            )
        assert self._values is not None and self._classes is not None and self._step is not None
        # (N, H * W, 1): row of the tables that belongs to each pixel.
        places = (self._cells.long() - FIRST_CELL).clamp(min=0).flatten(1).unsqueeze(2)
        values, classes = (
            # (N, H * W, k), then (N, k, H * W), then (N, k, H, W).
            table.gather(1, places.expand(-1, -1, table.shape[2]))
            .movedim(2, 1)
            .unflatten(2, self._cells.shape[1:])
            for table in (self._values.float(), self._classes.long())
        )
        step = self._step
        loss = shared_soft_cross_entropy(
            pixels, values, classes, step.num_old, step.num_seen, step.has_background
        )
        return loss.masked_fill(self._cells < FIRST_CELL, 0.0), pixels.ignored


def soft_cross_entropy(
    logits: Tensor, values: Tensor, classes: Tensor, num_old: int, has_background: bool = True
) -> Tensor:
    """Return the loss of :class:`SoftSelfLabelLoss` at each pixel, ``(N, H, W)``.

    Args:
        logits: ``(N, C, H, W)``.
        values: ``(N, k, H, W)`` probabilities, which sum to 1.
        classes: ``(N, k, H, W)`` classes of the probabilities.
        num_old: O.
        has_background: Class 0 is the background, which new classes were part of.
    """
    num_seen = logits.shape[1]
    pixels = PixelLogits(logits, cuts=(1, num_old))
    return shared_soft_cross_entropy(pixels, values, classes, num_old, num_seen, has_background)


def shared_soft_cross_entropy(
    pixels: PixelLogits,
    values: Tensor,
    classes: Tensor,
    num_old: int,
    num_seen: int,
    has_background: bool = True,
) -> Tensor:
    """Compute :func:`soft_cross_entropy` from logits of any size, ``(N, H, W)``.

    Args:
        pixels: Logits with cuts at 1, ``num_old`` and ``num_seen``; outputs that stand for no class
            come last and are not read.
        values: ``(N, k, H, W)`` probabilities, which sum to 1.
        classes: ``(N, k, H, W)`` classes of the probabilities.
        num_old: O.
        num_seen: C.
        has_background: See :func:`soft_cross_entropy`.
    """
    # All maps are (N, H, W): the sum of q_c z_c, and the sum of q_c.
    total = values.sum(dim=1)
    if has_background and num_seen > num_old:
        # Log-sum-exp of the background and all new classes.
        background = torch.logaddexp(pixels.logsumexp(0, 1), pixels.logsumexp(num_old, num_seen))
        foreground = values.masked_fill(classes == 0, 0.0)
        of_background = total - foreground.sum(dim=1)
        agreement = pixels.weighted(foreground, classes) + of_background * background
    else:
        agreement = pixels.weighted(values, classes)
    return (total * pixels.logsumexp(0, num_seen) - agreement) / num_old
