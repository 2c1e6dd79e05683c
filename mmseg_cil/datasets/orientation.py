"""Check of images that an EXIF orientation turns on loading, while masks are never turned.

Cameras store the pixels as the sensor lay and say in a tag how to turn them.
Some loaders of images heed the tag, others do not; masks are read as they are
stored. If a turn changes the size, the sizes tell whether a mask was drawn on the
stored or on the turned image. If a turn keeps the size (a half turn, a mirror, a
square image), the pictures tell: borders of a mask lie where the image has edges.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageOps

from mmseg_cil.datasets.class_index import ClassIndex
from mmseg_cil.datasets.file_checks import QUARTER_TURNS
from mmseg_cil.errors import InputError

#: Loads an image by its row, as the pipeline does.
Loader = Callable[[int], np.ndarray | None]

# Greatest number of images that are examined, least number for a decision, and least distance of
# the mean gain from zero in standard errors. On VOC's images the mean of 16 gains lies six standard
# errors from zero; the mean of 100 gains with unrelated masks lies within three.
_LOOKED_AT, _LEAST, _SURE = 32, 4, 5.0
_SIDE = 512
_ADVICE = (
    'Load the images as they are stored, with LoadImageFromFile(color_type='
    "'color_ignore_orientation'), or drop the tag from the files"
)


@dataclass(frozen=True)
class _Turned:
    """An image with an orientation.

    Attributes:
        row: Row of the image in the index.
        on_loading: Whether the pipeline turns the image.
    """

    row: int
    on_loading: bool


def check_orientation(
    index: ClassIndex, paths: Sequence[tuple[str, str]], load: Loader, split: str
) -> list[str]:
    """Check that loaded images with an EXIF orientation are turned like their masks.

    Args:
        index: Index of the images.
        paths: Pairs of image path and mask path.
        load: The pipeline's loading of an image.
        split: The split, for messages.

    Returns:
        A note for the user, where neither sizes nor edges decide; else nothing.

    Raises:
        InputError: Images are turned and their masks are not, or the reverse.
    """
    turned = _turned(index, paths, load)
    wrong = [item for item in turned if not _fits(index.headers[item.row], item.on_loading)]
    if wrong:
        raise InputError(_refusal(index, paths, wrong, split))
    unsure = [item for item in turned if _fits(index.headers[item.row], not item.on_loading)]
    if not unsure:
        return []
    sureness = _evidence(paths, unsure)
    if sureness <= -_SURE:
        raise InputError(
            f'{_refusal(index, paths, unsure, split)}. (Sizes agree either way, but the borders '
            'of the masks lie on edges of the images as they are not loaded.)'
        )
    if sureness >= _SURE:
        return []
    turns = 'which turns them' if unsure[0].on_loading else 'which their loader ignores'
    return [
        f'{len(unsure)} of {len(paths)} images of the {split} split have an EXIF orientation, '
        f'{turns}, such as {paths[unsure[0].row][0]} ({_orientation(index, unsure[0])}); masks are '
        f'never turned, and their sizes do not tell whether they fit: look at one. If they do not: '
        f'{_ADVICE}'
    ]


def _turned(index: ClassIndex, paths: Sequence[tuple[str, str]], load: Loader) -> list[_Turned]:
    """Return all images with an orientation; one of each kind is loaded to see if it is turned."""
    heeded: dict[tuple[str, int], bool] = {}
    result = []
    for row in np.flatnonzero(index.headers[:, 2] > 1).tolist():
        kind = paths[row][0].rpartition('.')[2].lower(), int(index.headers[row, 2])
        if kind not in heeded:
            heeded[kind] = _is_turned(paths[row][0], load(row))
        result.append(_Turned(row, heeded[kind]))
    return result


def _is_turned(path: str, loaded: np.ndarray | None) -> bool:
    if loaded is None:
        return False
    with Image.open(path) as image:
        stored, turned = (
            np.asarray(picture.convert('L'), np.float64)
            for picture in (image, ImageOps.exif_transpose(image))
        )
    grey = loaded.mean(2) if loaded.ndim == 3 else loaded
    distances = [
        np.abs(picture - grey).mean() if picture.shape == grey.shape else np.inf
        for picture in (stored, turned)
    ]
    return bool(distances[1] < distances[0])


def _fits(header: np.ndarray, is_turned: bool) -> bool:
    width, height, orientation, *mask = header[:5].tolist()
    size = [height, width] if is_turned and orientation in QUARTER_TURNS else [width, height]
    return size == mask


def _orientation(index: ClassIndex, picture: _Turned) -> str:
    return f'orientation {index.headers[picture.row, 2]}'


def _refusal(
    index: ClassIndex, paths: Sequence[tuple[str, str]], wrong: Sequence[_Turned], split: str
) -> str:
    image, mask = paths[wrong[0].row]
    if wrong[0].on_loading:
        what, advice = (
            'are turned on loading by their EXIF orientation, their masks are not',
            _ADVICE,
        )
    else:
        what = 'have an EXIF orientation that their loader ignores, and masks of the turned image'
        advice = "Load them turned, with LoadImageFromFile(color_type='color')"
    return (
        f'{len(wrong)} of {len(paths)} images of the {split} split {what}, so that they do '
        f'not lie on each other, such as {image} ({_orientation(index, wrong[0])}) and {mask}. '
        f'{advice}'
    )


def _evidence(paths: Sequence[tuple[str, str]], unsure: Sequence[_Turned]) -> float:
    """Return by how many standard errors masks fit the loaded images better; 0: not known."""
    chosen = unsure[:: -(-len(unsure) // _LOOKED_AT)]
    gains = [gain for row in chosen if (gain := _gain(*paths[row.row], row.on_loading)) is not None]
    if len(gains) < _LEAST:
        return 0.0
    spread = np.std(gains, ddof=1) / np.sqrt(len(gains))
    return float(np.mean(gains) / max(spread, 1e-9))


def _gain(image_path: str, mask_path: str, turned_on_loading: bool) -> float | None:
    with Image.open(image_path) as image, Image.open(mask_path) as mask:
        pictures = [image.convert('L'), ImageOps.exif_transpose(image).convert('L')]
        borders = _borders(mask)
    if not borders.any():
        return None
    as_stored, as_turned = (_edges(picture, borders) for picture in pictures)
    if not as_stored or not as_turned:
        return None
    gain = float(np.log(as_turned / as_stored))
    return gain if turned_on_loading else -gain


def _borders(mask: Image.Image) -> np.ndarray:
    ids = mask.convert('P') if mask.mode == '1' else mask
    ids = ids.resize(_small(ids.size), Image.Resampling.NEAREST)
    values = np.asarray(ids)
    result = np.zeros(values.shape, bool)
    result[:, :-1] |= values[:, 1:] != values[:, :-1]
    result[:-1] |= values[1:] != values[:-1]
    return result


def _edges(picture: Image.Image, borders: np.ndarray) -> float:
    """Return the mean steepness of a picture along the borders, relative to the whole picture."""
    small = np.asarray(picture.resize(_small(picture.size), Image.Resampling.BOX), np.float32)
    grey = cv2.GaussianBlur(small, (0, 0), 1.0)
    steepness = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    mean = float(steepness.mean())
    return float(steepness[borders].mean()) / mean if mean else 0.0


def _small(size: tuple[int, int]) -> tuple[int, int]:
    scale = min(1.0, _SIDE / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
