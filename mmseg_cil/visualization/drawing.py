"""Figures and grids of a report as files, and as pictures of its page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmseg_cil.errors import InputError
from mmseg_cil.visualization.grid import Grid, save_grid
from mmseg_cil.visualization.page import Picture
from mmseg_cil.visualization.style import remove_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(
    figure: Figure | None,
    path: Path,
    caption: str,
    alt: str,
    series: Sequence[str] = (),
    wide: bool = False,
) -> list[Picture]:
    """Save a figure; without one, remove that of an earlier report.

    Args:
        figure: The figure, or None.
        path: Where to, a ``.svg``.
        caption: The visible line below it.
        alt: The same for those who cannot see it.
        series: Names of its series, see :class:`Picture`.
        wide: Whether it takes the whole width of the page.

    Returns:
        The picture, or nothing.
    """
    if figure is None:
        remove_figure(path)
        return []
    save_figure(figure, path)
    return [Picture(path, caption, alt, series, wide)]


def draw_grid(
    make: Callable[[], Grid], path: Path, caption: str, alt: str, notes: list[str]
) -> list[Picture]:
    """Save a grid of pictures; without one, remove that of an earlier report.

    Args:
        make: Makes the grid.
        path: Where to, a ``.png``.
        caption: The visible line below it.
        alt: The same for those who cannot see it.
        notes: The notes of the page, which get those of the grid.

    Returns:
        The picture, or nothing.
    """
    try:
        grid = make()
    except InputError as error:  # a damaged list of samples costs the grid, not the report
        grid = Grid(None, (str(error),))
    notes += _brief_notes(grid.missing)
    if grid.picture is None:
        path.unlink(missing_ok=True)
        if not grid.missing:
            notes.append('No sample predictions are stored, so their grid is left out.')
        return []
    save_grid(grid.picture, path)
    return [Picture(path, caption, alt)]


def _brief_notes(notes: Sequence[str], most: int = 4) -> list[str]:
    rest = len(notes) - most
    return [*notes[:most], *([f'... and {rest} more files like these.'] if rest > 0 else [])]
