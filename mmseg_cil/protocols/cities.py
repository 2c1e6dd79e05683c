"""Cityscapes by city: the city of every image, and the two splits."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from mmseg_cil.errors import InputError
from mmseg_cil.protocols.selection import Indices

CITIES = (
    'aachen', 'bremen', 'darmstadt', 'erfurt', 'hanover', 'krefeld', 'strasbourg', 'tubingen',
    'weimar', 'bochum', 'cologne', 'dusseldorf', 'hamburg', 'jena', 'monchengladbach',
    'stuttgart', 'ulm', 'zurich', 'frankfurt', 'lindau', 'munster',
)  # fmt: skip
"""In the order of arthurdouillard/CVPR2021_PLOP, ``dataset/cityscapes_domain.py``."""

VAL_CITIES = ('frankfurt', 'lindau', 'munster')
"""The cities of Cityscapes' val folder; the others are in train."""

TRAIN_FRACTION = 0.8


def cities_of(names: Sequence[str]) -> list[str]:
    """Return the city of each image: the file name up to the first underscore.

    Args:
        names: Image names such as ``train/aachen/aachen_000000_000019_leftImg8bit``;
            the folders may be missing.

    Raises:
        InputError: A file name does not begin with one of the 21 cities.
    """
    found = []
    for name in names:
        city = _base(name).split('_')[0]
        if city not in CITIES:
            raise InputError(
                f'the image {name!r} is of no Cityscapes city: its file name must begin with one '
                'of the 21 train and val cities and an underscore, as in '
                'aachen_000000_000019_leftImg8bit.png.'
            )
        found.append(city)
    return found


def official_order(names: Sequence[str]) -> Indices:
    """Return the order of the images in the official code.

    The official code lists the files of ``leftImg8bit/train/*/*`` sorted by path,
    then the files of ``val``. This function orders by the file names alone, so that
    the order is the same with and without the folders: train cities come before val
    cities, both alphabetically, and the images of a city come by file name.

    Returns:
        int64 (N,): indices into ``names``.

    Raises:
        InputError: An image is of no city or listed twice.
    """
    base = [_base(name) for name in names]
    if len(set(base)) != len(base):
        twice = next(b for i, b in enumerate(base) if b in base[:i])
        raise InputError(f'the image {twice!r} is listed twice; list it once.')
    city = cities_of(names)
    key = [(c in VAL_CITIES, c, b) for c, b in zip(city, base, strict=True)]
    return np.array(sorted(range(len(names)), key=key.__getitem__), np.int64)


def legacy_split(names: Sequence[str], cities: Sequence[str]) -> tuple[Indices, Indices]:
    """Split the images of some cities as the published tables do.

    arthurdouillard/CVPR2021_PLOP, ``dataset/cityscapes_domain.py``: the images
    in path order are shuffled by ``RandomState(1)``; the first 80 % (rounded
    down) are for training, the rest for test. The split is called with the new
    cities for training and with all cities so far for test. These are different
    lists, so different shuffles: 71 to 78 % of the final test images have been
    trained on at some step. The split serves only for comparison with published
    figures.

    Args:
        names: Images of any cities, in any order.
        cities: The cities whose images are split.

    Returns:
        Training and test images in shuffled order, int64 indices into ``names``.
    """
    order = _of_cities(names, cities)
    np.random.RandomState(1).shuffle(order)
    return _cut(order)


def clean_split(names: Sequence[str], cities: Sequence[str]) -> tuple[Indices, Indices]:
    """Split the images of some cities so that an image is always training or always test.

    The split is a design choice. Within each city the images are ranked by the
    SHA-256 of their file name, and the first 80 % (rounded down) are for training.
    So the split depends neither on the order of the list nor on folders, nor on
    the cities of a step, and every city is in both parts.

    Args:
        names: Images of any cities, in any order.
        cities: The cities whose images are split.

    Returns:
        Training and test images in the official order, int64 indices into
        ``names``.
    """
    order = _of_cities(names, cities)
    of_image = cities_of(names)
    rank = {int(i): hashlib.sha256(_base(names[i]).encode('utf-8')).digest() for i in order}
    train: set[int] = set()
    for city in cities:
        inside = sorted((int(i) for i in order if of_image[i] == city), key=rank.__getitem__)
        train.update(inside[: int(TRAIN_FRACTION * len(inside))])
    chosen = np.array([int(i) in train for i in order], bool)
    return order[chosen], order[~chosen]


def _of_cities(names: Sequence[str], cities: Sequence[str]) -> Indices:
    order = official_order(names)
    city = cities_of(names)
    return np.array([i for i in order if city[i] in cities], np.int64)


def _cut(order: Indices) -> tuple[Indices, Indices]:
    count = int(TRAIN_FRACTION * len(order))
    return order[:count], order[count:]


def _base(name: str) -> str:
    return name.rsplit('/', 1)[-1]
