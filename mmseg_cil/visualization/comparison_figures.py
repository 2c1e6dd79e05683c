"""The figures that compare walks. Each function returns a matplotlib figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mmseg_cil.visualization import style
from mmseg_cil.visualization.figures import to_percent
from mmseg_cil.visualization.published import published_lines
from mmseg_cil.visualization.seeds import SeedGroup
from mmseg_cil.visualization.sweep import MEASURES, Sweep, scale_of
from mmseg_cil.visualization.tables import difference, shared_classes
from mmseg_cil.visualization.walk_record import WalkRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def comparison_curves(groups: Sequence[SeedGroup]) -> Figure:
    """Draw the mIoU of all (solid) and old (dashed) over the steps, a colour a method.

    Walks that differ by their seed alone are one line, their mean, and a band of one standard
    deviation. A walk of one step among longer ones, as joint training is, is a level line. A thin
    dotted line is no result: a published figure for the method and protocol, named in the legend.
    Everything of one method is in groups of the SVG called ``series-PLACE-...``, which the page
    hides and shows.

    Args:
        groups: From :func:`~mmseg_cil.visualization.seeds.seed_groups`.
    """
    from matplotlib.lines import Line2D

    steps = sorted({step for group in groups for step in group.steps})
    figure, axes = style.new_figure(max(7.6, 3.6 + 0.42 * len(steps)), 4.0)
    handles: list[Any] = []
    for position, group in enumerate(groups):
        look = series_look(position)
        if len(group.steps) == 1 and len(steps) > 1:
            level = float(np.mean(group.scores('all')))
            drawn: list[Any] = [
                axes.axhline(level, color=look['color'], linestyle='-.', linewidth=1.6)
            ]
            handles.append(Line2D([], [], color=look['color'], linestyle='-.', label=group.label))
        else:
            drawn = _draw_group(axes, group, look)
            handles.append(Line2D([], [], label=group.label, linewidth=2.2, **look))
        for level, label in published_lines(group.walks[0]):
            thin = {'color': look['color'], 'linestyle': ':', 'linewidth': 1.1}
            drawn.append(axes.axhline(level, zorder=1, **thin))
            handles.append(Line2D([], [], label=label, **thin))
        for number, artist in enumerate(drawn):
            artist.set_gid(f'series-{position}-{number}')
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


def _draw_group(axes: Axes, group: SeedGroup, look: Mapping[str, Any]) -> list[Any]:
    """Draw lines and bands of all and old; return the artists."""
    drawn: list[Any] = []
    for part, width, dash in (('all', 2.2, '-'), ('old', 1.6, '--')):
        scores = group.scores(part)
        defined = ~np.isnan(scores).any(axis=0)
        means = np.where(defined, scores.mean(axis=0), np.nan)
        line: dict[str, Any] = {**look, 'linewidth': width, 'linestyle': dash}
        if part == 'old':
            line['markerfacecolor'] = 'white'
        drawn += axes.plot(group.steps, means, **line)
        if len(scores) > 1:
            spread = scores.std(axis=0, ddof=1)
            band: dict[str, Any] = {'color': look['color'], 'alpha': 0.15, 'linewidth': 0}
            drawn.append(axes.fill_between(group.steps, means - spread, means + spread, **band))
    return drawn


#: Classes that :func:`class_curves` shows at most.
MOST_CLASSES = 24


def class_curves(groups: Sequence[SeedGroup]) -> Figure:
    """Draw the IoU of every class over the steps, a panel a class and a colour a method.

    Where there are more than 24 classes, those are shown in which the methods differ most after
    the last step.
    Series are named as in :func:`comparison_curves`.

    Args:
        groups: From :func:`~mmseg_cil.visualization.seeds.seed_groups`.
    """
    names = shared_classes([walk for group in groups for walk in group.walks])
    if len(names) > MOST_CLASSES:
        spread = {name: _spread(groups, name) for name in names}
        kept = set(sorted(names, key=lambda name: -spread[name])[:MOST_CLASSES])
        names = [name for name in names if name in kept]
    rows = -(-len(names) // 4)
    shown = [style.shorten(name) for name in names]
    figure, panels = style.new_panels(11.0, 0.6 + 1.75 * rows, shown, columns=4)
    for number, (name, axes) in enumerate(zip(names, panels, strict=True)):
        for position, group in enumerate(groups):
            look: dict[str, Any] = {**series_look(position), 'markersize': 4, 'linewidth': 1.6}
            (line,) = axes.plot(group.steps, group.class_means(name), label=group.label, **look)
            line.set_gid(f'series-{position}-{number}')
        style.percent_axis(axes)
        axes.tick_params(labelsize=8)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc='outside lower center', ncols=min(len(labels), 6))
    return figure


def _spread(groups: Sequence[SeedGroup], name: str) -> float:
    """Return the range of a class's last IoU over the methods; 0 where fewer than two have one."""
    last = [group.class_means(name)[-1] for group in groups]
    defined = [value for value in last if np.isfinite(value)]
    return max(defined) - min(defined) if len(defined) > 1 else 0.0


def difference_figure(walks: Sequence[WalkRecord], labels: Sequence[str]) -> Figure:
    """Draw the difference of every class's last IoU to the first walk's, in points."""
    names = shared_classes(walks)
    rows = np.arange(len(names))
    others = list(zip(walks[1:], labels[1:], strict=True))
    figure, axes = style.new_figure(8.2, 1.5 + 0.23 * len(names))
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


def sweep_figure(sweep: Sweep) -> Figure:
    """Draw the mIoU of old, new and all and the forgetting against one number of the config.

    A colour a method: a marker a run, a line through the means of runs of equal
    value. Runs without the number are level lines.
    """
    from matplotlib.ticker import MaxNLocator

    shown = [
        measure for measure in MEASURES
        if any(run.scores[measure] is not None for run in sweep.runs)
    ]  # fmt: skip
    names = [m if m == 'forgetting' else f'mIoU of {m}' for m in shown]
    rows = (len(shown) + 1) // 2
    figure, panels = style.new_panels(9.6, 0.5 + 2.7 * rows, names)
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
    """Set the x axis: ticks at the values themselves where it is not linear."""
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
    """Return colour and marker of the walk (in a sweep: the method) at a position."""
    return {
        'color': style.SERIES[position % len(style.SERIES)],
        # Beyond the palette's end the marker tells walks of one colour apart.
        'marker': style.MARKERS[(position + position // len(style.SERIES)) % len(style.MARKERS)],
        'markersize': 6,
    }
