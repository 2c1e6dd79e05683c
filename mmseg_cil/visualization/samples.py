"""The few fixed images whose predictions a walk keeps after every step.

They lie in the work directory as plain files::

    report/samples.json             [{"name", "image_path", "truth"}, ...], relative to the folder
    report/samples/NAME.jpg         the image
    report/samples/NAME_truth.png   the truth
    step_03/predictions/NAME.png    the prediction after step 3

Masks are 8-bit grey PNGs of class ids: indices into the protocol's names, in
the order of ``palette`` in ``metrics.json``; 255 is void.
"""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from mmseg_cil.errors import InputError
from mmseg_cil.utils.atomic import write_if_changed, write_json
from mmseg_cil.utils.inside import is_plain_name

INDEX = Path('report', 'samples.json')
IMAGES = Path('report', 'samples')
PREDICTIONS = 'predictions'

ByteArray = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Sample:
    """One of the fixed images.

    Attributes:
        name: Name of its files.
        image: Path of the image.
        truth: Path of its mask.
    """

    name: str
    image: Path
    truth: Path


def write_sample(
    work_dir: str | os.PathLike[str], name: str, image_rgb: npt.ArrayLike, truth: npt.ArrayLike
) -> None:
    """Keep an image and its truth, and list them; a second call of the same name replaces them.

    Args:
        work_dir: The folder of the walk.
        name: File name without suffix: letters, digits, ``.``, ``-`` and ``_``.
        image_rgb: uint8 (H, W, 3), red, green, blue.
        truth: Integer (H, W), class ids 0..254, 255 = void.

    Raises:
        InputError: The name or an array is not as described.
        OSError: Writing failed.
    """
    list_samples(work_dir, [keep_sample(work_dir, name, image_rgb, truth)])


def list_samples(work_dir: str | os.PathLike[str], entries: Sequence[Mapping[str, Any]]) -> None:
    """List images that a work directory keeps, after the others that it lists.

    Args:
        work_dir: The folder of the walk.
        entries: Results of :func:`keep_sample`.

    Raises:
        InputError: The list that is there is damaged.
        OSError: Writing failed.
    """
    index = Path(work_dir) / INDEX
    names = {entry['name'] for entry in entries}
    former = _load_index(index)
    listed = [*(entry for entry in former if entry['name'] not in names), *entries]
    if listed != former:
        write_json(index, listed)


def keep_sample(
    work_dir: str | os.PathLike[str], name: str, image_rgb: npt.ArrayLike, truth: npt.ArrayLike
) -> dict[str, str]:
    """Write an image and its truth, and return their entry for :func:`list_samples`.

    Args:
        work_dir: The folder of the walk.
        name: As in :func:`write_sample`.
        image_rgb: As in :func:`write_sample`.
        truth: As in :func:`write_sample`.

    Raises:
        InputError: The name or an array is not as described.
        OSError: Writing failed.
    """
    _check_name(name)
    work_dir = Path(work_dir)
    image, mask = np.asarray(image_rgb), _as_mask(truth, f'truth of {name}')
    if image.dtype != np.uint8 or image.shape != (*mask.shape, 3):
        raise InputError(
            f'image {name}: got {image.dtype} {image.shape}, need uint8 {(*mask.shape, 3)} '
            f'(red, green, blue), the size of its truth'
        )
    entry = {
        'name': name,
        'image_path': (IMAGES / f'{name}.jpg').as_posix(),
        'truth': (IMAGES / f'{name}_truth.png').as_posix(),
    }
    _save(work_dir / entry['image_path'], image, 'JPEG', quality=92)
    _save(work_dir / entry['truth'], mask, 'PNG')
    return entry


def write_prediction(
    step_dir: str | os.PathLike[str], name: str, prediction: npt.ArrayLike
) -> None:
    """Keep the prediction of a step on one of the images.

    Args:
        step_dir: The folder of the step, such as ``WORK_DIR/step_03``.
        name: As given to :func:`write_sample`.
        prediction: Integer (H, W), class ids 0..254, 255 = void.

    Raises:
        InputError: The name or the array is not as described.
        OSError: Writing failed.
    """
    _check_name(name)
    mask = _as_mask(prediction, f'prediction of {name}')
    _save(Path(step_dir, PREDICTIONS, f'{name}.png'), mask, 'PNG')


