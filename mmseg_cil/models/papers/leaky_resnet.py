"""A ResNet with leaky activations."""

from __future__ import annotations

from typing import Any

from mmseg.models.backbones import ResNet
from torch import nn

from mmseg_cil.errors import InputError
from mmseg_cil.registry import MODELS


@MODELS.register_module()
class LeakyResNet(ResNet):
    """MMSegmentation's ``ResNet`` with leaky ReLUs, as in the InPlace-ABN of the papers.

    MMSegmentation has no option for the activation of a ResNet. Options of ``ResNet`` give the
    rest of the papers' backbone: ``contract_dilation=False``, so that the last stage is dilated
    throughout, and ``style='pytorch'``. Names of weights are those of ``ResNet``.

    Source: fcdl94/MiB ``models/resnet.py``, ``modules/residual.py``, ``segmentation_module.py``
    (slope 0.01, also after the residual sum); zhangchbin/RCIL ``segmentation_module.py``, whose
    norms have slope 1 and whose blocks activate by themselves, so the stem has no activation.

    Args:
        negative_slope: Negative slope of the leaky ReLUs.
        stem_activation: Whether the first convolution is activated. RCIL's stem is not activated.
        **network: Arguments of ``ResNet``.

    Raises:
        InputError: The slope is no number from 0 to below 1, or the stem is not activated and
            has several convolutions (``deep_stem``).
    """

    def __init__(
        self, negative_slope: float = 0.01, stem_activation: bool = True, **network: Any
    ) -> None:
        super().__init__(**network)
        if isinstance(negative_slope, bool) or not 0 <= negative_slope < 1:
            raise InputError(
                f'LeakyResNet: negative_slope must be from 0 to below 1, not {negative_slope!r}'
            )
        self.negative_slope, self.stem_activation = negative_slope, stem_activation
        for module in list(self.modules()):
            for name, child in module.named_children():
                if isinstance(child, nn.ReLU):
                    setattr(module, name, nn.LeakyReLU(negative_slope, child.inplace))
        if not stem_activation:
            if self.deep_stem:
                raise InputError(
                    'LeakyResNet: stem_activation=False is for a stem of one '
                    'convolution, not for deep_stem=True'
                )
            self.relu = nn.Identity()
