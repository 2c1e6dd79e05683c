"""The label-guided distillation of LGKD, from maps that losses share."""

from __future__ import annotations

import torch
from torch import Tensor

from mmseg_cil.losses.cells import at_cells
from mmseg_cil.losses.pixel_logits import PixelLogits


def shared_label_guided_distillation(
    pixels: PixelLogits, teacher_logits: Tensor, old_weight: float = 1.0, new_weight: float = 1.0
) -> Tensor:
    r"""Compute :func:`label_guided_distillation` from the log-sum-exps that losses share.

    The target differs from the teacher's softmax q only in the class that gets the background's
    probability, so that the loss of a pixel with label y and logits z is

    .. math:: w_y \Big[ \log \sum_c e^{z_c} - \sum_{0 < c < O} q_c z_c - q_0 z_r \Big]

    with r = y if y is a new class, and r = 0 otherwise. No tensor ``(N, C, H, W)`` is needed.

    Args:
        pixels: The student's logits over C classes and the labels, with a cut at 1.
        teacher_logits: ``(N, O, h, w)``, of the height and width of the
            classifier's output.
        old_weight: Weight of pixels whose label is the background or an old class, and of all
            pixels of generated images, which show only these.
        new_weight: Weight of pixels whose label is a new class.

    Returns:
        The mean over all pixels with a label and over all pixels of generated images, a scalar,
        at least float32; 0 if there is no such pixel.

    Raises:
        InputError: Student and teacher differ in height or width.
    """
    assert pixels.labels is not None
    # All maps here are (N, H, W).
    labelled = ~pixels.ignored
    new = labelled & (pixels.labels >= teacher_logits.shape[1])
    # Sum of q_c z_c over 0 < c < O, and q_0.
    agreement, background = pixels.agreement(teacher_logits)
    receiver = torch.where(new, pixels.own, pixels.logsumexp(0, 1))  # z_r
    loss = pixels.logsumexp() - agreement - background * receiver
    loss = torch.where(new, new_weight * loss, old_weight * loss)
    # Labelled pixels of real images, and all pixels of generated ones.
    among = pixels.distilled(labelled)
    return loss.masked_fill(~among, 0.0).sum() / among.sum().clamp(min=1)


def pixels_of_cells(logits: Tensor, pixels: PixelLogits) -> PixelLogits:
    """Return logits at the cells of the classifier's own output, with the labels of these cells.

    A cell has the label of its first pixel (nearest neighbour), as in the official code. On an
    image whose sides are multiples of the stride, that pixel is the middle of the input region
    that padded convolutions of odd size see.

    Args:
        logits: ``(N, C, h, w)``, the classifier's output.
        pixels: The labels ``(N, H, W)``, what is ignored among them, and the number of
            generated images.
    """
    assert pixels.labels is not None
    return PixelLogits(
        logits,
        at_cells(pixels.labels, logits.shape[2:]),
        cuts=(1,),
        ignore_index=pixels.ignore_index,
        replayed=pixels.replayed,
    )
