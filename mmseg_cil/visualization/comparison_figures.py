"""The figures that compare walks. Each function returns a matplotlib figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mmseg_cil.visualization import style
from mmseg_cil.visualization.figures import to_percent
from mmseg_cil.visualization.tables import difference, shared_classes
from mmseg_cil.visualization.walk_record import WalkRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def comparison_curves(walks: Sequence[WalkRecord], labels: Sequence[str], title: str) -> Figure:
    """The mIoU of all (solid) and old (dashed) over the steps, a colour a walk.

    A walk of one step among longer ones, as joint training is, is drawn as a
    level line: it is what the others are measured against at every step.
    """
    from matplotlib.lines import Line2D

    steps = sorted({step for walk in walks for step in walk.steps})
    heading = f'{title}\nmIoU of all and old over the steps'
    figure, axes = style.new_figure(max(7.6, 3.6 + 0.42 * len(steps)), 4.2, heading)
    handles: list[Any] = []
    for position, (walk, label) in enumerate(zip(walks, labels, strict=True)):
        look = series_look(position)
        if len(walk.steps) == 1 and len(steps) > 1:
            level = to_percent(walk.miou('all'))[0]
            axes.axhline(level, color=look['color'], linestyle='-.', linewidth=1.6)
            handles.append(Line2D([], [], color=look['color'], linestyle='-.', label=label))
            continue
        axes.plot(walk.steps, to_percent(walk.miou('all')), linewidth=2.2, **look)
        axes.plot(
            walk.steps, to_percent(walk.miou('old')), linewidth=1.6, linestyle='--',
            markerfacecolor='white', **look,
        )  # fmt: skip
        handles.append(Line2D([], [], label=label, linewidth=2.2, **look))
    handles += [
        Line2D([], [], color=style.INK, linewidth=2.2, label='all'),
        Line2D([], [], color=style.INK, linewidth=1.6, linestyle='--', label='old'),
    ]
    style.percent_axis(axes)
    axes.set_xticks(steps)
    axes.set_xlim(steps[0] - 0.3, steps[-1] + 0.3)
    axes.set_xlabel('after step')
    axes.set_ylabel('mIoU (%)')
    axes.legend(handles=handles, loc='center left', bbox_to_anchor=(1.0, 0.5))
    return figure


def difference_figure(walks: Sequence[WalkRecord], labels: Sequence[str], title: str) -> Figure:
    """Difference of every class's last IoU to the first walk's, in points."""
    names = shared_classes(walks)
    rows = np.arange(len(names))
    others = list(zip(walks[1:], labels[1:], strict=True))
    heading = f'{title}\nIoU after the last step, against {labels[0]}'
    figure, axes = style.new_figure(8.2, 1.9 + 0.23 * len(names), heading)
    axes.axvline(0, color=style.INK, linewidth=1.2)
    thickness = 0.72 / len(others)
    for position, (walk, label) in enumerate(others):
        final, first = walk.entries[-1]['IoU'], walks[0].entries[-1]['IoU']
        values = to_percent([difference(first.get(name), final.get(name)) for name in names])
        # With many walks bars get thin; the offset keeps every one visible.
        offset = (position - (len(others) - 1) / 2) * thickness
        axes.barh(
            rows + offset, values, height=thickness * 0.92, label=label,
            color=series_look(position + 1)['color'],
        )  # fmt: skip
    axes.set_yticks(rows, [style.shorten(name) for name in names], fontsize=8.5)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis='x', color=style.GRID, linewidth=0.8)
    axes.tick_params(length=0, labeltop=len(names) > style.TALL)
    axes.margins(x=0.08)
    axes.set_xlabel(f'IoU minus that of {labels[0]} (percentage points)')
    axes.legend(loc='upper left', bbox_to_anchor=(1.0, 1.0))
    return figure


def series_look(position: int) -> dict[str, Any]:
    """Colour and marker of the walk at a position, the same in every figure."""
    return {
        'color': style.SERIES[position % len(style.SERIES)],
        # Beyond the palette's end the marker tells walks of one colour apart.
        'marker': style.MARKERS[(position + position // len(style.SERIES)) % len(style.MARKERS)],
        'markersize': 6,
    }
