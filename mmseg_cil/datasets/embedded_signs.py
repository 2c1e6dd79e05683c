"""A second embedded data set, as unlike the first as somebody else's data are.

The data set shows two shapes that the first one does not have, in folders of images and masks,
with other ids, another void id, and pictures of another size. Shapes of the first data set stand
beside them without labels.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mmseg_cil.datasets.embedded import provide, read_marker
from mmseg_cil.datasets.shapes import class_parts, draw_background, draw_object, finished

#: Mask id of each class, and of borders, which are void.
IDS = {'triangle': 5, 'hexagon': 9}
VOID_ID = 77
#: Pictures of each split.
COUNTS = {'train': 120, 'val': 40}
#: Width and height of the pictures.
SIZE = (128, 96)
#: Number of classes of the first data set that are shown, unlabelled.
_KNOWN = 10
# Changes whenever a seed gives other pictures than before.
_VERSION = 1
_FORMAT = 'mmseg_cil embedded signs'
_MARKER = 'embedded_signs.json'
# The only names that a folder to be replaced may hold; '.mmseg_cil' is the class index.
_OURS = {*COUNTS, _MARKER, '.mmseg_cil'}


def draw_signs(seed: int, split: int, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw one picture and its mask.

    Two of the first data set's shapes lie below one or two new ones. Every picture shows at least
    the new class ``index % 2``.

    Args:
        seed: Seed of the data set, 0..2**32-1.
        split: A number that tells training from validation.
        index: Number of the picture.

    Returns:
        uint8 (96, 128, 3), RGB, and uint8 (96, 128): 5 and 9 for the classes, 77 along their
        borders, 0 elsewhere.
    """
    random = np.random.RandomState([seed, 100 + split, index])
    width, height = SIZE
    picture = draw_background(random, width)
    mask = np.zeros((width, width), np.uint8)
    for class_id in 1 + random.randint(_KNOWN, size=2):
        draw_object(random, picture, mask, class_parts(int(class_id)), 0, 0)
    names = list(IDS)
    chosen = [*random.randint(len(names), size=random.randint(2)), index % len(names)]
    for number in chosen:
        name = names[int(number)]
        draw_object(random, picture, mask, (name, 'checks'), IDS[name], VOID_ID)
    top = (width - height) // 2
    rows = slice(top, top + height)
    return finished(random, picture)[rows], mask[rows]


@dataclass(frozen=True)
class Signs:
    """The parameters of the pictures, besides the version of the drawing.

    Attributes:
        seed: Seed of the drawing, 0..2**32-1.
    """

    seed: int = 0

    def _content(self) -> dict[str, object]:
        return dict(format=_FORMAT, version=_VERSION, seed=self.seed, **COUNTS)

    def matches(self, folder: Path) -> bool:
        """Return whether a folder holds all these pictures."""
        return read_marker(folder / _MARKER) == self._content() and all(
            len(list((folder / split / kind).glob('*.png'))) == count
            for split, count in COUNTS.items()
            for kind in ('pictures', 'labels')
        )

    def is_ours(self, folder: Path) -> bool:
        """Return whether this package drew all of a folder, perhaps by another recipe."""
        marker = read_marker(folder / _MARKER)
        names = {path.name for path in folder.iterdir()}
        return marker is not None and marker.get('format') == _FORMAT and names <= _OURS

    def write(self, folder: Path) -> None:
        """Draw everything into an existing empty folder; the marker comes last."""
        for number, (split, count) in enumerate(COUNTS.items()):
            for kind in ('pictures', 'labels'):
                (folder / split / kind).mkdir(parents=True)
            for index in range(count):
                picture, mask = draw_signs(self.seed, number, index)
                name = f'{split}_{index:03d}'
                Image.fromarray(picture).save(folder / split / 'pictures' / f'{name}.png')
                Image.fromarray(mask).save(folder / split / 'labels' / f'{name}_ids.png')
        (folder / _MARKER).write_text(json.dumps(self._content()) + '\n')


def provide_signs(folder: Path, seed: int = 0) -> Path:
    """Make a folder hold the pictures: ``SPLIT/pictures/*.png`` and ``SPLIT/labels/*_ids.png``.

    Args:
        folder: The folder; missing parents are made.
        seed: Seed of the drawing.

    Returns:
        The folder.

    Raises:
        InputError: The folder holds something that is not this data set.
    """
    provide(folder, Signs(seed))
    return folder