def read_samples(work_dir: str | os.PathLike[str]) -> list[Sample]:
    """Return the images that a work directory keeps, in the order they were written.

    Args:
        work_dir: The folder of the walk.

    Returns:
        The samples; none where there is no index.

    Raises:
        InputError: The index is damaged.
    """
    work_dir = Path(work_dir)
    return [
        Sample(entry['name'], work_dir / entry['image_path'], work_dir / entry['truth'])
        for entry in _load_index(work_dir / INDEX)
    ]


def order_by_difference(samples: list[Sample], folders: Sequence[Path]) -> list[Sample]:
    """Return samples by how much the predictions of several walks differ, most first.

    Args:
        samples: Those that all walks have.
        folders: Folder of the compared step of each walk.
    """

    def differing(sample: Sample) -> float:
        masks = []
        for folder in folders:
            try:
                masks.append(read_mask(folder / PREDICTIONS / f'{sample.name}.png'))
            except (OSError, ValueError, InputError):
                return -1.0
        if len({mask.shape for mask in masks}) > 1:
            return -1.0
        return float(np.mean(np.any([mask != masks[0] for mask in masks[1:]], axis=0)))

    # Equal ones stay in their order.
    return sorted(samples, key=differing, reverse=True)


def read_image(path: Path) -> ByteArray:
    """Return an image as uint8 (H, W, 3), red, green, blue.

    Raises:
        OSError: The file is missing or no image.
    """
    with Image.open(path) as picture:
        return np.asarray(picture.convert('RGB'))


def read_mask(path: Path) -> ByteArray:
    """Return a mask as uint8 (H, W).

    Raises:
        OSError: The file is missing, no image, or has more than one channel.
    """
    with Image.open(path) as picture:
        mask = np.asarray(picture)
    if mask.ndim != 2 or mask.dtype != np.uint8:
        raise OSError(f'{path} is no 8-bit mask')
    return mask


def colour_mask(mask: ByteArray, colours: npt.ArrayLike, void: tuple[int, int, int]) -> ByteArray:
    """Paints a mask.

    Args:
        mask: uint8 (H, W) of class ids.
        colours: (C, 3) red, green, blue by class id.
        void: The colour of 255 and of every id without a colour.

    Returns:
        uint8 (H, W, 3).
    """
    table = np.empty((256, 3), dtype=np.uint8)
    table[:] = void
    known = np.asarray(colours, dtype=np.uint8).reshape(-1, 3)[:255]
    table[: len(known)] = known
    return table[mask]


def _check_name(name: str) -> None:
    if not re.fullmatch(r'[\w.\-]+', name) or name.startswith('.'):
        raise InputError(
            f'{name!r} is no name for a sample: use letters, digits, ".", "-" and "_", and '
            f'replace the folder separators of an image path'
        )


def _as_mask(values: npt.ArrayLike, what: str) -> ByteArray:
    array = np.asarray(values)
    if array.ndim != 2 or array.dtype.kind not in 'iu':
        raise InputError(f'{what}: got {array.dtype} {array.shape}, need integers (H, W)')
    if array.size and not 0 <= array.min() <= array.max() <= 255:
        raise InputError(
            f'{what}: ids {array.min()}..{array.max()} do not fit 0..255; give class ids, '
            f'255 = void'
        )
    return array.astype(np.uint8)


def _save(path: Path, pixels: ByteArray, kind: str, **options: int) -> None:
    """Write a picture; the pictures of most steps are those of the step before."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, kind, **options)
    write_if_changed(path, content.getvalue())


def _is_inside(path: object) -> bool:
    if not isinstance(path, str):
        return False
    parts = PurePosixPath(path).parts
    return bool(parts) and not PurePosixPath(path).is_absolute() and '..' not in parts


def _load_index(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    try:
        entries = json.loads(path.read_text(encoding='utf-8'))
        # Paths that lead elsewhere would show other pictures of the reader's.
        if all(
            is_plain_name(e['name']) and _is_inside(e['image_path']) and _is_inside(e['truth'])
            for e in entries
        ):
            return list(entries)
    except (ValueError, KeyError, TypeError):
        pass
    raise InputError(
        f'{path} is damaged: it must list "name", "image_path" and "truth", of files in this work '
        f'directory; delete it, and the next step of the walk writes it again'
    )
