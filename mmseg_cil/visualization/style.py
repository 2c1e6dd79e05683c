"""How the figures look: colours, fonts, sizes, and how they are saved.

matplotlib is imported where a figure is made: a tool that only refuses its
input starts without it.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmseg_cil.utils.atomic import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Okabe & Ito's palette, which colour-blind readers can tell apart, from dark to light.
SERIES = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#56B4E9', '#E69F00', '#000000')
#: A second cue for those who see no colour, and for print.
MARKERS = ('o', 's', '^', 'D', 'v', 'P', 'X')
PART_STYLE: dict[str, dict[str, Any]] = {
    'all': {'color': '#0072B2', 'marker': 'o', 'linestyle': '-', 'linewidth': 2.4},
    'old': {'color': '#D55E00', 'marker': 's', 'linestyle': '--', 'linewidth': 1.8},
    'new': {'color': '#009E73', 'marker': '^', 'linestyle': ':', 'linewidth': 1.8},
}
#: Even in lightness, so that it reads in grey too.
HEAT = 'cividis'
UNSEEN = '#ececec'
INK = '#222222'
GRID = '#d9d9d9'
DPI = 130
#: More rows than this do not fit a screen: their axis is labelled at the top as well.
TALL = 40

# Typed loosely: matplotlib's own type lists every parameter it has.
_RC: Any = {
    'font.family': 'DejaVu Sans',
    'font.size': 10,
    'axes.titlesize': 11,
    'axes.titleweight': 'bold',
    'axes.titlelocation': 'left',
    'axes.edgecolor': '#888888',
    'axes.labelcolor': INK,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.axisbelow': True,
    'text.color': INK,
    'xtick.color': INK,
    'ytick.color': INK,
    'legend.frameon': False,
    'figure.facecolor': 'white',
    'savefig.facecolor': 'white',
}


def styled() -> AbstractContextManager[None]:
    """The settings of all figures; leaves matplotlib's own as they were."""
    import matplotlib

    return matplotlib.rc_context(_RC)


def new_figure(width: float, height: float, title: str) -> tuple[Figure, Axes]:
    """A figure that no global state holds; it is drawn by Agg, without a display.

    Args:
        width: In inches; more where the title needs it.
        height: In inches.
        title: One or more lines, set flush left above the axes.

    Returns:
        The figure and its one pair of axes.
    """
    figure = _empty_figure(width, height, title)
    axes = figure.subplots()
    axes.set_title(title)
    return figure, axes


def new_panels(
    width: float, height: float, title: str, names: Sequence[str], columns: int = 2
) -> tuple[Figure, list[Axes]]:
    """A figure of several panels over one kind of x axis.

    Args:
        width: In inches; more where the title needs it.
        height: In inches.
        title: One or more lines, set flush left above all panels.
        names: Headings of the panels, row by row.
        columns: Panels in a row.

    Returns:
        The figure and a pair of axes for each name.
    """
    figure = _empty_figure(width, height, title)
    figure.suptitle(title, x=0.01, ha='left', fontsize=11, fontweight='bold')
    columns = min(columns, len(names))
    rows = -(-len(names) // columns)
    panels = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
    for panel in panels[len(names) :]:
        panel.remove()
    for panel, name in zip(panels, names, strict=False):
        panel.set_title(name, fontsize=10)
    return figure, panels[: len(names)]


def save_png(figure: Figure, path: Path) -> None:
    """Writes a figure atomically; equal figures give equal files.

    Args:
        figure: What to write.
        path: Where to, a ``.png``.

    Raises:
        OSError: Writing failed.
    """
    buffer = io.BytesIO()
    # No version and no address of the program, which would change from machine to machine.
    figure.savefig(buffer, format='png', metadata={'Software': None})
    atomic_write(path, lambda file: file.write(buffer.getvalue()))


def _empty_figure(width: float, height: float, title: str) -> Figure:
    from matplotlib.figure import Figure

    # A letter of the bold title is at most 0.11 inches wide; labels stand to the left of it.
    needed = 0.11 * max(map(len, title.splitlines())) + 1.2
    return Figure(figsize=(max(width, needed), height), dpi=DPI, layout='constrained')


def percent_axis(axes: Axes) -> None:
    """A y axis from 0 to 100 % with a quiet grid."""
    axes.set_ylim(0, 100)
    axes.set_yticks(range(0, 101, 20))
    axes.grid(axis='y', color=GRID, linewidth=0.8)
    axes.tick_params(length=0)


def shorten(name: str, length: int = 24) -> str:
    """A label that fits: ADE20K's names can list four synonyms."""
    return name if len(name) <= length else name[: length - 1].rstrip(' ,;') + '…'
