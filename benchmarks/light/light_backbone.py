"""A backbone light enough for two CPU cores, of which a part stays as it was pre-trained.

It is built upon ``lite0_backbone.EfficientNetLite0``, a module that must be on PYTHONPATH beside
this file; see the README of this folder.
"""

from __future__ import annotations

from lite0_backbone import EfficientNetLite0
from mmseg.registry import MODELS
from torch import nn


@MODELS.register_module()
class FrozenLite0(EfficientNetLite0):  # type: ignore[misc]
    """EfficientNet-Lite0 whose early stages and depthwise kernels do not train.

    A CPU spends most of a step on the gradients of the depthwise kernels (measured: 0.69 s a
    step of 8 crops of 112 pixels with all of them, 0.36 s without), and the gradients of the
    early stages matter least. This is a choice for speed: all methods share it.

    Args:
        frozen_stages: Stages after the stem that do not train, 0 to 7. The stem does not either.
        frozen_depthwise: Whether the depthwise kernels of all stages do not train.
        **options: Passed on to ``EfficientNetLite0``.
    """

    def __init__(
        self, frozen_stages: int = 2, frozen_depthwise: bool = True, **options: object
    ) -> None:
        super().__init__(**options)
        early: list[nn.Module] = [self.conv_stem, self.bn1, *self.blocks[:frozen_stages]]
        for module in early:
            module.requires_grad_(False)
        for name, parameter in self.named_parameters():
            if frozen_depthwise and '.conv_dw.' in name:
                parameter.requires_grad_(False)
