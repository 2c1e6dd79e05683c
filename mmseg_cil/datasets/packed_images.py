"""The images of a view, packed so that worker processes share them."""

from __future__ import annotations

import pickle
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mmseg_cil.datasets.members import Contents
from mmseg_cil.protocols import Protocol


def _integers() -> np.ndarray:
    return np.zeros(0, np.int64)


@dataclass(frozen=True)
class PackedImages:
    """M chosen images, of which K are distinct; each distinct image is kept once.

    One array stands in place of many objects: worker processes share the array, and counting
    references does not copy it.

    Attributes:
        rows: int64 (M,): the row of each index among all images of the data sets.
        kept: int64 (M,): the number of each index's image among the K kept images.
        names: K names.
        domains: int64 (K,): the step that introduces the domain of each image.
        places: int64 (K,): the data set of each image, numbered as in ``Step.data``.
        packed: uint8: the pickled inputs of the pipeline, one image after the other.
        ends: int64 (K,): the end of each image in ``packed``.
    """

    rows: np.ndarray = field(default_factory=_integers)
    kept: np.ndarray = field(default_factory=_integers)
    names: tuple[str, ...] = ()
    domains: np.ndarray = field(default_factory=_integers)
    places: np.ndarray = field(default_factory=_integers)
    packed: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint8))
    ends: np.ndarray = field(default_factory=_integers)

    @classmethod
    def of(cls, rows: np.ndarray, contents: Contents, protocol: Protocol) -> PackedImages:
        """Pack images.

        Args:
            rows: int64 (M,): the rows of the images, each as often as it counts.
            contents: All images.
            protocol: The protocol, which tells the images' domains.
        """
        distinct, kept = np.unique(rows, return_inverse=True)
        names = [contents.items.names[row] for row in distinct]
        infos = [pickle.dumps(contents.items.infos[row]) for row in distinct]
        return cls(
            rows,
            kept,
            tuple(names),
            protocol.image_domains(names),
            contents.places[distinct],
            np.frombuffer(b''.join(infos), np.uint8),
            np.cumsum([len(info) for info in infos], dtype=np.int64),
        )

    def __len__(self) -> int:
        return len(self.rows)

    def pick(self, indices: np.ndarray) -> PackedImages:
        """Return the images of these indices alone."""
        return replace(self, rows=self.rows[indices], kept=self.kept[indices])

    def find(self, paths: Collection[str]) -> np.ndarray:
        """Return the first index of each image whose ``img_path`` is among these, ascending."""
        _, first = np.unique(self.kept, return_index=True)
        if not paths:
            return first[:0]
        found = [self.info(index)['img_path'] in paths for index in first]
        indices: np.ndarray = np.sort(first[np.array(found, bool)])
        return indices

    def name(self, index: int) -> str:
        """Return the name of an image."""
        return self.names[self.kept[index]]

    def domain(self, index: int) -> int:
        """Return the step that introduces the domain of an image."""
        return int(self.domains[self.kept[index]])

    def place(self, index: int) -> int:
        """Return the data set of an image, numbered as in ``Step.data``."""
        return int(self.places[self.kept[index]])

    def info(self, index: int) -> dict[str, Any]:
        """Return the input of the pipeline for an image."""
        kept = int(self.kept[index])
        start = int(self.ends[kept - 1]) if kept else 0
        info: dict[str, Any] = pickle.loads(self.packed[start : int(self.ends[kept])].tobytes())
        return info
