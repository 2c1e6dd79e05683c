"""A segmentor of the new classes alone, trained on the new step's data alone."""

from __future__ import annotations

from typing import Any

import torch
from mmseg.models.segmentors import CascadeEncoderDecoder
from mmseg.utils import SampleList
from torch import Tensor

from mmseg_cil.models.segmentors.incremental_encoder_decoder import IncrementalEncoderDecoder
from mmseg_cil.registry import MODELS

IGNORED = 255


def new_labels(labels: Tensor, num_old: int, has_background: bool) -> Tensor:
    """Convert a step's labels for a network that knows only the background and new classes.

    Args:
        labels: Integer model ids of the step, 255 ignored, of any shape.
        num_old: Number of classes of earlier steps, the background included.
        has_background: Id 0 is the background.

    Returns:
        Labels of the same shape and type: 0 for the background and old classes (255 for
        old classes if there is no background), then the new classes in their order
        (from 1, or from 0 without a background), and 255 for ignored pixels.
    """
    first = 1 if has_background else 0
    shifted = labels - num_old + first
    old = torch.full_like(labels, 0 if has_background else IGNORED)
    result = torch.where(labels < num_old, old, shifted)
    return torch.where(labels == IGNORED, labels, result)


@MODELS.register_module()
class NewDataEncoderDecoder(IncrementalEncoderDecoder):
    """The step's network with the background and the new classes as its outputs.

    Args:
        num_old: Number of classes of earlier steps in the labels of the data.
        **network: Arguments of :class:`IncrementalEncoderDecoder`; ``step`` describes a walk
            of a single step with the background and the new classes.
    """

    def __init__(self, *, num_old: int, **network: Any) -> None:
        super().__init__(**network)
        self._num_old = num_old

    def loss(self, inputs: Tensor, data_samples: SampleList) -> dict[str, Tensor]:
        """Return the losses of the heads on the labels that :func:`new_labels` gives."""
        for sample in data_samples:
            sample.gt_sem_seg.data = new_labels(
                sample.gt_sem_seg.data, self._num_old, self.step.has_background
            )
        return super().loss(inputs, data_samples)


@MODELS.register_module()
class NewDataCascadeEncoderDecoder(NewDataEncoderDecoder, CascadeEncoderDecoder):
    """:class:`NewDataEncoderDecoder` for the networks of ``CascadeEncoderDecoder``."""

    plain_type = 'CascadeEncoderDecoder'
