"""The ASPP of MiB, PLOP and RCIL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmcv.cnn import ConvModule
from mmseg.models.decode_heads import ASPPHead
from torch import Tensor, nn
from torch.nn import functional

from mmseg_cil.errors import InputError
from mmseg_cil.registry import MODELS


@MODELS.register_module()
class PaperASPPHead(ASPPHead):
    """MMSegmentation's ``ASPPHead`` fused by a 1x1 convolution, without dropout.

    The official head normalises and activates its four branches together, reduces them by a 1x1
    convolution, adds the pooled branch after a 1x1 convolution of its own, and normalises and
    activates the sum. A norm works channel by channel, and the sum of two 1x1 convolutions is
    one 1x1 convolution over both inputs. The official head is therefore ``ASPPHead`` with a kernel
    of 1 in place of 3 in its bottleneck, whose first ``channels`` inputs are the pooled branch. The
    names of all weights are those of ``ASPPHead``.

    Weights are initialised as in the official code: Xavier's normal distribution with the gain of
    the activation, and the classifier as a new ``nn.Conv2d``.

    Source: fcdl94/MiB ``modules/deeplab.py``, ``segmentation_module.py``; the same files of
    zhangchbin/RCIL, with two branches and a gain of 1.

    Args:
        pooling_size: In evaluation, pool windows of this size (height, width, or one number)
            around every place instead of the whole map, as the official code does with 32. Both
            give the same if the map is not larger than the window, such as the map of a 512 image
            at output stride 16. None: the whole map.
        gain_slope: Negative slope whose gain the initial weights have. Default: 0.01, the slope of
            the activation; 1.0 in the official code of RCIL.
        **head: Arguments of ``ASPPHead``. By default ``dropout_ratio`` is 0 and the activation is a
            leaky ReLU of slope 0.01.

    Raises:
        InputError: ``pooling_size`` is not positive.
    """

    def __init__(
        self, pooling_size: int | Sequence[int] | None = None, gain_slope: float = 0.01, **head: Any
    ) -> None:
        head.setdefault('dropout_ratio', 0.0)
        head.setdefault('act_cfg', dict(type='LeakyReLU', negative_slope=0.01))
        self._starts_officially = 'init_cfg' not in head
        super().__init__(**head)
        self.gain_slope = gain_slope
        self.pooling_size = _window(pooling_size)
        self.bottleneck = ConvModule(
            (len(self.dilations) + 1) * self.channels,
            self.channels,
            1,
            conv_cfg=self.conv_cfg,
            norm_cfg=self.norm_cfg,
            act_cfg=self.act_cfg,
        )

    def init_weights(self) -> None:
        """Initialise all weights, or only those that ``init_cfg`` names, if it is given."""
        super().init_weights()
        if self._starts_officially:
            for module in self.modules():
                if isinstance(module, nn.Conv2d):
                    self.init_conv(module)
            self.conv_seg.reset_parameters()

    def init_conv(self, conv: nn.Conv2d) -> None:
        """Initialise one convolution of the head."""
        gain = nn.init.calculate_gain('leaky_relu', self.gain_slope)
        nn.init.xavier_normal_(conv.weight, gain)
        if conv.bias is not None:
            nn.init.zeros_(conv.bias)

    def _forward_feature(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return the map before the classifier, ``(N, channels, H, W)``."""
        features = self._transform_inputs(inputs)
        pooled = self._pool(features).expand(-1, -1, *features.shape[2:])
        fused: Tensor = self.bottleneck(torch.cat([pooled, *self.aspp_modules(features)], dim=1))
        return fused

    def _pool(self, features: Tensor) -> Tensor:
        """Return the pooled branch: one place or, if windows are pooled, all places of the map."""
        if self.training or self.pooling_size is None:
            whole: Tensor = self.image_pool(features)
            return whole
        height, width = (
            min(size, side)
            for size, side in zip(self.pooling_size, features.shape[2:], strict=True)
        )
        windows = functional.avg_pool2d(features, (height, width), stride=1)
        around = ((width - 1) // 2, width // 2, (height - 1) // 2, height // 2)
        pooled: Tensor = self.image_pool[1](functional.pad(windows, around, mode='replicate'))
        return pooled


def _window(size: int | Sequence[int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    both = (size, size) if isinstance(size, int) else tuple(size)
    if len(both) != 2 or not all(isinstance(side, int) and side > 0 for side in both):
        raise InputError(
            f'PaperASPPHead: pooling_size must be a number of places or (height, '
            f'width), not {size!r}'
        )
    return both[0], both[1]
