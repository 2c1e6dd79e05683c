"""The sub-steps in a report: how long they took, and the images that generators draw."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmseg_cil.utils.inside import is_plain_name
from mmseg_cil.visualization import style
from mmseg_cil.visualization.page import Picture, Section
from mmseg_cil.visualization.tables import UNDEFINED, Table, percent
from mmseg_cil.visualization.walk_record import WalkRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Files of a sub-step that trains a generator.
GRID, SUMMARY = 'samples.png', 'summary.json'
#: Key in the log of the fraction of pixels that follow the layout.
FOLLOWS = 'follows'
#: Iterations, and the fraction of pixels that followed the layout then.
Course = tuple[list[int], list[float]]


def sub_step_section(walk: WalkRecord, out: Path) -> Section | None:
    """Return the sub-steps that have finished, with the pictures they left.

    Args:
        walk: The walk.
        out: Folder of the report, for the figure.

    Returns:
        None where the journal has none.
    """
    rows: list[list[str]] = []
    pictures: list[Picture] = []
    courses: dict[str, Course] = {}
    for step, name, record in _finished(walk):
        folder = walk.work_dir / f'step_{step:02d}' / name
        follows = _follows(folder)
        rows.append(
            [
                f'step {step}',
                name,
                str(record.get('iterations', UNDEFINED)),
                str(record.get('seconds', UNDEFINED)),
                percent(follows),
            ]
        )
        if (folder / GRID).is_file():
            pictures.append(_grid(folder / GRID, f'Step {step}, {name}', follows))
        course = _course(folder)
        if course[0]:
            courses[f'step {step}, {name}'] = course
    if not rows:
        return None
    table = Table(
        'What was trained beside the steps',
        ['step', 'sub-step', 'iterations', 'seconds', 'pixels that follow the layout (%)'],
        rows,
        frozenset({1}),
    )
    if courses:
        pictures.insert(0, _chart(courses, out / 'generators.svg'))
    return Section('Sub-steps', [table, *pictures])


def _grid(path: Path, place: str, follows: float | None) -> Picture:
    """Return the picture that a generator left, with how well its images follow their layouts."""
    told = f'; {follows:.1%} of the pixels follow the layout' if follows is not None else ''
    return Picture(
        path,
        f'{place}: layouts, generated images and what the last segmentor says of them{told}.',
        f'Grid of pictures: label layouts, images generated for them, predictions{told}.',
    )


def _chart(courses: Mapping[str, Course], path: Path) -> Picture:
    """Draw how the generators came to follow their layouts."""
    with style.styled():
        style.save_figure(_figure(courses), path)
    ends = '; '.join(
        f'{name} from {values[0]:.0%} to {values[-1]:.0%}' for name, (_, values) in courses.items()
    )
    return Picture(
        path,
        'Generators: pixels that the segmentor takes for what the layout says, in training.',
        f'Line chart; {ends}.',
    )


def _finished(walk: WalkRecord) -> list[tuple[int, str, Mapping[str, Any]]]:
    found = []
    steps = walk.journal.get('steps')
    for record in steps if isinstance(steps, list) else []:
        listed = record.get('sub_steps') if isinstance(record, Mapping) else None
        for name, entry in (listed if isinstance(listed, Mapping) else {}).items():
            if (
                isinstance(entry, Mapping)
                and isinstance(record.get('step'), int)
                and is_plain_name(name)
            ):
                found.append((record['step'], str(name), entry))
    return found


def _follows(folder: Path) -> float | None:
    try:
        value = json.loads((folder / SUMMARY).read_text(encoding='utf-8'))[FOLLOWS]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return float(value) if isinstance(value, int | float) else None


def _course(folder: Path) -> Course:
    """Return iterations and logged fractions; after a resume the later log wins."""
    found: dict[int, float] = {}
    for path in sorted(folder.glob('*/vis_data/scalars.json')):
        for line in path.read_text(encoding='utf-8', errors='replace').splitlines():
            try:
                record = json.loads(line)
                found[int(record['iter'])] = float(record[FOLLOWS])
            except (ValueError, KeyError, TypeError):
                continue  # a line that a kill cut off
    iterations = sorted(found)
    return iterations, [found[iteration] for iteration in iterations]


def _figure(courses: Mapping[str, Course]) -> Figure:
    figure, axes = style.new_figure(8.0, 3.0)
    for name, (iterations, values) in courses.items():
        axes.plot(iterations, [100 * value for value in values], label=name, linewidth=1.4)
    axes.set_xlabel('training iterations')
    axes.set_ylabel('pixels that follow the layout (%)')
    axes.set_ylim(0, 100)
    axes.grid(axis='y', color=style.GRID, linewidth=0.8)
    axes.legend(frameon=False)
    return figure
