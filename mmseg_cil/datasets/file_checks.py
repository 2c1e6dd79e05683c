"""Checks of one image and its mask that are as cheap as reliable checks can be.

No check decodes an image that looks whole, unless asked to: the size stands in
the header, and the end of the file shows whether the file was cut off.
"""

from __future__ import annotations

import hashlib
import io
import os
from dataclasses import dataclass

import numpy as np
from PIL import Image

# Formats that Pillow reads for certain. Other files (such as .npy or .nii.gz, which
# MMSegmentation loads by other means) are not refused when Pillow cannot read them.
_KNOWN_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp')
_TRAILERS = {'JPEG': b'\xff\xd9', 'MPO': b'\xff\xd9', 'PNG': b'IEND'}
# A few bytes of padding after the end marker are common and harmless.
_TAIL_BYTES = 64
#: Pillow's modes of masks; the class index keeps a mode's place in this tuple. '1' is one bit a
#: pixel, which reads as the ids 0 and 1.
MASK_MODES = ('L', 'P', '1')
_OTHER_MODES = {
    'RGB': 'three colours a pixel',
    'RGBA': 'three colours and transparency',
    'LA': 'grey and transparency',
    'PA': 'a palette and transparency',
    'CMYK': 'four colours',
    'F': 'fractions',
}
#: Bytes of the digests of masks and images.
DIGEST_BYTES = 16
_PART_BYTES = 16 * 2**10
_EXIF_ORIENTATION = 0x0112
#: Orientations that swap width and height on loading.
QUARTER_TURNS = (5, 6, 7, 8)
# In other formats Pillow has turned the pixels already, or the readers know no orientation.
_TURNED_FORMATS = ('JPEG', 'MPO', 'PNG', 'WEBP')
_LOSSY_FORMATS = ('JPEG', 'MPO')


Size = tuple[int, int]


class FileProblem(Exception):
    """The error of a missing or broken file, or a file of the wrong kind; the text tells which."""


@dataclass(frozen=True)
class ImageHeader:
    """The header of an image file.

    Attributes:
        size: Width and height as stored; None for a format that Pillow does not know.
        orientation: The EXIF orientation, 1 to 8; 0 where there is none.
    """

    size: Size | None
    orientation: int = 0


@dataclass(frozen=True)
class Mask:
    """The content of a mask file.

    Attributes:
        size: Width and height as stored.
        mode: Pillow's mode, one of :data:`MASK_MODES`.
        presence: bool (256,), whether each mask id occurs; None if the mask was not decoded.
    """

    size: Size
    mode: str
    presence: np.ndarray | None = None


def read_image(path: str, decode: bool = False) -> ImageHeader:
    """Read the header of an image and make sure that the file is whole.

    The end-of-image marker (JPEG: EOI, PNG: IEND) is looked for in the last
    bytes; only a file without the marker is decoded, and the decoding then decides.

    Args:
        path: The image file.
        decode: Whether to decode the file in any case, which also finds most damage in the
            middle.

    Returns:
        The header of the image.

    Raises:
        FileProblem: The image is missing, unreadable, truncated or corrupt.
    """
    try:
        with open(path, 'rb') as file, Image.open(file) as image:
            if decode or not _has_trailer(file, image.format):
                _decode_fully(path)
            return ImageHeader(image.size, _orientation(image))
    except FileNotFoundError:
        raise FileProblem(f'missing image: {path}') from None
    except IsADirectoryError:
        raise FileProblem(f'unreadable image: {path} (it is a folder)') from None
    except FileProblem:
        raise
    except Exception as error:
        if os.path.getsize(path) == 0:
            raise FileProblem(f'unreadable image: {path} (the file is empty)') from None
        if not path.lower().endswith(_KNOWN_SUFFIXES):
            return ImageHeader(None)
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


def _orientation(image: Image.Image) -> int:
    # Pillow would decode a whole PNG to look for a tag behind the pixels.
    if image.format not in _TURNED_FORMATS or 'exif' not in image.info:
        return 0
    try:
        value = image.getexif().get(_EXIF_ORIENTATION, 0)
    except Exception:
        # The meta data are damaged; loaders pass over such meta data too.
        return 0
    return value if value in range(1, 9) else 0


