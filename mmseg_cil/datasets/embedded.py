"""The embedded dataset: a small drawn dataset with VOC's layout that needs no download."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from mmengine.logging import print_log
from mmseg.datasets import BaseSegDataset
from PIL import Image

from mmseg_cil.datasets.shapes import CLASSES, NUM_CLASSES, draw_sample, palette
from mmseg_cil.errors import InputError
from mmseg_cil.registry import DATASETS
from mmseg_cil.utils.values import check_choice

# Changes whenever a seed gives other pictures than before.
VERSION = 1
SPLITS = ('train', 'val')

_FORMAT = 'mmseg_cil embedded shapes'
_MARKER = 'embedded_shapes.json'
_IMAGES, _MASKS, _LISTS = 'JPEGImages', 'SegmentationClass', 'ImageSets/Segmentation'
# The only names that a folder to be replaced may hold; '.mmseg_cil' is the class index.
_OURS = {_IMAGES, _MASKS, 'ImageSets', _MARKER, '.mmseg_cil'}


@dataclass(frozen=True)
class Recipe:
    """The parameters of the pictures, besides the version of the drawing.

    Attributes:
        train: Number of training pictures.
        val: Number of validation pictures.
        image_size: Side of the square pictures in pixels.
        seed: Seed of the drawing, 0..2**32-1.
    """

    train: int = 800
    val: int = 200
    image_size: int = 96
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.train, self.val) < 1 or not 0 <= self.seed < 2**32 or self.image_size < 32:
            raise InputError(
                f'EmbeddedShapesDataset: {self} is not possible; it takes at least one picture a '
                'split, a side of 32 pixels or more and a seed in 0..2**32-1'
            )

    def is_ours(self, folder: Path) -> bool:
        """Return whether this package drew all of a folder, perhaps by another recipe."""
        marker = read_marker(folder / _MARKER)
        names = {path.name for path in folder.iterdir()}
        return marker is not None and marker.get('format') == _FORMAT and names <= _OURS

    def matches(self, folder: Path) -> bool:
        """Return whether a folder holds all the pictures of this recipe."""
        wanted = {'format': _FORMAT, 'version': VERSION, **asdict(self)}
        counts = (_count(folder / _IMAGES), _count(folder / _MASKS))
        return read_marker(folder / _MARKER) == wanted and counts == (self.train + self.val,) * 2

    def write(self, folder: Path) -> None:
        """Draw everything into an existing empty folder; the marker comes last."""
        colours = [value for colour in palette() for value in colour]
        colours += [0] * (255 * 3 - len(colours)) + [224, 224, 192]
        for name in (_IMAGES, _MASKS, _LISTS):
            (folder / name).mkdir(parents=True)
        for number, split in enumerate(SPLITS):
            names = [f'{split}_{index:05d}' for index in range(getattr(self, split))]
            for index, name in enumerate(names):
                picture, mask = draw_sample(self.seed, number, index, self.image_size)
                # The noise hardly compresses; a higher level only takes time.
                Image.fromarray(picture).save(folder / _IMAGES / f'{name}.png', compress_level=1)
                coloured = Image.fromarray(mask)
                coloured.putpalette(colours)
                coloured.save(folder / _MASKS / f'{name}.png')
            (folder / _LISTS / f'{split}.txt').write_text('\n'.join(names) + '\n')
        marker = {'format': _FORMAT, 'version': VERSION, **asdict(self)}
        (folder / _MARKER).write_text(json.dumps(marker, indent=2) + '\n')


@DATASETS.register_module()
class EmbeddedShapesDataset(BaseSegDataset):
    """20 classes of textured shapes and background, drawn on first use.

    A class is a shape and a texture together (4 shapes, 5 textures, every pair
    a class), so neither alone tells the class, and colours are random. Shapes lie
    over each other, and their borders are void (255). The layout is VOC's:
    ``JPEGImages/*.png`` (PNG, so that no decoder's rounding changes a pixel),
    ``SegmentationClass/*.png`` with palette, ``ImageSets/Segmentation/*.txt``.

    The folder is drawn when the list of images is first read. It is drawn beside
    its final place and then moved there, so a kill leaves nothing half done and
    several processes may start at once. Training and validation set share the
    folder: give both the same ``num_images``, ``image_size`` and ``seed``.

    Args:
        data_root: The folder. An embedded dataset of other parameters or another
            version in the folder is replaced; a folder with any other content is
            never touched.
        split: ``'train'`` or ``'val'``.
        num_images: Numbers of training and of validation pictures. One number is
            that of training pictures; the number of validation pictures is then a
            quarter of it, but 20 at least.
        image_size: Side of the square pictures in pixels.
        seed: Seed of the drawing.
        kwargs: Further arguments of ``BaseSegDataset``.

    Raises:
        InputError: An argument is not possible, or the folder is not ours.
    """

    METAINFO: ClassVar[dict] = dict(classes=CLASSES, palette=palette())

    def __init__(
        self,
        data_root: str = 'data/embedded_shapes',
        split: str = 'train',
        num_images: int | Sequence[int] = (800, 200),
        image_size: int = 96,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        check_choice(self, 'split', split, SPLITS)
        if isinstance(num_images, int):
            num_images = (num_images, max(NUM_CLASSES - 1, num_images // 4))
        if len(num_images) != len(SPLITS):
            raise InputError(
                f'EmbeddedShapesDataset: num_images is one number or two, not {num_images!r}'
            )
        train, val = num_images
        self.recipe = Recipe(train, val, image_size, seed)
        kwargs.setdefault('ann_file', f'{_LISTS}/{split}.txt')
        kwargs.setdefault('data_prefix', dict(img_path=_IMAGES, seg_map_path=_MASKS))
        super().__init__(data_root=data_root, img_suffix='.png', seg_map_suffix='.png', **kwargs)

    def load_data_list(self) -> list[dict]:
        """Draw the pictures where they are missing, and list the pictures of the split."""
        provide(Path(self.data_root), self.recipe)
        return super().load_data_list()


class Drawn(Protocol):
    """The pictures of an embedded data set, which :func:`provide` draws into a folder."""

    def matches(self, folder: Path) -> bool:
        """Return whether a folder holds all these pictures."""

    def is_ours(self, folder: Path) -> bool:
        """Return whether this package drew all of a folder, perhaps by another recipe."""

    def write(self, folder: Path) -> None:
        """Draw everything into an existing empty folder."""


def provide(folder: Path, recipe: Drawn) -> None:
    """Make a folder hold the pictures of a recipe.

    Args:
        folder: The folder; missing parents are made.
        recipe: The pictures.

    Raises:
        InputError: The folder holds something that is not the embedded dataset.
        OSError: The folder cannot be written.
    """
    if recipe.matches(folder):
        return
    folder = folder.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.parent / f'.{folder.name}.lock'):
        if recipe.matches(folder):
            return
        _check_replaceable(folder, recipe)
        print_log(f'drawing the embedded dataset into {folder}', logger='current')
        fresh = Path(tempfile.mkdtemp(prefix=f'.{folder.name}.', suffix='.tmp', dir=folder.parent))
        try:
            # Only its owner may enter the temporary folder; a folder below it gets usual rights.
            recipe.write(fresh / 'new')
            if folder.exists():
                os.rename(folder, fresh / 'old')
            os.rename(fresh / 'new', folder)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)


def _check_replaceable(folder: Path, recipe: Drawn) -> None:
    if not folder.exists():
        return
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else {folder.name}
    if found and not (folder.is_dir() and recipe.is_ours(folder)):
        raise InputError(
            f'{folder} holds files that are not the embedded dataset '
            f'({", ".join(sorted(found - _OURS) or sorted(found))[:200]}); give another data_root'
        )


def read_marker(path: Path) -> dict[str, Any] | None:
    """Return the content of a marker; None where the file is no marker."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _count(folder: Path) -> int:
    try:
        return sum(1 for _ in os.scandir(folder))
    except OSError:
        return 0


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with open(path, 'ab') as file:
        # Without locks every process draws; the renames keep that harmless.
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
