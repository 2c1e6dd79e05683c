"""The tables of a report, for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mmseg_cil.utils.harmonic import HARMONIC
from mmseg_cil.visualization.sweep import MEASURES, Sweep
from mmseg_cil.visualization.walk_record import WalkRecord, shown_parts

UNDEFINED = '–'
#: A terminal or a log may know nothing beyond ASCII.
_PLAIN = str.maketrans({'–': '-', '−': '-', '…': '..'})
#: Means that an entry has where the config asks for them.
_FURTHER = ('mDice', 'mFscore', 'mPrecision', 'mRecall')
CONTINUAL = {'average_mIoU': 'average mIoU', 'forgetting': 'forgetting', 'BWT': 'BWT'}


@dataclass(frozen=True)
class Table:
    """Cells as text; the first column names the row.

    Attributes:
        caption: The content of the table, in a phrase.
        header: (N,) column heads.
        rows: (R, N) cells.
        text_columns: Columns, besides the first, that hold words: set flush left.
        name: Name of its files; empty: it has none.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    text_columns: frozenset[int] = frozenset()
    name: str = ''

    def to_text(self) -> str:
        """Return the table for a terminal, caption first."""
        cells = [[cell.translate(_PLAIN) for cell in row] for row in (self.header, *self.rows)]
        widths = [max(len(row[j]) for row in cells) for j in range(len(self.header))]
        left = self.text_columns | {0}
        lines = [
            '  '.join(
                cell.ljust(width) if j in left else cell.rjust(width)
                for j, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in cells
        ]
        rule = '-' * (sum(widths) + 2 * (len(widths) - 1))
        return '\n'.join([self.caption, rule, lines[0], rule, *lines[1:], rule])


def percent(value: float | None, signed: bool = False) -> str:
    """Return a fraction as a percentage with two decimals; a dash where undefined.

    Example:
        >>> percent(0.4567), percent(0.01, signed=True)
        ('45.67', '+1.00')
    """
    if value is None:
        return UNDEFINED
    return f'{100 * value:+.2f}' if signed else f'{100 * value:.2f}'


def step_table(walk: WalkRecord, key: str = 'mIoU', what: str = '') -> Table:
    """Return the mIoU of all, old, new, base and later, and hIoU, after each step.

    Args:
        walk: The walk.
        key: Which of an entry's readings: ``'mIoU'`` or one with its background
            rule in the name.
        what: Added to the caption.
    """
    brings = [_brief(group) for group in walk.introduced]
    readings = [entry.get(key, {}) for entry in walk.entries]
    parts = shown_parts(readings)
    header = ['step', 'brings', 'test images', *parts]
    rows = [
        [
            str(entry['step']),
            brings[entry['step']] if entry['step'] < len(brings) else UNDEFINED,
            str(entry.get('images', UNDEFINED)),
            *(percent(means.get(part)) for part in parts),
        ]
        for entry, means in zip(walk.entries, readings, strict=True)
    ]
    name = key if key in _FURTHER else 'mIoU'
    files = {'mIoU': 'steps'}.get(key, f'steps_{key}')
    return Table(f'{name} (%) after each step{what}', header, rows, frozenset({1}), files)


def data_set_table(walk: WalkRecord) -> Table | None:
    """Return the mIoU on the test images of each data set; None where there is one alone."""
    found = [
        (str(entry['step']), name, part)
        for entry in walk.entries
        for name, part in (entry.get('data_sets') or {}).items()
    ]
    if not found:
        return None
    parts = shown_parts(part.get('mIoU', {}) for _, _, part in found)
    rows = [
        [
            step,
            name,
            str(part.get('images', UNDEFINED)),
            *(percent(part.get('mIoU', {}).get(which)) for which in parts),
        ]
        for step, name, part in found
    ]
    header = ['step', 'data set', 'test images', *parts]
    return Table('mIoU (%) on each data set', header, rows, frozenset({1}), 'data_sets')


def further_tables(walk: WalkRecord) -> list[Table]:
    """Return the tables of the means that the config asked for besides, such as mDice."""
    return [
        step_table(walk, key, background_note(walk))
        for key in _FURTHER
        if any(key in entry for entry in walk.entries)
    ]


def background_note(walk: WalkRecord) -> str:
    """Say whether the means count the background; empty where there is none."""
    settings = walk.entries[-1].get('settings', {}) if walk.entries else {}
    if not settings.get('background'):
        return ''
    return ', background ' + (
        'counted' if settings.get('background_in_means', True) else 'not counted'
    )


def other_reading(walk: WalkRecord) -> Table | None:
    """Return the step table under the other background rule; None where both agree."""
    settings = walk.entries[-1].get('settings', {}) if walk.entries else {}
    if not settings.get('background'):
        return None
    if settings.get('background_in_means', True):
        return step_table(walk, 'mIoU_without_background', ', background not counted')
    return step_table(walk, 'mIoU_with_background', ', background counted')


def continual_table(walk: WalkRecord) -> Table:
    """Average mIoU, forgetting and BWT of the walk so far."""
    values = walk.metrics.get('continual', {})
    names = [*CONTINUAL, *(name for name in values if name not in CONTINUAL)]
    rows = [[CONTINUAL.get(name, name), percent(values.get(name))] for name in names]
    return Table('Whole walk (%)', ['measure', 'value'], rows, name='whole_walk')


def snapshot_table(walk: WalkRecord) -> Table | None:
    """Return size and score of each step's pruned snapshot; None where none was kept."""
    rows = []
    for entry in walk.entries:
        for summary in (entry.get('sub_steps') or {}).values():
            if 'snapshot_mIoU' in summary:
                rows.append(
                    [
                        str(entry['step']),
                        percent(summary['kept_share']),
                        *(
                            f'{summary[key] / 2**20:.2f}'
                            for key in ('bytes_snapshot', 'bytes_all_snapshots', 'bytes_dense')
                        ),
                        percent(summary['snapshot_mIoU']),
                        percent(entry['mIoU'].get('all')),
                    ]
                )
    header = [
        'step',
        'weights kept (%)',
        'MiB',
        'MiB of all so far',
        'MiB of the network',
        'mIoU of the snapshot',
        'mIoU of the network',
    ]
    return Table('Pruned snapshots', header, rows) if rows else None


def confusion_table(walk: WalkRecord) -> Table | None:
    """Return as what the pixels of old and new classes are predicted; None where nothing tells."""
    rows = []
    # By domain no class is new.
    for entry in [] if walk.by_domain else walk.entries:
        for group, shares in (entry.get('confusion_shares') or {}).items():
            if shares:
                kinds = ('right', 'background', 'old', 'new')
                rows.append([str(entry['step']), group, *(percent(shares[kind]) for kind in kinds)])
    if not rows:
        return None
    header = ['step', 'pixels of', 'right', 'as background', 'as another old', 'as another new']
    caption = (
        'Pixels (%) of old and new classes by what they are predicted as: background tells of '
        'forgetting, another class of confusion; true background is left out'
    )
    return Table(caption, header, rows, frozenset({1}), 'confusion')


def brings_table(walk: WalkRecord) -> Table:
    """Return the full names of what each step brought."""
    rows = [[str(step), ', '.join(group)] for step, group in enumerate(walk.introduced)]
    what = 'domains' if walk.by_domain else 'classes'
    return Table(f'What each step brought: {what}', ['step', what], rows, frozenset({1}))


def class_table(walk: WalkRecord) -> Table:
    """IoU of every class after each step, and its accuracy after the last."""
    origin = _origins(walk)
    header = ['class']
    header += [] if walk.by_domain else ['from step']
    header += [f'after {step}' for step in walk.steps] + ['accuracy']
    accuracy: Mapping[str, float | None] = walk.entries[-1].get('accuracy', {})
    rows = []
    for name in walk.seen:
        row = [name] if walk.by_domain else [name, origin.get(name, UNDEFINED)]
        rows.append([*row, *map(percent, walk.iou(name)), percent(accuracy.get(name))])
    return Table(
        f'IoU (%) of every class after each step; accuracy (%) after step {walk.steps[-1]}',
        header,
        rows,
        name='classes',
    )


def comparison_table(walks: Sequence[WalkRecord], labels: Sequence[str]) -> Table:
    """One row a walk: the means after its last step and the measures of the whole."""
    parts = shown_parts(walk.entries[-1]['mIoU'] for walk in walks)
    header = ['method', 'steps', *parts, *CONTINUAL.values()]
    rows = []
    for walk, label in zip(walks, labels, strict=True):
        last = walk.entries[-1]
        continual = walk.metrics.get('continual', {})
        rows.append(
            [
                label,
                str(len(walk.entries)),
                *(percent(last['mIoU'].get(part)) for part in parts),
                *(percent(continual.get(name)) for name in CONTINUAL),
            ]
        )
    caption = 'mIoU (%) after the last step, and the whole walk (%)'
    return Table(caption, header, rows, name='comparison')


def mean_over_steps_table(walks: Sequence[WalkRecord], labels: Sequence[str], part: str) -> Table:
    """One row a walk: the mIoU of one part after each step."""
    steps = sorted({step for walk in walks for step in walk.steps})
    rows = []
    for walk, label in zip(walks, labels, strict=True):
        by_step = dict(zip(walk.steps, walk.miou(part), strict=True))
        rows.append([label, *(percent(by_step.get(step)) for step in steps)])
    head = ['method', *(f'after {step}' for step in steps)]
    return Table(f'mIoU (%) of {part} after each step', head, rows, name=f'steps_{part}')


def difference_table(walks: Sequence[WalkRecord], labels: Sequence[str]) -> Table:
    """IoU of every class after the last step, and the differences to the first walk."""
    header = ['class', *labels, *(f'{label} − {labels[0]}' for label in labels[1:])]
    rows = []
    for name in shared_classes(walks):
        final = [walk.entries[-1]['IoU'].get(name) for walk in walks]
        rows.append(
            [
                name,
                *map(percent, final),
                *(percent(difference(final[0], v), signed=True) for v in final[1:]),
            ]
        )
    return Table(
        f'IoU (%) of every class after the last step, and the difference to {labels[0]} '
        f'(percentage points)',
        header,
        rows,
        name='comparison_classes',
    )


def sweep_table(sweep: Sweep) -> Table:
    """One row a run: its value and its scores; runs without the number come last."""
    means, rest = MEASURES[:2], MEASURES[2:]
    runs = (*sweep.runs, *sweep.levels)
    harmonic = any(run.scores.get(HARMONIC) is not None for run in runs)
    measures = (*means, *([HARMONIC] if harmonic else []), *rest)
    rows = [
        [
            run.method,
            UNDEFINED if run.value is None else f'{run.value:g}',
            *(percent(run.scores.get(measure)) for measure in measures),
            run.label,
        ]
        for run in runs
    ]
    header = ['method', 'value', *measures, 'run']
    caption = f'mIoU and forgetting (%) after step {sweep.step} by the value of {sweep.key}'
    return Table(caption, header, rows, frozenset({len(header) - 1}), 'sweep')


def shared_classes(walks: Sequence[WalkRecord]) -> list[str]:
    """All classes that any of the walks has seen, in order of appearance."""
    return list(dict.fromkeys(name for walk in walks for name in walk.seen))


def difference(first: float | None, other: float | None) -> float | None:
    """``other`` minus ``first``; None where either is undefined."""
    return None if first is None or other is None else other - first


def _brief(group: Sequence[str]) -> str:
    text = ', '.join(group)
    if len(group) <= 2 and len(text) <= 24:
        return text
    return f'{len(group)}: {group[0]} … {group[-1]}' if len(group) > 1 else text


def _origins(walk: WalkRecord) -> dict[str, str]:
    return {name: str(step) for step, group in enumerate(walk.introduced) for name in group}
