"""Resized crops: the augmentation and the test geometry of MiB, PLOP and RCIL."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from PIL import Image

from mmseg_cil.errors import InputError
from mmseg_cil.registry import TRANSFORMS

Box = tuple[int, int, int, int]
"""Top, left, height and width."""


def draw_box(
    height: int,
    width: int,
    area_range: tuple[float, float],
    aspect_range: tuple[float, float],
    attempts: int,
) -> Box:
    """Draw the box of a random resized crop.

    Every attempt draws an area as a uniform share of the image's area, and an aspect (width by
    height) that is uniform in its logarithm. The first box that fits into the image is placed at
    random; a box with an area share above 1 never fits. If no attempt fits, the box is the
    greatest central one whose aspect is in range: the whole image, if its aspect is in range.

    Args:
        height: Height of the image.
        width: Width of the image.
        area_range: Least and greatest share of the image's area.
        aspect_range: Least and greatest aspect.
        attempts: Greatest number of draws.

    Returns:
        Top, left, height and width, inside the image.
    """
    low, high = math.log(aspect_range[0]), math.log(aspect_range[1])
    for _ in range(attempts):
        area = np.random.uniform(*area_range) * height * width
        aspect = math.exp(np.random.uniform(low, high))
        tall, wide = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 0 < tall <= height and 0 < wide <= width:
            top = np.random.randint(height - tall + 1)
            left = np.random.randint(width - wide + 1)
            return int(top), int(left), tall, wide
    tall = max(min(height, round(width / aspect_range[0])), 1)
    wide = max(min(width, round(height * aspect_range[1])), 1)
    return (height - tall) // 2, (width - wide) // 2, tall, wide


def _pair(value: int | Sequence[int], name: str) -> tuple[int, int]:
    """Return width and height of a size, which may be one number for both."""
    both = (value, value) if isinstance(value, int) else tuple(value)
    if len(both) != 2 or not all(isinstance(side, int) and side > 0 for side in both):
        raise InputError(f'{name} must be a number of pixels or (width, height), not {value!r}')
    return both[0], both[1]


def _cut(results: dict[str, Any], box: Box, size: tuple[int, int] | None, backend: str) -> None:
    """Cut image and masks of a sample to a box; resize the image bilinear, masks nearest."""
    top, left, tall, wide = box
    for key in ('img', *results.get('seg_fields', ())):
        part = np.ascontiguousarray(results[key][top : top + tall, left : left + wide])
        if size is not None:
            part = _resize(part, size, backend, key)
        results[key] = part
    results['img_shape'] = results['img'].shape[:2]


def _resize(part: np.ndarray, size: tuple[int, int], backend: str, key: str) -> np.ndarray:
    if backend == 'cv2' or part.dtype == np.uint8:
        interpolation = 'bilinear' if key == 'img' else 'nearest'
        resized: np.ndarray = mmcv.imresize(
            part, size, backend=backend, interpolation=interpolation
        )
        return resized
    if key == 'img':
        raise InputError(
            f'Pillow resizes images of uint8, and this image is {part.dtype}: set '
            "backend='cv2' in the transform that crops, or to_float32=False where it is loaded"
        )
    # Pillow takes few types of masks, so it moves the numbers of rows and columns.
    wide, tall = size
    return part[_nearest(part.shape[0], tall)][:, _nearest(part.shape[1], wide)]


def _nearest(length: int, new_length: int) -> np.ndarray:
    """Return the indices that Pillow's nearest filter takes along a side, ``(new_length,)``."""
    indices = Image.fromarray(np.arange(length, dtype=np.int32)[:, None])
    return np.asarray(indices.resize((1, new_length), Image.Resampling.NEAREST))[:, 0]


