"""The figures that compare walks. Each function returns a matplotlib figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mmseg_cil.visualization import style
from mmseg_cil.visualization.figures import to_percent
from mmseg_cil.visualization.published import published_lines
from mmseg_cil.visualization.sweep import MEASURES, Sweep, scale_of
from mmseg_cil.visualization.tables import difference, shared_classes
from mmseg_cil.visualization.walk_record import WalkRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def comparison_curves(walks: Sequence[WalkRecord], labels: Sequence[str], title: str) -> Figure:
    """The mIoU of all (solid) and old (dashed) over the steps, a colour a walk.

    A walk of one step among longer ones, as joint training is, is drawn as a
    level line: it is what the others are measured against at every step. A thin dotted line is
    no result: a published figure for the walk's method and protocol, named in the legend.
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
    for position, walk in enumerate(walks):
        for level, label in published_lines(walk):
            look = {'color': series_look(position)['color'], 'linestyle': ':', 'linewidth': 1.1}
            axes.axhline(level, zorder=1, **look)
            handles.append(Line2D([], [], label=label, **look))
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


def sweep_figure(sweep: Sweep, title: str) -> Figure:
    """The mIoU of old, new and all and the forgetting against one number of the config.

    A colour a method: a marker a run, a line through the means of runs of equal
    value. Runs without the number are level lines.
    """
    from matplotlib.ticker import MaxNLocator

    shown = [
        measure for measure in MEASURES
        if any(run.scores[measure] is not None for run in sweep.runs)
    ]  # fmt: skip
    heading = f'{title}, after step {sweep.step}\nby the value of {sweep.key}'
    names = [m if m == 'forgetting' else f'mIoU of {m}' for m in shown]
    rows = (len(shown) + 1) // 2
    figure, panels = style.new_panels(9.6, 0.9 + 2.7 * rows, heading, names)
    for measure, axes in zip(shown, panels, strict=True):
        _draw_measure(axes, sweep, measure)
        _value_axis(axes, sweep)
    # The means on one scale; forgetting, which may be negative, on its own.
    means = panels[: len(shown) - ('forgetting' in shown)]
    top = max((axes.get_ylim()[1] for axes in means), default=100)
    for axes in panels:
        low, high = axes.get_ylim()
        axes.set_ylim(*((0, min(100, top)) if axes in means else (min(0, low), max(0, high))))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
        axes.set_ylabel('%')
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc='outside right center')
    return figure


def _draw_measure(axes: Axes, sweep: Sweep, measure: str) -> None:
    for position, method in enumerate(sweep.methods):
        look = series_look(position)
        line = sweep.line(method, measure)
        values = [value for value, _ in line]
        axes.plot(values, to_percent([mean for _, mean in line]), color=look['color'], linewidth=2)
        runs = [run for run in sweep.runs if run.method == method]
        scores = to_percent([run.scores[measure] for run in runs])
        axes.plot([float(run.value or 0) for run in runs], scores, linestyle='', **look)
        axes.plot([], [], linewidth=2, label=method, **look)
    for position, level in enumerate(sweep.levels, len(sweep.methods)):
        score = to_percent([level.scores[measure]])[0]
        dashes = (0, (6, 2, *(1, 2) * (1 + position - len(sweep.methods))))
        axes.axhline(
            score, color=series_look(position)['color'], linestyle=dashes, linewidth=1.6,
            label=level.label,
        )  # fmt: skip
    axes.grid(axis='y', color=style.GRID, linewidth=0.8)
    axes.tick_params(length=0)
    axes.margins(x=0.06, y=0.12)


def _value_axis(axes: Axes, sweep: Sweep) -> None:
    """The x axis: ticks at the values themselves where it is not linear."""
    values, scale = sweep.values, scale_of(sweep.values)
    name = sweep.key.rsplit('.', 1)[-1]
    if scale == 'linear':
        axes.set_xlabel(name)
        return
    smallest = min(abs(value) for value in values if value)
    if scale == 'log':
        axes.set_xscale('log')
        axes.set_xlabel(f'{name} (logarithmic)')
    else:
        axes.set_xscale('symlog', linthresh=smallest)
        axes.set_xlabel(f'{name} (logarithmic, linear below {smallest:g})')
    axes.set_xticks(values, [f'{value:g}' for value in values])
    axes.set_xticks([], minor=True)


def series_look(position: int) -> dict[str, Any]:
    """Colour and marker of the walk (in a sweep: the method) at a position."""
    return {
        'color': style.SERIES[position % len(style.SERIES)],
        # Beyond the palette's end the marker tells walks of one colour apart.
        'marker': style.MARKERS[(position + position // len(style.SERIES)) % len(style.MARKERS)],
        'markersize': 6,
    }
