"""The folder in which a step keeps its self-labels while it trains."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mmseg_cil.errors import InputError
from mmseg_cil.utils.atomic import write_json

FOLDER_NAME = 'self_labels'
#: File that is written last, marks the folder as complete and describes the maps.
_DONE = 'done.json'


class LabelFolder:
    """Maps of labels, a file for each image.

    Args:
        step_folder: Folder of the step.
    """

    def __init__(self, step_folder: str | Path) -> None:
        self.path = Path(step_folder) / FOLDER_NAME

    def is_done(self, content: dict[str, Any] | None = None) -> bool:
        """Return whether all maps are in the folder.

        Args:
            content: Content that :meth:`finish` must have been called with. None: any content.
        """
        done = self.path / _DONE
        if content is None:
            return done.is_file()
        try:
            found = json.loads(done.read_text(encoding='utf-8'))
        except (OSError, ValueError):
            return False
        return bool(found == content)

    def begin(self) -> None:
        """Create an empty folder, after removing an old one."""
        self.remove()
        self.path.mkdir(parents=True)

    def finish(self, content: dict[str, Any]) -> None:
        """Mark the folder as complete.

        Args:
            content: Description of the maps, plain values.
        """
        write_json(self.path / _DONE, content)

    def remove(self) -> None:
        """Remove the folder with its content, first the file that marks it as complete."""
        (self.path / _DONE).unlink(missing_ok=True)
        shutil.rmtree(self.path, ignore_errors=True)

    def write(self, image: str, labels: np.ndarray) -> None:
        """Write the map of an image.

        Args:
            image: Path of the image, as the dataset gives it.
            labels: uint8 ``(H, W)``.

        Raises:
            OSError: The file cannot be written, because the disk is full, for example.
        """
        _, encoded = cv2.imencode('.png', labels)
        self._file_of(image).write_bytes(encoded.tobytes())

    def read(self, image: str) -> np.ndarray:
        """Read the map of an image, uint8 ``(H, W)``.

        Raises:
            InputError: The file of the map is missing or cannot be read.
        """
        path = self._file_of(image)
        found = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) if path.is_file() else None
        if found is None or found.ndim != 2:
            raise self._lost(image, path)
        labels: np.ndarray = found
        return labels

    def write_table(self, image: str, **arrays: np.ndarray) -> None:
        """Write arrays of an image by their names.

        Raises:
            OSError: The file cannot be written, because the disk is full, for example.
        """
        np.savez(self._file_of(image, 'npz'), **arrays)  # type: ignore[arg-type]

    def read_table(self, image: str) -> dict[str, np.ndarray]:
        """Read the arrays that :meth:`write_table` wrote.

        Raises:
            InputError: The file of the arrays is missing or cannot be read.
        """
        path = self._file_of(image, 'npz')
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return dict(arrays)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise self._lost(image, path) from error

    def _lost(self, image: str, path: Path) -> InputError:
        return InputError(
            f'{path}, the labels that the network gave {image} before the step, is missing or '
            f'damaged: delete the folder {self.path} and go on with --resume, which makes it anew'
        )

    def _file_of(self, image: str, suffix: str = 'png') -> Path:
        return self.path / f'{hashlib.sha256(image.encode()).hexdigest()[:32]}.{suffix}'


def digest_of(images: Iterable[str]) -> str:
    """Return a digest that identifies a set of images."""
    return hashlib.sha256('\n'.join(sorted(images)).encode()).hexdigest()
