"""Checks of one image and its mask, as cheap as they can be and still tell the truth.

Nothing here decodes an image that looks whole: the size stands in the header
and the end of the file shows whether it was cut off.
"""

from __future__ import annotations

import io
import os

import numpy as np
from PIL import Image

# Formats that Pillow reads for certain. Others (say .npy or .nii.gz, which
# MMSegmentation loads by other means) are not judged by Pillow's verdict.
_KNOWN_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp')
_TRAILERS = {'JPEG': b'\xff\xd9', 'MPO': b'\xff\xd9', 'PNG': b'IEND'}
# A few bytes of padding after the end marker are common and harmless.
_TAIL_BYTES = 64
# '1' is a PNG of one bit a pixel, which reads as the ids 0 and 1.
_MASK_MODES = ('L', 'P', '1')
_EXIF_ORIENTATION = 0x0112
_EXIF_TRANSPOSED = (5, 6, 7, 8)


Size = tuple[int, int]


class FileProblem(Exception):
    """A file is missing, broken or of the wrong kind; the text says which and how."""


def read_image_size(path: str) -> Size | None:
    """Reads the size of an image and makes sure that the file is whole.

    The end-of-image marker (JPEG: EOI, PNG: IEND) is looked for in the last
    bytes; only a file without it is decoded, which then decides.

    Args:
        path: The image file.

    Returns:
        Width and height in pixels, or None for a format that Pillow does not know.

    Raises:
        FileProblem: The image is missing, unreadable or truncated.
    """
    try:
        with open(path, 'rb') as file, Image.open(file) as image:
            if not _has_trailer(file, image.format):
                _decode_fully(path)
            return image.size
    except FileNotFoundError:
        raise FileProblem(f'missing image: {path}') from None
    except FileProblem:
        raise
    except Exception as error:
        if not path.lower().endswith(_KNOWN_SUFFIXES):
            return None
        raise FileProblem(f'unreadable image: {path} ({_brief(error)})') from None


def _has_trailer(file: io.BufferedReader, kind: str | None) -> bool:
    trailer = _TRAILERS.get(kind or '')
    if trailer is None:
        return False
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _TAIL_BYTES))
    return trailer in file.read()


def _decode_fully(path: str) -> None:
    try:
        with Image.open(path) as image:
            image.load()
    except Exception as error:
        raise FileProblem(f'truncated or corrupt image: {path} ({_brief(error)})') from None


def is_transposed(path: str) -> bool:
    """Whether the image's EXIF orientation swaps width and height on loading."""
    try:
        with Image.open(path) as image:
            return image.getexif().get(_EXIF_ORIENTATION) in _EXIF_TRANSPOSED
    except Exception:
        return False


def read_mask(path: str, content: bytes, decode: bool) -> tuple[Size, np.ndarray | None]:
    """Reads the size of a mask and, if asked, decodes which ids occur in it.

    Palette images are read as indices, as MMSegmentation's ``LoadAnnotations``
    does (Pillow, 'unchanged').

    Args:
        path: The mask file, for the message.
        content: The bytes of the file.
        decode: Whether to decode it.

    Returns:
        Width and height in pixels; bool (256,), whether each mask id occurs, or
        None if that was not asked for.

    Raises:
        FileProblem: The mask is no image, truncated or corrupt, or not of
            single 8-bit values.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            _check_mode(path, image.mode)
            return image.size, _presence(image) if decode else None
    except FileProblem:
        raise
    except Exception as error:
        raise FileProblem(f'truncated or corrupt mask: {path} ({_brief(error)})') from None


def _presence(image: Image.Image) -> np.ndarray:
    # Pillow counts in C, several times faster than numpy can.
    occurs = np.array(image.histogram()) > 0
    if image.mode == '1':
        # Pillow counts the ones of a one-bit image at 255.
        occurs[[1, 255]] = occurs[255], False
    return occurs


def _check_mode(path: str, mode: str) -> None:
    if mode not in _MASK_MODES:
        raise FileProblem(
            f'mask is not single-channel 8-bit: {path} (Pillow mode {mode}); '
            'each pixel must hold one class id'
        )


def check_same_size(
    image_path: str, image_size: Size | None, mask_path: str, mask_size: Size
) -> None:
    """Checks that an image and its mask have as many pixels each way.

    An image that EXIF turns by a quarter may have the size of the turned mask.

    Raises:
        FileProblem: The sizes differ.
    """
    if image_size is None or image_size == mask_size:
        return
    if image_size == mask_size[::-1] and is_transposed(image_path):
        return
    raise FileProblem(
        f'image and mask differ in size: {image_path} is {image_size[0]}x{image_size[1]}, '
        f'{mask_path} is {mask_size[0]}x{mask_size[1]}'
    )


def _brief(error: Exception) -> str:
    text = str(error).split('\n')[0]
    return text[:120] or type(error).__name__