@TRANSFORMS.register_module()
class RandomResizedCrop(BaseTransform):
    """A transform that crops a random area of a random aspect and resizes it, without padding.

    With ``crop_ratio_range=(0.5, 2.0)`` this is the training crop of MiB, PLOP and RCIL
    (``dataset/transform.py`` and ``run.py`` of fcdl94/MiB), which is torchvision's: an area above
    that of the image never fits, and after ten attempts the central crop is taken.

    Required keys: ``img`` and the masks that ``seg_fields`` lists, all modified. Modified key:
    ``img_shape``.

    Args:
        scale: Size of the result, a number or (width, height).
        crop_ratio_range: Least and greatest area, as a share of the image's.
        aspect_ratio_range: Least and greatest width by height.
        max_attempts: Draws before the central crop.
        backend: ``pillow``, as in the papers (Pillow's bilinear filter is wider when it shrinks
            an image, and its nearest pixel is that of the centre), or ``cv2``.
    """

    def __init__(
        self,
        scale: int | Sequence[int],
        crop_ratio_range: Sequence[float] = (0.5, 2.0),
        aspect_ratio_range: Sequence[float] = (3 / 4, 4 / 3),
        max_attempts: int = 10,
        backend: str = 'pillow',
    ) -> None:
        self.scale = _pair(scale, 'RandomResizedCrop: scale')
        self.crop_ratio_range = _ordered(crop_ratio_range, 'crop_ratio_range')
        self.aspect_ratio_range = _ordered(aspect_ratio_range, 'aspect_ratio_range')
        if max_attempts < 0:
            raise InputError(f'RandomResizedCrop: max_attempts must not be {max_attempts}')
        self.max_attempts = max_attempts
        self.backend = _known_backend(backend)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Crop and resize a sample.

        Args:
            results: The sample after the preceding transforms.

        Returns:
            The same dictionary with image and masks of the size ``scale``.
        """
        height, width = results['img'].shape[:2]
        box = draw_box(
            height, width, self.crop_ratio_range, self.aspect_ratio_range, self.max_attempts
        )
        _cut(results, box, self.scale, self.backend)
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(scale={self.scale}, '
            f'crop_ratio_range={self.crop_ratio_range}, '
            f'aspect_ratio_range={self.aspect_ratio_range}, '
            f'max_attempts={self.max_attempts}, backend={self.backend!r})'
        )


@TRANSFORMS.register_module()
class ResizedCenterCrop(BaseTransform):
    """A transform that resizes the short side of image and masks, and keeps the central square.

    This is the test geometry of MiB, PLOP and RCIL (``run.py``, ``crop_val``), which cuts image
    and label alike to that square. The transform stands after ``LoadAnnotations``. The network's
    prediction is scored at this size, so the original size of the image (``ori_shape``) is
    overwritten, and a tool that predicts with this pipeline returns the square.

    Required keys: ``img`` and the masks that ``seg_fields`` lists, all modified. Modified keys:
    ``img_shape``, ``ori_shape``.

    Args:
        scale: The short side, and the side of the square.
        backend: As in :class:`RandomResizedCrop`.
    """

    def __init__(self, scale: int, backend: str = 'pillow') -> None:
        if not isinstance(scale, int) or isinstance(scale, bool) or scale <= 0:
            raise InputError(
                'ResizedCenterCrop: scale must be a number of pixels, not '
                f'{scale!r}: the result is square'
            )
        self.scale = scale
        self.backend = _known_backend(backend)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Resize and crop a sample.

        Args:
            results: The sample after the preceding transforms.

        Returns:
            The same dictionary with image and masks of ``scale`` x ``scale``.
        """
        height, width = results['img'].shape[:2]
        short = min(height, width)
        # The fraction of the long side is cut off, not rounded, as in torchvision.
        tall, wide = (int(self.scale * side / short) for side in (height, width))
        _cut(results, (0, 0, height, width), (wide, tall), self.backend)
        # round() goes to the even number at a half, as torchvision's does.
        top, left = (round((side - self.scale) / 2) for side in (tall, wide))
        _cut(results, (top, left, self.scale, self.scale), None, self.backend)
        results['ori_shape'] = results['img_shape']
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(scale={self.scale}, backend={self.backend!r})'


def _ordered(values: Sequence[float], name: str) -> tuple[float, float]:
    if len(values) != 2 or not 0 < values[0] <= values[1] < math.inf:
        raise InputError(
            f'RandomResizedCrop: {name} must be (least, greatest), both positive, not {values!r}'
        )
    return float(values[0]), float(values[1])


def _known_backend(name: str) -> str:
    if name not in ('pillow', 'cv2'):
        raise InputError(f"backend must be 'pillow' or 'cv2', not {name!r}")
    return name
