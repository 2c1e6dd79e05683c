"""The curves of a grid over the steps, with bands over the seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mmseg_cil.grid.references import JOINT, NOTHING
from mmseg_cil.grid.tables import SHOWN, Scores
from mmseg_cil.visualization import style
from mmseg_cil.visualization.comparison_figures import series_look

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ORDER = ('all', 'old', 'new')


def curve_figure(scores: Sequence[Scores]) -> Figure:
    """Draw the means of all, old and new over the steps of one protocol, one colour per method.

    A band is the mean and one standard deviation over the seeds to both sides. Joint training is a
    level line; a network that learns nothing more is a dotted line.

    Args:
        scores: Scores of one protocol, by rising step.
    """
    names = list(dict.fromkeys(name for score in scores for name in score.entries))
    width = max(11.0, 3 * (1.6 + 0.3 * len(scores)))
    titles = [f'mIoU of {part}' for part in _ORDER]
    figure, panels = style.new_panels(width, 3.6, titles, columns=len(SHOWN))
    top = 0.0
    for part, axes in zip(_ORDER, panels, strict=True):
        for position, name in enumerate(names):
            top = max(top, _draw(axes, scores, name, position, part))
    for axes in panels:
        axes.set_ylim(0, min(100.0, 1.08 * top) or 1.0)
        axes.set_xticks([score.step for score in scores])
        axes.set_xlabel('after step')
        axes.grid(axis='y', color=style.GRID, linewidth=0.8)
        axes.tick_params(length=0)
    panels[0].set_ylabel('%')
    handles, labels = panels[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc='outside right center')
    return figure


def _draw(axes: Axes, scores: Sequence[Scores], name: str, position: int, part: str) -> float:
    """Draw a method into a panel, and return the greatest value drawn."""
    found = [score.entries[name].parts[part] for score in scores if name in score.entries]
    means = np.array([np.nan if entry.mean is None else entry.mean for entry in found])
    if np.isnan(means).all():
        return 0.0
    look = series_look(position)
    if name == JOINT:
        level = float(means[~np.isnan(means)][-1])
        axes.axhline(level, color=style.INK, linestyle='-.', linewidth=1.2, label=name)
        return level
    steps = [score.step for score in scores if name in score.entries]
    if name == NOTHING:
        look = {'color': style.INK, 'marker': ''}
    axes.plot(
        steps, means, linewidth=1.8, linestyle=':' if name == NOTHING else '-', label=name, **look
    )
    spread = np.array([entry.deviation or 0.0 for entry in found])
    axes.fill_between(
        steps, means - spread, means + spread, color=look['color'], alpha=0.15, linewidth=0
    )
    return float(np.nanmax(means + spread))
