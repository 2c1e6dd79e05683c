"""The figures of one walk. Each function returns a matplotlib figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mmseg_cil.visualization import style
from mmseg_cil.visualization.walk_record import Losses, WalkRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FloatArray = npt.NDArray[np.float64]


def to_percent(values: Sequence[float | None]) -> FloatArray:
    """Return fractions as percentages, NaN where undefined: what matplotlib leaves out."""
    return np.array([np.nan if v is None else 100 * v for v in values], dtype=np.float64)


def curve_figure(walk: WalkRecord) -> Figure:
    """Draw the mIoU of all, old and new over the steps."""
    figure, axes = style.new_figure(max(6.4, 2.6 + 0.42 * len(walk.steps)), 3.6)
    for part, look in style.PART_STYLE.items():
        values = to_percent(walk.miou(part))
        axes.plot(walk.steps, values, label=part, markersize=6, **look)
    style.percent_axis(axes)
    axes.set_xticks(walk.steps)
    axes.set_xlim(walk.steps[0] - 0.3, walk.steps[-1] + 0.3)
    axes.set_xlabel('after step')
    axes.set_ylabel('mIoU (%)')
    # Beside the axes: no corner is free in every walk.
    axes.legend(loc='center left', bbox_to_anchor=(1.0, 0.5))
    return figure


def class_figure(walk: WalkRecord) -> Figure:
    """Draw the IoU of every class after every step as a heat map."""
    names = walk.seen
    matrix = np.array([to_percent(walk.iou(name)) for name in names])
    seen = np.array([[name in entry['seen'] for entry in walk.entries] for name in names])
    figure, axes = style.new_figure(max(5.0, 3.3 + 0.58 * len(walk.steps)), 1.2 + 0.23 * len(names))
    _heat_map(figure, axes, matrix, seen, 'IoU (%)')
    axes.set_xticks(range(len(walk.steps)), [str(step) for step in walk.steps])
    axes.set_yticks(range(len(names)), [style.shorten(name) for name in names], fontsize=8.5)
    axes.set_xlabel('after step')
    axes.tick_params(labeltop=len(names) > style.TALL)
    if not walk.by_domain:
        sizes = [len(group) for group in walk.introduced[:-1]]
        for edge in np.cumsum(sizes):
            axes.axhline(edge - 0.5, color='white', linewidth=2.5)
    return figure


def group_figure(walk: WalkRecord) -> Figure:
    """Draw the mIoU of what step j brought (column) after step i (row) as a heat map."""
    count = max(len(entry.get('groups', [])) for entry in walk.entries)
    rows = [entry.get('groups', []) for entry in walk.entries]
    matrix = np.array([to_percent([*row, *[None] * (count - len(row))]) for row in rows])
    seen = np.array([[j < len(row) for j in range(count)] for row in rows])
    figure, axes = style.new_figure(max(5.0, 2.3 + 0.58 * count), max(2.6, 1.3 + 0.34 * len(rows)))
    _heat_map(figure, axes, matrix, seen, 'mIoU (%)')
    axes.set_xticks(range(count))
    axes.set_yticks(range(len(rows)), [str(step) for step in walk.steps])
    axes.set_xlabel(f'{"domains" if walk.by_domain else "classes"} of step')
    axes.set_ylabel('after step')
    return figure


def loss_figure(walk: WalkRecord) -> Figure:
    """Draw the training loss, step after step on one axis."""
    steps = walk.losses
    figure, axes = style.new_figure(max(7.2, 2.0 + 0.5 * len(steps)), 3.4)
    offset = 0
    for position, losses in enumerate(steps):
        colour = style.SERIES[position % 2]
        iterations = np.array(losses.iterations) + offset
        values = np.array(losses.values)
        axes.plot(iterations, values, color=colour, alpha=0.3, linewidth=0.9)
        axes.plot(iterations, _smooth(values), color=colour, linewidth=1.8)
        middle = offset + losses.iterations[-1] / 2
        axes.text(
            middle, 1.0, str(losses.step), transform=axes.get_xaxis_transform(), ha='center',
            va='bottom', fontsize=9, color=colour,
        )  # fmt: skip
        offset += losses.iterations[-1]
        if position < len(steps) - 1:
            axes.axvline(offset, color=style.GRID, linewidth=1)
    axes.set_xlim(0, offset)
    _loss_scale(axes, steps)
    axes.grid(axis='y', color=style.GRID, linewidth=0.8)
    axes.set_xlabel('training iterations, all steps in a row (step above)')
    axes.set_ylabel('training loss')
    return figure


def confusion_figure(names: Sequence[str], matrix: npt.NDArray[np.int64]) -> Figure:
    """Draw the shares of each class's pixels by what they are predicted as, as a heat map.

    Args:
        names: (C,) class names by model id.
        matrix: (C, C) [true, predicted] pixels.
    """
    totals = matrix.sum(axis=1, keepdims=True)
    shares = np.where(totals > 0, 100 * matrix / np.maximum(totals, 1), np.nan)
    side = 0.42 if len(names) <= style.TALL else 0.2
    figure, axes = style.new_figure(2.8 + side * len(names), 1.6 + side * len(names))
    known = np.ones_like(shares, bool)
    _heat_map(figure, axes, shares, known, "share of the class's pixels (%)", len(names) <= 30)
    shown = [style.shorten(name, 18) for name in names]
    axes.set_xticks(range(len(names)), shown, rotation=90, fontsize=8.5)
    axes.set_yticks(range(len(names)), shown, fontsize=8.5)
    axes.set_xlabel('predicted')
    axes.set_ylabel('true')
    return figure


def domain_figure(names: Sequence[str], matrices: npt.NDArray[np.int64]) -> Figure:
    """Draw the IoU of every class on the images of each step's domains as a heat map.

    Args:
        names: (C,) class names by model id.
        matrices: (D, C, C) [true, predicted] pixels.
    """
    # It imports torch, which a report without domains does without.
    from mmseg_cil.evaluation.confusion import iou_from_confusion

    iou = 100 * np.array([iou_from_confusion(matrix) for matrix in matrices]).T
    figure, axes = style.new_figure(max(5.0, 3.3 + 0.58 * len(matrices)), 1.2 + 0.23 * len(names))
    _heat_map(figure, axes, iou, np.ones_like(iou, bool), 'IoU (%)')
    axes.set_xticks(range(len(matrices)))
    axes.set_yticks(range(len(names)), [style.shorten(name) for name in names], fontsize=8.5)
    axes.set_xlabel('domains of step')
    return figure


def _heat_map(
    figure: Figure,
    axes: Axes,
    matrix: FloatArray,
    seen: npt.NDArray[np.bool_],
    label: str,
    numbers: bool = True,
) -> None:
    """Draw percentages with their numbers; grey where not seen, a dash where undefined."""
    import matplotlib

    colours = matplotlib.colormaps[style.HEAT]
    axes.set_facecolor(style.UNSEEN)
    known = matrix[np.isfinite(matrix)]
    # The next ten above what is drawn, so that small values differ in colour too.
    top = min(100.0, 10 * np.ceil(max(known.max(initial=0.0), 1.0) / 10))
    image = axes.imshow(matrix, cmap=colours, vmin=0, vmax=top, aspect='auto')
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    for (row, column), value in np.ndenumerate(matrix) if numbers else ():
        if np.isnan(value):
            if seen[row, column]:
                axes.text(column, row, '–', ha='center', va='center', fontsize=8)
            continue
        # Both inks read equally well on cividis' middle grey, at about 47 % of its range.
        ink = 'white' if value < 0.47 * top else 'black'
        number = axes.text(
            column, row, f'{value:.1f}', ha='center', va='center', fontsize=7.5, color=ink
        )  # fmt: skip
        # Inside its cell it cannot move the layout; measuring 1,600 of them takes seconds.
        number.set_in_layout(False)
    # A bar of fixed length: along 150 rows it would be a stripe.
    height = figure.get_figheight()
    bar = figure.colorbar(image, ax=axes, shrink=min(1.0, 3.2 / height), aspect=18, anchor=(0, 1))
    bar.outline.set_visible(False)
    bar.set_label(label)


def _smooth(values: FloatArray) -> FloatArray:
    """Return the running median over a twentieth of the records: robust to spikes."""
    half = max(1, len(values) // 40)
    return np.array(
        [np.median(values[max(0, i - half) : i + half + 1]) for i in range(len(values))]
    )


def _loss_scale(axes: Axes, steps: Sequence[Losses]) -> None:
    """Set a linear scale from 0, or a logarithmic one where one step would flatten the others."""
    values = np.concatenate([losses.values for losses in steps])
    values = values[np.isfinite(values)]
    if values.size and values.min() > 0 and values.max() > 50 * np.median(values):
        axes.set_yscale('log')
    elif values.size and values.min() >= 0 and values.max() > 0:
        axes.set_ylim(0, 1.05 * values.max())
