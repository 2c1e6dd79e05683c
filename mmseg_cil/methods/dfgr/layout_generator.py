"""A small network that draws images of a label layout."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmseg_cil.errors import InputError
from mmseg_cil.registry import MODELS
from mmseg_cil.utils.devices import one_hot_maps

#: Number of stages; each doubles the size.
STAGES = 4


@MODELS.register_module()
class LayoutGenerator(nn.Module):
    """A network from noise and a layout to an image in the segmentor's normalised space.

    In the manner of DCGAN, the noise becomes a coarse map, which each of four stages
    enlarges twofold (nearest neighbour, convolution, norm, activation). The
    layout, as one-hot maps averaged over the cells of each size, is concatenated
    to the input of every stage. The norms are over groups of an image's own
    channels, so that an image does not depend on the others of its batch. The whole
    architecture is our choice: the generator of the paper is not published.

    The last activation bounds every channel to the normalised range of the pixel values
    0..255, so every generated image is a valid image.

    Args:
        num_classes: Number of classes of a layout.
        size: ``(H, W)`` of the images.
        mean: Mean of the data preprocessor, one number per channel.
        std: Standard deviation of the data preprocessor, one number per channel.
        noise_size: Length of the noise.
        channels: Channels of the last stage; earlier stages have up to four times as many.

    Raises:
        InputError: A side is less than 16 pixels, or ``channels`` is no multiple of 8.
    """

    low: Tensor
    span: Tensor

    def __init__(
        self,
        num_classes: int,
        size: Sequence[int],
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        std: Sequence[float] = (1.0, 1.0, 1.0),
        noise_size: int = 64,
        channels: int = 32,
    ) -> None:
        super().__init__()
        if len(size) != 2 or min(size) < 2**STAGES or channels % 8:
            raise InputError(
                f'LayoutGenerator: size must be (H, W) of at least {2**STAGES} and '
                f'channels a multiple of 8, got {tuple(size)} and {channels}'
            )
        self.num_classes = num_classes
        self.size = (int(size[0]), int(size[1]))
        self.noise_size = noise_size
        # Height and width of the coarse map: those of the image over 16, rounded up.
        self._coarse = tuple(-(-side // 2**STAGES) for side in self.size)
        widths = [channels * factor for factor in (4, 4, 2, 2, 1)]
        self.entry = nn.Linear(noise_size, widths[0] * self._coarse[0] * self._coarse[1])
        self.stages = nn.ModuleList(
            _stage(before + num_classes, after) for before, after in pairwise(widths)
        )
        self.exit = nn.Conv2d(widths[-1] + num_classes, len(mean), 3, padding=1)
        # (3, 1, 1), so that they fit images.
        centre, scale = (
            torch.tensor(values, dtype=torch.float32)[:, None, None] for values in (mean, std)
        )
        self.register_buffer('low', -centre / scale, persistent=False)
        self.register_buffer('span', 255 / scale, persistent=False)

    def forward(self, noise: Tensor, layouts: Tensor) -> Tensor:
        """Draw images.

        Args:
            noise: ``(N, noise_size)``.
            layouts: ``(N, H, W)`` integer classes.

        Returns:
            ``(N, 3, H, W)``, normalised.
        """
        planes = one_hot_maps(layouts, self.num_classes)  # (N, num_classes, H, W)
        # (N, 4 * channels, h, w) of the coarse map; each stage doubles h and w, and the last has
        # `channels` channels.
        maps = self.entry(noise).unflatten(1, (-1, *self._coarse))
        for stage in self.stages:
            maps = functional.interpolate(maps, scale_factor=2, mode='nearest')
            maps = stage(torch.cat([maps, _fit(planes, maps)], dim=1))
        maps = (
            # Where 16 does not divide the sides, the maps are larger than the image.
            functional.interpolate(maps, self.size, mode='bilinear', align_corners=False)
            if maps.shape[2:] != self.size
            else maps
        )
        drawn = self.exit(torch.cat([maps, planes], dim=1))  # (N, 3, H, W)
        return self.low + self.span * drawn.sigmoid()

    def to_bytes(self, images: Tensor) -> Tensor:
        """Convert normalised images to uint8 pixel values, rounded."""
        return ((images - self.low) / self.span * 255).round().clamp(0, 255).byte()

    def from_bytes(self, pixels: Tensor) -> Tensor:
        """Normalise pixel values 0..255."""
        normalised: Tensor = self.low + self.span * (pixels.float() / 255)
        return normalised


def _stage(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1),
        nn.GroupNorm(8, after),
        nn.LeakyReLU(0.2, inplace=True),
    )


def _fit(planes: Tensor, maps: Tensor) -> Tensor:
    # (N, num_classes, h, w): mean of the one-hot maps over the cells of the maps.
    return functional.adaptive_avg_pool2d(planes, (maps.shape[2], maps.shape[3]))