def partial_digest(path: str) -> bytes:
    """Return the BLAKE2b of the first, middle and last 16 KiB of a file, and of its size.

    The digest distinguishes images, even images of the same number of bytes. (Reading
    all bytes of all images would take as long as half an epoch where they come
    over a network; a change outside all three parts is not detected.)

    Raises:
        FileProblem: The file cannot be read.
    """
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    try:
        with open(path, 'rb') as file:
            size = file.seek(0, os.SEEK_END)
            digest.update(str(size).encode())
            last = max(0, size - _PART_BYTES)
            for start in sorted({0, last // 2, last}):
                file.seek(start)
                digest.update(file.read(_PART_BYTES))
    except OSError as error:
        raise FileProblem(f'unreadable image: {path} ({error.strerror})') from None
    return digest.digest()


def read_mask(path: str, content: bytes, decode: bool) -> Mask:
    """Read the size of a mask and, if asked, decode which ids occur in the mask.

    Palette images are read as indices, as MMSegmentation's ``LoadAnnotations``
    does (Pillow, 'unchanged').

    Args:
        path: The mask file, for the message.
        content: The bytes of the file.
        decode: Whether to decode the mask.

    Returns:
        The mask.

    Raises:
        FileProblem: The mask is no image, truncated or corrupt, saved with
            loss, or not of single 8-bit values.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            _check_mode(path, image.mode)
            _check_lossless(path, image, content)
            return Mask(image.size, image.mode, _presence(image) if decode else None)
    except FileProblem:
        raise
    except Exception as error:
        why = _brief(error) if content else 'the file is empty'
        raise FileProblem(f'truncated or corrupt mask: {path} ({why})') from None


def _presence(image: Image.Image) -> np.ndarray:
    # Pillow counts in C, several times faster than NumPy.
    occurs = np.array(image.histogram()) > 0
    if image.mode == '1':
        # Pillow counts the pixels of value 1 of a one-bit image at 255.
        occurs[[1, 255]] = occurs[255], False
    return occurs


def _check_mode(path: str, mode: str) -> None:
    if mode not in MASK_MODES:
        meaning = _OTHER_MODES.get(mode, '16 or 32 bits a pixel' if mode[:1] == 'I' else '')
        raise FileProblem(
            f'mask is not single-channel 8-bit: {path} (Pillow mode {mode}'
            f'{": " if meaning else ""}{meaning}); each pixel must hold one class id'
        )


def _check_lossless(path: str, image: Image.Image, content: bytes) -> None:
    lossy = (
        image.format in _LOSSY_FORMATS
        or str(image.info.get('compression')).endswith('jpeg')
        or (image.format == 'JPEG2000' and _is_irreversible(content))
    )
    if lossy:
        raise FileProblem(
            f'mask is saved with loss: {path} ({image.format}); compression invents ids along the '
            'edges: write the masks anew, from what they were made of, as PNG'
        )


def _is_irreversible(content: bytes) -> bool:
    """Return whether a JPEG 2000 file is coded with the irreversible wavelet."""
    # Marker, length, style, three settings of the image and four of a tile's parts precede it.
    place = content.find(b'\xff\x52') + 13
    return content[place : place + 1] == b'\0'


def check_same_size(image_path: str, image: ImageHeader, mask_path: str, mask: Mask) -> None:
    """Check that an image and its mask have the same width and height.

    An image that EXIF turns by a quarter may have the size of the turned mask.
    The loader decides whether the image is turned, see
    :func:`mmseg_cil.datasets.orientation.check_orientation`.

    Raises:
        FileProblem: The sizes differ.
    """
    if image.size is None or image.size == mask.size:
        return
    if image.size == mask.size[::-1] and image.orientation in QUARTER_TURNS:
        return
    raise FileProblem(
        f'image and mask differ in size: {image_path} is {image.size[0]}x{image.size[1]}, '
        f'{mask_path} is {mask.size[0]}x{mask.size[1]}'
    )


def _brief(error: Exception) -> str:
    text = str(error).split('\n')[0]
    return text[:120] or type(error).__name__
