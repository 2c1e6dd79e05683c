"""Selection of a step's images by the classes that occur in their masks."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from mmseg_cil.errors import InputError
from mmseg_cil.protocols.taxonomy import Taxonomy

Indices = npt.NDArray[np.int64]
Presence = npt.NDArray[np.bool_]


def check_presence(presence: npt.NDArray[np.generic], images: int | None = None) -> Presence:
    """Return the presence matrix as booleans.

    Args:
        presence: (N, 256), by image and mask id, of whole masks (not crops).
        images: The required number of rows; None: any.

    Raises:
        InputError: The matrix has another shape.
    """
    matrix = np.asarray(presence)
    rows = matrix.shape[0] if images is None and matrix.ndim else images
    if matrix.shape != (rows, 256):
        raise InputError(
            f'the class index has the shape {matrix.shape}, not ({rows}, 256): one row an image, '
            'one column a mask id; build the index again for this list of images.'
        )
    return matrix.astype(bool, copy=False)


def _mask_ids(taxonomy: Taxonomy, classes: Iterable[int]) -> list[int]:
    ids = (taxonomy.mask_ids[c] for c in classes)
    return [i for i in ids if i is not None]


def images_with_any(taxonomy: Taxonomy, presence: Presence, classes: Iterable[int]) -> Indices:
    """Return the images that show at least one of some foreground classes.

    Args:
        taxonomy: The taxonomy whose mask ids index the columns.
        presence: bool (N, 256).
        classes: Class ids; the background among them selects nothing, as in
            MiB's ``filter_images`` (``dataset/utils.py``).

    Returns:
        int64 indices, rising.
    """
    foreground = set(classes) & set(taxonomy.foreground)
    return np.flatnonzero(presence[:, _mask_ids(taxonomy, foreground)].any(axis=1))


def images_with_only(
    taxonomy: Taxonomy, presence: Presence, wanted: Iterable[int], allowed: Iterable[int]
) -> Indices:
    """Return the images that show a ``wanted`` class, and no classes but the ``allowed``.

    Background and void are always allowed.

    Returns:
        int64 indices, rising.
    """
    allowed = set(allowed)
    others = _mask_ids(taxonomy, (c for c in taxonomy.foreground if c not in allowed))
    clean: Presence = np.logical_not(presence[:, others].any(axis=1))
    some = np.zeros(len(presence), bool)
    some[images_with_any(taxonomy, presence, wanted)] = True
    return np.flatnonzero(some & clean)
