"""Published figures beside the results of walks: a table of their own, and dotted lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmseg_cil.published_figures import PublishedFigure, figures_of
from mmseg_cil.visualization.tables import UNDEFINED, Table
from mmseg_cil.visualization.walk_record import WalkRecord

#: Stands before whatever is published in a table or a legend.
MARK = 'published:'


def published_of(walk: WalkRecord) -> list[PublishedFigure]:
    """Return what is published for the method of a walk on the same steps in the same setting."""
    protocol = walk.journal.get('protocol')
    return figures_of(protocol, walk.method) if isinstance(protocol, Mapping) else []


def published_table(walks: Sequence[WalkRecord]) -> Table | None:
    """One row a figure published for the walks' methods; None where there is none."""
    found = list(dict.fromkeys(figure for walk in walks for figure in published_of(walk)))
    rows = [
        [
            f'{MARK} {figure.method}',
            figure.setting or UNDEFINED,
            *(_cell(value) for value in (figure.old, figure.new, figure.all)),
            {True: 'counted', False: 'not counted', None: UNDEFINED}[figure.background],
            figure.backbone or UNDEFINED,
            '; '.join(part for part in (figure.source, figure.note) if part),
        ]
        for figure in found
    ]
    header = ['method', 'setting', 'old', 'new', 'all', 'background', 'backbone', 'source']
    caption = (
        'Published, not run here: mIoU (%) after the last step, with the networks, data and '
        'schedules of the sources'
    )
    return Table(caption, header, rows, frozenset({1, 5, 6, 7})) if rows else None


def published_lines(walk: WalkRecord) -> list[tuple[float, str]]:
    """Return height in per cent and label of the lines that belong into a walk's curves.

    These are the means of all classes that treat the background as the walk's own do.
    """
    settings = walk.entries[-1].get('settings', {}) if walk.entries else {}
    counted = settings.get('background_in_means', True) if settings.get('background') else None
    return [
        (figure.all, f'{MARK} {figure.method}, {figure.source}')
        for figure in published_of(walk)
        if figure.all is not None
        and (None in (counted, figure.background) or counted == figure.background)
    ]


def _cell(value: float | None) -> str:
    return UNDEFINED if value is None else f'{value}'
