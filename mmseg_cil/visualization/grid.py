"""The picture that shows image, truth and the prediction after each step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mmseg_cil.utils.atomic import atomic_write
from mmseg_cil.visualization.samples import (
    PREDICTIONS,
    ByteArray,
    Sample,
    colour_mask,
    read_image,
    read_mask,
)
from mmseg_cil.visualization.walk_record import WalkRecord

TILE = 190
TALLEST = 210
GAP = 8
MARGIN = 16
COLUMNS = 8
INK = (34, 34, 34)
PALE = (236, 236, 236)
VOID = (224, 224, 224)
WHITE = (255, 255, 255)

Tile: TypeAlias = tuple[str, Image.Image | None]


@dataclass(frozen=True)
class Grid:
    """The grid, and what it lacks.

    Attributes:
        picture: None where there is no sample to show.
        missing: Sentences that say which files could not be shown.
    """

    picture: Image.Image | None
    missing: tuple[str, ...]


def prediction_grid(walk: WalkRecord, samples: Sequence[Sample]) -> Grid:
    """One row a sample: image, truth, prediction after each step, and a legend.

    A walk of many steps breaks each row after eight pictures. A prediction that
    is missing leaves an empty tile.

    Args:
        walk: The walk; its palette colours the masks.
        samples: The fixed images.

    Returns:
        The picture and what is missing in it.
    """
    sources = [(f'step {k}', _step_dir(walk, k)) for k in walk.steps]
    return _grid(walk, samples, sources, f'{walk.title}: image, truth, predictions')


def comparison_grid(
    walks: Sequence[WalkRecord], labels: Sequence[str], samples: Sequence[Sample], title: str
) -> Grid:
    """One row a sample: image, truth, prediction of each walk after its last step.

    Args:
        walks: The walks; the first one's palette colours the masks.
        labels: Names of the walks.
        samples: The fixed images that all of them keep.
        title: The subject of the comparison.

    Returns:
        The picture and what is missing in it.
    """
    sources = [
        (label, _step_dir(walk, walk.steps[-1])) for walk, label in zip(walks, labels, strict=True)
    ]
    return _grid(walks[0], samples, sources, f'{title}: predictions after the last step')


def _grid(
    walk: WalkRecord, samples: Sequence[Sample], sources: Sequence[tuple[str, Path]], title: str
) -> Grid:
    colours = _palette(walk)
    missing: list[str] = []
    present: set[int] = set()

    def painted(path: Path) -> Image.Image | None:
        mask = _load(path, missing, mask=True)
        if mask is None:
            return None
        present.update(np.unique(mask).tolist())
        return _shrink(colour_mask(mask, colours, VOID))

    rows: list[list[Tile]] = []
    absent = 0
    for sample in samples:
        image = _load(sample.image, missing, mask=False)
        tiles: list[Tile] = [('image', None if image is None else _shrink(image, smooth=True))]
        tiles.append(('truth', painted(sample.truth)))
        for name, folder in sources:
            path = folder / f'{sample.name}.png'
            absent += not path.exists()
            tiles.append((name, painted(path) if path.exists() else None))
        rows.append(tiles)
    if absent:
        missing.append(
            f'{absent} predictions are not there: test images that came with a later step have '
            'none of the steps before.'
        )
    if not any(tile for row in rows for _, tile in row):
        return Grid(None, tuple(missing))
    legend = [(name, colours[i]) for i, name in enumerate(walk.class_names) if i in present]
    if any(i >= len(colours) for i in present):
        legend.append(('void', VOID))
    return Grid(_compose(title, rows, legend), tuple(missing))


def picture_grid(
    title: str,
    rows: Sequence[Sequence[tuple[str, ByteArray]]],
    legend: Sequence[tuple[str, tuple[int, int, int]]],
) -> Image.Image:
    """Rows of pictures under a title, with their names and a legend.

    Args:
        title: Above all.
        rows: For each row its pictures: what they are called, and uint8 ``(H, W, 3)``.
            The first row's names are written above it.
        legend: Names and colours.
    """
    tiles = [
        [(name, _shrink(np.ascontiguousarray(pixels))) for name, pixels in row] for row in rows
    ]
    return _compose(title, tiles, legend)


def save_grid(picture: Image.Image, path: Path) -> None:
    """Write the grid as PNG, atomically."""
    atomic_write(path, lambda file: picture.save(file, 'PNG'))


def _step_dir(walk: WalkRecord, step: int) -> Path:
    return walk.work_dir / f'step_{step:02d}' / PREDICTIONS


def _palette(walk: WalkRecord) -> list[tuple[int, int, int]]:
    """Colour by class id; names without one get VOC's bit-pattern colours."""
    known = walk.metrics.get('palette') or {}
    return [
        _rgb(known[name]) if name in known else _voc_colour(i)
        for i, name in enumerate(walk.class_names)
    ]


