"""The look of figures: colours, fonts and sizes; and the way they are saved.

matplotlib is imported where a figure is made: a tool that only refuses its
input starts without it.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mmseg_cil.utils.atomic import write_bytes

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
#: The formats of a figure's files, with what is left out of them: date, and name and version of the
#: program, which change from machine to machine.
FORMATS: dict[str, dict[str, None]] = {
    'svg': dict.fromkeys(('Date', 'Creator', 'Format', 'Type')),
    'pdf': dict.fromkeys(('CreationDate', 'Creator', 'Producer')),
}
#: The tables of a font that say how glyphs are placed beside each other, and joined.
_RULES = ('GDEF', 'GPOS', 'GSUB', 'kern')
#: More rows than this do not fit a screen: their axis is labelled at the top as well.
TALL = 40

# Typed loosely: matplotlib's own type lists every parameter it has.
_RC: Any = {
    'font.family': 'DejaVu Sans',
    'font.size': 10,
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
    # Text stays text: small files, which can be searched and edited.
    'svg.fonttype': 'none',
    'svg.hashsalt': 'mmseg_cil',
    'pdf.fonttype': 42,
}


def styled() -> AbstractContextManager[None]:
    """Return a context with the settings of all figures, which restores those before it."""
    import matplotlib

    return matplotlib.rc_context(_RC)


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure that no global state holds; it is drawn without a display.

    It has no title: the page and a paper have captions.

    Args:
        width: In inches.
        height: In inches.

    Returns:
        The figure and its one pair of axes.
    """
    figure = _empty_figure(width, height)
    return figure, figure.subplots()


def new_panels(
    width: float, height: float, names: Sequence[str], columns: int = 2
) -> tuple[Figure, list[Axes]]:
    """Return a figure of several panels over one kind of x axis.

    Args:
        width: In inches.
        height: In inches.
        names: Headings of the panels, row by row.
        columns: Panels in a row.

    Returns:
        The figure and a pair of axes for each name.
    """
    figure = _empty_figure(width, height)
    columns = min(columns, len(names))
    rows = -(-len(names) // columns)
    panels = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
    for panel in panels[len(names) :]:
        panel.remove()
    for panel, name in zip(panels, names, strict=False):
        panel.set_title(name, fontsize=10)
    return figure, panels[: len(names)]


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as SVG and as PDF, atomically; equal figures give equal files.

    Args:
        figure: The figure.
        path: Where to, a ``.svg``; the PDF lies beside it.

    Raises:
        OSError: Writing failed.
    """
    for kind, metadata in FORMATS.items():
        buffer = io.BytesIO()
        with glyphs_alone():
            figure.savefig(buffer, format=kind, metadata=metadata)
        # The places of axes are found once; the second file has the same.
        figure.set_layout_engine('none')
        write_bytes(path.with_suffix(f'.{kind}'), buffer.getvalue())


@contextlib.contextmanager
def glyphs_alone() -> Iterator[None]:
    """Embed fonts in the PDFs of a block without rules for placing and joining glyphs.

    A PDF names its glyphs and their places one by one. To cut those rules down to the glyphs of a
    figure takes longer than to draw the figure.
    """
    from fontTools import subset

    options: Any = subset.Options
    former = getattr(options, '_drop_tables_default', None)
    if former is not None:
        options._drop_tables_default = [*former, *_RULES]
    try:
        yield
    finally:
        if former is not None:
            options._drop_tables_default = former


def remove_figure(path: Path) -> None:
    """Remove the files of a figure of an earlier report.

    Args:
        path: The ``.svg``.
    """
    for kind in ('.svg', '.pdf', '.png'):
        path.with_suffix(kind).unlink(missing_ok=True)


def _empty_figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI, layout='constrained')


def percent_axis(axes: Axes) -> None:
    """Give a pair of axes a quiet grid and a y axis in per cent that fits what is drawn.

    It begins at 0, unless all values lie in the upper half of it: then differences would be lines
    upon each other.
    """
    from matplotlib.ticker import MaxNLocator

    drawn = [np.asarray(line.get_ydata(), dtype=float) for line in axes.get_lines()]
    drawn += [area.get_datalim(axes.transData).intervaly for area in axes.collections]
    values = np.concatenate([np.ravel(each) for each in drawn]) if drawn else np.zeros(0)
    values = values[np.isfinite(values)]
    low, high = _fitted(values)
    axes.set_ylim(low, high)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    axes.grid(axis='y', color=GRID, linewidth=0.8)
    axes.tick_params(length=0)


def _fitted(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return the ends of an axis of percentages.

    Example:
        >>> _fitted(np.array([4.0, 10.0])), _fitted(np.zeros(0))
        ((0.0, 10.8), (0.0, 100.0))
        >>> low, high = _fitted(np.array([32.0, 34.0]))
        >>> 28 < low < 32 and 34 < high < 37
        True
    """
    if not values.size or values.max() <= 0:
        return 0.0, 100.0
    least, greatest = float(values.min()), float(values.max())
    if least < 0.5 * greatest:
        return min(0.0, least), min(100.0, round(1.08 * greatest, 6))
    margin = max(0.15 * (greatest - least), 1.5)
    return max(0.0, least - margin), min(100.0, greatest + margin)


def shorten(name: str, length: int = 24) -> str:
    """Return a label that fits: ADE20K's names can list four synonyms."""
    return name if len(name) <= length else name[: length - 1].rstrip(' ,;') + '…'
