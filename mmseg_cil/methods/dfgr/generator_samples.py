"""Samples of a generator and a picture of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from mmseg_cil.methods.dfgr.layouts import draw
from mmseg_cil.visualization.grid import picture_grid

#: Beginning of the seeds of the samples: no position of training has a seed with this beginning.
SAMPLE_SEED = (2**32 - 1, 7)


@dataclass(frozen=True)
class Samples:
    """Images of fixed layouts, and the segmentor's predictions for these images.

    Attributes:
        images: uint8 ``(N, H, W, 3)``, channels in the order in which the network reads them.
        layouts: uint8 ``(N, H, W)`` classes that the generator was asked to draw.
        predictions: uint8 ``(N, H, W)`` classes that the segmentor predicts.
        summary: Fractions of pixels that follow the layout, over all pixels and by class,
            and the parts of the loss.
    """

    images: np.ndarray
    layouts: np.ndarray
    predictions: np.ndarray
    summary: dict[str, Any]


@torch.no_grad()
def draw_samples(model: Any, num_classes: int, has_background: bool, count: int = 32) -> Samples:
    """Draw images of layouts that training did not use, on this process.

    Every process must call this function; all get the same samples.

    Args:
        model: A :class:`~mmseg_cil.methods.dfgr.generator_training.GeneratorTraining`, loaded.
        num_classes: Number of classes of the layouts, K.
        has_background: Class 0 is the background.
        count: Number of images.
    """
    generator = model.generator
    device = next(generator.parameters()).device
    images, layouts, predictions = [], [], []
    parts: list[dict[str, float]] = []
    for first in range(0, count, 8):
        drawn = [
            draw(
                (*SAMPLE_SEED, place),
                num_classes,
                has_background,
                generator.size,
                generator.noise_size,
            )
            for place in range(first, min(first + 8, count))
        ]
        noise, layout = (
            torch.from_numpy(np.stack(arrays)).to(device) for arrays in zip(*drawn, strict=True)
        )
        parts.append({key: float(value) for key, value in model(noise, layout).items()})
        image = generator(noise, layout)
        images.append(generator.to_bytes(image).permute(0, 2, 3, 1).cpu().numpy())
        layouts.append(layout.cpu().numpy())
        predictions.append(model.predict(image, layout.shape[1:]).argmax(1).byte().cpu().numpy())
    asked, found = np.concatenate(layouts), np.concatenate(predictions)
    summary: dict[str, Any] = {
        key: sum(part[key] for part in parts) / len(parts) for key in parts[0]
    }
    summary['follows'] = float((asked == found).mean())
    summary['follows_by_class'] = [
        float((found == asked)[asked == index].mean()) if (asked == index).any() else None
        for index in range(num_classes)
    ]
    return Samples(np.concatenate(images), asked, found, summary)


def sample_grid(
    samples: Samples,
    names: Sequence[str],
    palette: Sequence[Sequence[int]],
    bgr: bool = False,
    most: int = 8,
) -> Image.Image:
    """Draw a grid of layout, image and prediction of some samples, with a legend.

    Args:
        samples: From :func:`draw_samples`.
        names: Class names by model id.
        palette: ``[r, g, b]`` by model id.
        bgr: The network reads channels in the order blue, green, red.
        most: Greatest number of rows.
    """
    colours = np.asarray(palette, np.uint8)
    rows = []
    for image, layout, prediction in zip(
        samples.images[:most], samples.layouts, samples.predictions, strict=False
    ):
        rows.append(
            [
                ('layout', colours[layout]),
                ('generated image', image[..., ::-1] if bgr else image),
                ('prediction', colours[prediction]),
            ]
        )
    legend = [
        (name, (int(r), int(g), int(b))) for name, (r, g, b) in zip(names, palette, strict=True)
    ]
    return picture_grid(
        f'Generated images: {samples.summary["follows"]:.1%} of the pixels follow the layout',
        rows,
        legend,
    )
