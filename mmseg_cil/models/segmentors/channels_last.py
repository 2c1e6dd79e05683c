"""A segmentor that computes with the channels last in memory."""

from __future__ import annotations

import contextlib

from mmseg.models.segmentors import EncoderDecoder
from torch import Tensor

from mmseg_cil.contracts import Features
from mmseg_cil.models.memory_format import arranged, keep_channels_last, plain_order


class ChannelsLast(EncoderDecoder):
    """The part of our segmentors that keeps kernels and maps in an order in memory.

    Attributes:
        in_order: Whether the channels are last.
    """

    in_order: bool = False

    def keep_order(self, channels_last: bool) -> None:
        """Take the order, once the network has all of its modules.

        Args:
            channels_last: Whether the channels are last.
        """
        self.in_order = channels_last
        if channels_last:
            keep_channels_last(self)

    def while_drawing(self) -> contextlib.AbstractContextManager[None]:
        """Return the context in which initial weights are drawn: those of any order."""
        return plain_order(self) if self.in_order else contextlib.nullcontext()

    def extract_feat(self, inputs: Tensor) -> Features:
        """Return the maps of backbone and neck for images ``(N, 3, H, W)``."""
        features: Features = super().extract_feat(arranged(inputs) if self.in_order else inputs)
        return features
