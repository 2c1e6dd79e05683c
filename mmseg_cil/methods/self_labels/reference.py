"""The loss on self-labels in plain form, for reading and for tests; training does not use it."""

from __future__ import annotations

import torch
from torch import Tensor

from mmseg_cil.losses.precision import at_least_float32

#: Value in a map where the network is not sure of the pixel, or has not seen it.
UNSURE = 255


def self_label_cross_entropy(
    logits: Tensor, labels: Tensor, self_labels: Tensor, num_hidden: int, unsure: str = 'unbiased'
) -> Tensor:
    r"""Return the loss of each pixel.

    A pixel labelled background has the network's class as its target if the network was sure of
    the pixel; this class may be the background. If the network was not sure, the pixel is only
    known to belong to a hidden class, with the loss :math:`-\log \sum_{c < hidden} p_c`. All other
    pixels keep their labels.

    Args:
        logits: ``(N, C, H, W)``.
        labels: ``(N, H, W)`` model ids; 255 is ignored.
        self_labels: ``(N, H, W)`` ids of old classes, or :data:`UNSURE`.
        num_hidden: Number of classes that the label background may stand for, the background
            included.
        unsure: 'unbiased', or 'ignore', as in PLOP.

    Returns:
        ``(N, H, W)`` in nats; 0 at ignored pixels.
    """
    logs = at_least_float32(logits).log_softmax(dim=1)
    loss = torch.zeros_like(logs[:, 0])
    for place in torch.nonzero(labels != 255).tolist():
        image, row, column = place
        label, said = int(labels[image, row, column]), int(self_labels[image, row, column])
        pixel = logs[image, :, row, column]
        if label < num_hidden and said != UNSURE:
            loss[image, row, column] = -pixel[said]
        elif label >= num_hidden:
            loss[image, row, column] = -pixel[label]
        elif unsure == 'unbiased':
            loss[image, row, column] = -pixel[:num_hidden].logsumexp(dim=0)
    return loss