def _rgb(values: Sequence[Any]) -> tuple[int, int, int]:
    red, green, blue = (int(v) for v in values)
    return red, green, blue


def _voc_colour(index: int) -> tuple[int, int, int]:
    channels = [0, 0, 0]
    for bit in range(8):
        for channel in range(3):
            channels[channel] |= ((index >> (3 * bit + channel)) & 1) << (7 - bit)
    return channels[0], channels[1], channels[2]


def _load(path: Path, missing: list[str], mask: bool) -> ByteArray | None:
    try:
        return read_mask(path) if mask else read_image(path)
    except FileNotFoundError:
        missing.append(f'{path} is missing.')
    except (OSError, ValueError, SyntaxError) as error:  # PIL's for damaged PNGs
        missing.append(f'{path} cannot be read ({error}).')
    return None


def _shrink(pixels: ByteArray, smooth: bool = False) -> Image.Image:
    """Fits a picture into a tile; masks keep their exact colours."""
    picture = Image.fromarray(pixels)
    scale = min(TILE / picture.width, TALLEST / picture.height)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    way = Image.Resampling.LANCZOS if smooth else Image.Resampling.NEAREST
    return picture.resize(size, way)


def _compose(
    title: str, rows: Sequence[Sequence[Tile]], legend: Sequence[tuple[str, tuple[int, int, int]]]
) -> Image.Image:
    columns = min(COLUMNS, max(map(len, rows)))
    title_font, font = _font(17, bold=True), _font(13)
    tiles_width = columns * TILE + (columns - 1) * GAP
    width = 2 * MARGIN + max(tiles_width, round(title_font.getlength(title)))
    lines = [row[i : i + columns] for row in rows for i in range(0, len(row), columns)]
    wrapped = len(lines) > len(rows)
    heights = [_line_height(row) for row in rows for _ in range(0, len(row), columns)]
    titled = [wrapped or i == 0 for i in range(len(lines))]
    entries, legend_height = _place_legend(legend, font, width)
    total = 3 * MARGIN + 24 + sum(heights) + GAP * len(lines) + 20 * sum(titled) + legend_height
    canvas = Image.new('RGB', (width, total), WHITE)
    draw = ImageDraw.Draw(canvas)
    draw.text((MARGIN, MARGIN), title, INK, title_font)
    y = 2 * MARGIN + 24
    for line, height, with_titles in zip(lines, heights, titled, strict=True):
        top = y + (20 if with_titles else 0)
        for column, (name, tile) in enumerate(line):
            x = MARGIN + column * (TILE + GAP)
            if with_titles:
                draw.text((x, y), _fit(name, font, TILE), INK, font)
            if tile is None:
                draw.rectangle((x, top, x + TILE - 1, top + height - 1), PALE)
                draw.text((x + TILE / 2, top + height / 2), 'missing', INK, font, anchor='mm')
            else:
                canvas.paste(tile, (x, top))
        y = top + height + GAP
    for name, colour, x, down in entries:
        draw.rectangle((x, y + down + 2, x + 18, y + down + 14), colour, outline=(120, 120, 120))
        draw.text((x + 26, y + down), name, INK, font)
    return canvas


def _fit(text: str, font: Any, width: int) -> str:
    """Cuts a text off where it would run into the next tile."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + '…') > width:
        text = text[:-1]
    return text + '…'


def _line_height(row: Sequence[Tile]) -> int:
    return max((tile.height for _, tile in row if tile), default=TILE * 3 // 4)


def _place_legend(
    legend: Sequence[tuple[str, tuple[int, int, int]]], font: Any, width: int
) -> tuple[list[tuple[str, tuple[int, int, int], int, int]], int]:
    """Flows the entries over as many lines as they need."""
    placed, x, y = [], MARGIN, MARGIN // 2
    for name, colour in legend:
        need = 26 + round(font.getlength(name)) + 22
        if x + need > width and x > MARGIN:
            x, y = MARGIN, y + 22
        placed.append((name, colour, x, y))
        x += need
    return placed, y + 22


def _font(size: int, bold: bool = False) -> Any:
    """Return the font of the other figures, which matplotlib carries along."""
    import matplotlib

    name = 'DejaVuSans-Bold.ttf' if bold else 'DejaVuSans.ttf'
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), 'fonts/ttf', name)), size)
