"""A second embedded data set, as unlike the first as somebody else's data are.

Two shapes that the first does not have, in folders of images and masks, other ids, another void
id, and pictures of another size. Shapes of the first data set stand beside them, and nobody has
labelled those.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from mmseg_cil.datasets.shapes import class_parts, draw_background, draw_object, finished

#: Mask id of each class, and of borders, which are void.
IDS = {'triangle': 5, 'hexagon': 9}
VOID_ID = 77
#: Pictures of each split.
COUNTS = {'train': 120, 'val': 40}
#: Width and height of the pictures.
SIZE = (128, 96)
#: Classes of the first data set that are shown, unlabelled.
_KNOWN = 10
# Changes whenever a seed gives other pictures than before.
_VERSION = 1
_MARKER = 'embedded_signs.json'


def draw_signs(seed: int, split: int, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw one picture and its mask.

    Two of the first data set's shapes lie below one or two new ones; pictures take turns in which
    of the new classes they show for certain.

    Args:
        seed: Seed of the data set, 0..2**32-1.
        split: A number that tells training from validation.
        index: Which picture.

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


def provide_signs(folder: Path, seed: int = 0) -> Path:
    """Make a folder hold the pictures: ``SPLIT/pictures/*.png`` and ``SPLIT/labels/*_ids.png``.

    Args:
        folder: Where; what it holds already, all of it, is left as it is.
        seed: Seed of the drawing.

    Returns:
        The folder.
    """
    marker = dict(version=_VERSION, seed=seed, **COUNTS)
    try:
        if json.loads((folder / _MARKER).read_text()) == marker:
            return folder
    except (OSError, ValueError):
        pass
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f'.{folder.name}.', dir=folder.parent))
    try:
        for number, (split, count) in enumerate(COUNTS.items()):
            for kind in ('pictures', 'labels'):
                (fresh / split / kind).mkdir(parents=True)
            for index in range(count):
                picture, mask = draw_signs(seed, number, index)
                name = f'{split}_{index:03d}'
                Image.fromarray(picture).save(fresh / split / 'pictures' / f'{name}.png')
                Image.fromarray(mask).save(fresh / split / 'labels' / f'{name}_ids.png')
        (fresh / _MARKER).write_text(json.dumps(marker) + '\n')
        # The marker comes last, and what a kill left half done has none.
        shutil.rmtree(folder, ignore_errors=True)
        fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder
