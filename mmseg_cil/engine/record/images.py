"""The images and masks of a walk's steps, as digests that do not depend on their folders."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmseg_cil.datasets import IncrementalDataset


@dataclass(frozen=True)
class ImagePrints:
    """Digests of the images and masks of every step.

    Attributes:
        train: Digests of the training images, in their order, which the sampler draws
            from, and as often as they count. None where a walk is only evaluated and
            its journal does not tell.
        test: Digests of the test images, whose order does not matter.
    """

    train: tuple[str | None, ...] = ()
    test: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the digests as a journal holds them."""
        return {'train': list(self.train), 'test': list(self.test)}


def prints_of(view: IncrementalDataset) -> tuple[str, ...]:
    """Return the digests of images and masks of every step of a view's protocol, in its split.

    A digest includes an image's name below the image folder, parts of the image's
    bytes, and all bytes of its mask. A dataset may therefore be moved.
    """
    index, _ = view.index_of_step(0)
    entries = [
        b'\0'.join([os.fsencode(name), mask.tobytes(), image.tobytes()])
        for name, mask, image in zip(
            index.names, index.mask_digests, index.image_digests, strict=True
        )
    ]
    return tuple(
        _digest(entries, view.index_of_step(step)[1], view.split)
        for step in range(len(view.protocol.steps))
    )


def _digest(entries: Sequence[bytes], rows: np.ndarray, split: str) -> str:
    # A repeated image (perhaps thousands of times) enters once, with its number of repetitions.
    starts = np.flatnonzero(np.diff(rows, prepend=-1))
    counts = np.diff(starts, append=len(rows))
    listed = [
        (entries[row], count)
        for row, count in zip(rows[starts].tolist(), counts.tolist(), strict=True)
    ]
    digest = hashlib.sha256()
    for entry, count in listed if split == 'train' else sorted(listed):
        digest.update(b'%d %d ' % (count, len(entry)) + entry)
    return digest.hexdigest()
