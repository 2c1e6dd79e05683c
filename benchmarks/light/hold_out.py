"""Write lists of training images without, and with only, those that are held out of training.

    python benchmarks/light/hold_out.py data

Settings are chosen on training images that no walk has learnt: every fifth image of the balanced
sample of Pascal VOC, and the last quarter of each place's images, rounded up. A grid takes the
lists by ``--cfg-options``, see the README of this folder.
"""

from __future__ import annotations

import math
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

#: One image in so many of the balanced sample.
EVERY = 5
#: Share of the images of a place, the last ones.
SHARE = 0.25


def split_sample(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the names to train on, and the names held out."""
    held = set(names[EVERY - 1 :: EVERY])
    return [name for name in names if name not in held], [name for name in names if name in held]


def split_places(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the names to train on, and the names held out.

    Args:
        names: ``PLACE/IMAGE``, in the order of their places and times.
    """
    places: dict[str, list[str]] = defaultdict(list)
    for name in names:
        places[name.split('/')[0]].append(name)
    train: list[str] = []
    held: list[str] = []
    for images in places.values():
        first = len(images) - math.ceil(SHARE * len(images))
        train += images[:first]
        held += images[first:]
    return train, held


def main(data: Path) -> None:
    """Write ``held_train.txt`` and ``held_val.txt`` for both sets of images."""
    lists = data / 'voc_balanced/ImageSets/Segmentation'
    sample = (lists / 'trainaug.txt').read_text().split()
    images = data / 'cities/leftImg8bit_adverse/train'
    suffix = '_leftImg8bit.jpg'
    places = sorted(
        str(path.relative_to(images)).removesuffix(suffix) for path in images.rglob(f'*{suffix}')
    )
    for folder, parts in (
        (lists, split_sample(sample)),
        (data / 'cities', split_places(places)),
    ):
        for name, part in zip(('held_train', 'held_val'), parts, strict=True):
            (folder / f'{name}.txt').write_text('\n'.join(part) + '\n')


if __name__ == '__main__':
    main(Path(sys.argv[1]))
