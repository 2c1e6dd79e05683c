"""Image and truth of a test image as a person sees them, whatever the files are."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from mmseg_cil.datasets.pipeline import seeded
from mmseg_cil.errors import InputError

#: Modes of Pillow that hold pictures of eight bits per colour.
_PICTURES = ('1', 'L', 'LA', 'P', 'RGB', 'RGBA', 'CMYK', 'YCbCr')
_EXIF_ORIENTATION = 0x0112
_LONGEST_NAME = 100


def sample_names(names: Sequence[str]) -> list[str]:
    """Return a file name for each image, all of them different.

    Args:
        names: Names of images, which may have folders, blanks and signs.
    """
    result: list[str] = []
    for name in names:
        plain = name.replace('/', '_')
        safe = re.sub(r'[^\w.\-]', '_', plain).lstrip('.')[:_LONGEST_NAME]
        if safe != plain or safe in result:
            safe = f'{safe}_{zlib.crc32(name.encode("utf-8", "surrogateescape")):08x}'
        result.append(safe)
    return result


def image_and_truth(view: Any, index: int, bgr: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return RGB image ``(H, W, 3)`` and mask ``(H, W)`` of protocol class ids, 255 = void.

    Image and mask are as the test pipeline loads them, before it changes anything; an
    ordinary picture is read from its file.

    Args:
        view: View of the test images, an :class:`~mmseg_cil.datasets.IncrementalDataset`.
        index: Index of the image.
        bgr: Whether images of three bands are loaded blue first.

    Raises:
        InputError: The pipeline loads no image or no mask, or an image that cannot be drawn.
    """
    image, raw = _loaded(view, index)
    table = view.data.class_table(view.place_of(index))
    picture = _picture_of_file(view.get_data_info(index), image.shape[:2])
    return as_picture(image, bgr) if picture is None else picture, table[raw.astype(np.uint8)]


def as_scored(
    sample: Mapping[str, Any], seen: Sequence[int], bgr: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return image and mask at the end of a test pipeline, as :func:`image_and_truth` does.

    These are used where the pipeline changes both, for example by a centre crop.

    Args:
        sample: The sample that the pipeline packed.
        seen: Protocol class id of every label.
        bgr: Whether images of three bands are loaded blue first.
    """
    labels = sample['data_samples'].gt_sem_seg.data.squeeze(0).numpy()
    table = np.full(256, 255, dtype=np.uint8)
    table[: len(seen)] = seen
    return as_picture(sample['inputs'].numpy().transpose(1, 2, 0), bgr), table[labels]


def _loaded(view: Any, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Return image and mask as the transforms load them, without any further transforms."""
    found = []
    for key in ('img', 'gt_seg_map'):
        with seeded(0):
            sample = view.pipeline.until(view.get_data_info(index), key)
        if not isinstance(sample, Mapping) or not isinstance(sample.get(key), np.ndarray):
            raise InputError(
                f'the test pipeline loads no {key} that is a single array, so pictures of samples '
                'cannot be drawn: leave them out, or load images and masks by MMSegmentation'
            )
        found.append(sample[key])
    return found[0], found[1]


def _picture_of_file(info: Mapping[str, Any], size: tuple[int, ...]) -> np.ndarray | None:
    """Return the picture in an image file; None where the pipeline loads something else."""
    try:
        with Image.open(info['img_path']) as picture:
            turned = picture.getexif().get(_EXIF_ORIENTATION, 1) not in (0, 1)
            if picture.mode not in _PICTURES or turned or picture.size != size[::-1]:
                return None
            return np.array(picture.convert('RGB'))
    except Exception:
        # The file has a format that only the pipeline's own loader knows.
        return None


def as_picture(image: np.ndarray, bgr: bool) -> np.ndarray:
    """Return an array of any bands and numbers as uint8 ``(H, W, 3)``.

    The first three bands are shown where there are more, and the first where there are two.
    Numbers that are not those of a picture are stretched from the least to the greatest.

    Args:
        image: ``(H, W)`` or ``(H, W, bands)``.
        bgr: Whether three bands are blue, green, red.

    Raises:
        InputError: The image has another shape.
    """
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or not image.size:
        raise InputError(
            f'an image of shape {image.shape} cannot be drawn: (H, W) or (H, W, bands) can'
        )
    bands = image.shape[2]
    image = image[..., :3] if bands > 2 else image[..., :1].repeat(3, axis=2)
    if bgr and bands in (3, 4):
        image = image[..., ::-1]
    if image.dtype == np.uint8:
        return np.ascontiguousarray(image)
    numbers = np.nan_to_num(image.astype(np.float64))
    low, high = float(numbers.min()), float(numbers.max())
    if low < 0 or not 1 < high <= 255:
        numbers = (numbers - low) * (255 / (high - low) if high > low else 0.0)
    return np.ascontiguousarray(numbers.round().astype(np.uint8))
