"""Random label layouts, which a generator is asked to draw."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mmseg_cil.datasets.sampler import SampleKey
from mmseg_cil.registry import DATASETS


def random_layout(
    classes: Sequence[int],
    background: int | None,
    size: tuple[int, int],
    rng: np.random.Generator,
    most_classes: int = 3,
    sites: tuple[int, int] = (4, 9),
) -> np.ndarray:
    """Draw a Voronoi diagram of a few random sites, each with a class.

    One to ``most_classes`` classes are drawn uniformly, and every site gets one of
    these classes or the background, if there is a background. Each drawn class has at
    least one site. Voronoi diagrams are our choice: the cells have the size of objects,
    and the edges have all directions.

    Args:
        classes: Model ids to draw from, without the background.
        background: Model id of the background; None if there is no background.
        size: ``(H, W)``.
        rng: Source of all random choices.
        most_classes: Greatest number of classes in a layout, without the background.
        sites: Least and greatest number of sites.

    Returns:
        uint8 ``(H, W)`` model ids.
    """
    count = int(rng.integers(1, min(most_classes, max(1, len(classes))) + 1))
    drawn = (
        rng.choice(np.asarray(classes, np.int64), count, replace=False)
        if len(classes)
        else np.zeros(0, np.int64)
    )
    palette = drawn if background is None else np.append(drawn, background)
    number = max(int(rng.integers(sites[0], sites[1] + 1)), len(palette))
    labels = np.concatenate([palette, rng.choice(palette, number - len(palette))])
    height, width = size
    rows, columns = rng.random(number) * height, rng.random(number) * width
    down, across = np.arange(height)[:, None, None] + 0.5, np.arange(width)[None, :, None] + 0.5
    nearest = ((down - rows) ** 2 + (across - columns) ** 2).argmin(axis=2)
    return labels[nearest].astype(np.uint8)


def draw(
    seed: Sequence[int],
    num_classes: int,
    has_background: bool,
    size: tuple[int, int],
    noise_size: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the noise and the layout of one image, from a seed alone.

    Args:
        seed: Non-negative integers.
        num_classes: Model ids 0..num_classes - 1 are drawn.
        has_background: Id 0 is the background.
        size: ``(H, W)`` of the layout.
        noise_size: Length of the noise.

    Returns:
        Noise, float32 ``(noise_size,)`` standard normal, and layout, uint8 ``(H, W)``.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    noise = rng.standard_normal(noise_size, dtype=np.float32)
    first = 1 if has_background and num_classes > 1 else 0
    background = 0 if first else None
    return noise, random_layout(range(first, num_classes), background, size, rng)


@DATASETS.register_module()
class LayoutDataset(Dataset):
    """An endless data set of noise and layouts; each depends on seed, step and position alone.

    Args:
        num_classes: See :func:`draw`, also for the next three arguments.
        has_background: Id 0 is the background.
        size: ``(H, W)``.
        noise_size: Length of the noise.
        seed: Seed of the run.
        step: The step for which the generator is trained; part of the seed of each item.
        length: Nominal length of the data set; positions may exceed it.
    """

    def __init__(
        self,
        num_classes: int,
        has_background: bool,
        size: Sequence[int],
        noise_size: int,
        seed: int = 0,
        step: int = 0,
        length: int = 1000,
    ) -> None:
        self._arguments = (num_classes, has_background, (int(size[0]), int(size[1])), noise_size)
        self._seed, self._length = (seed, step), length

    def full_init(self) -> None:
        """Do nothing, since there is nothing to read."""

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, key: int | SampleKey) -> dict[str, Tensor]:
        """Return ``noise`` and ``layout`` of a position, or of an index if ``key`` is an int."""
        position = key.position if isinstance(key, SampleKey) else int(key)
        noise, layout = draw((*self._seed, position), *self._arguments)
        return dict(noise=torch.from_numpy(noise), layout=torch.from_numpy(layout))
