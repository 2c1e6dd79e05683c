"""Reports of a walk, or of several side by side: one page, and figures and tables as files."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmseg_cil.utils.atomic import write_text
from mmseg_cil.visualization import comparison_figures, figures, tables
from mmseg_cil.visualization.comparability import check_comparable, notes_on_images
from mmseg_cil.visualization.drawing import draw, draw_grid
from mmseg_cil.visualization.grid import comparison_grid, prediction_grid
from mmseg_cil.visualization.page import Details, Picture, Section, html_page
from mmseg_cil.visualization.provenance import provenance_section
from mmseg_cil.visualization.published import published_lines, published_table
from mmseg_cil.visualization.samples import order_by_difference, read_samples
from mmseg_cil.visualization.seeds import SeedGroup, seed_groups, seed_table
from mmseg_cil.visualization.style import remove_figure, styled
from mmseg_cil.visualization.sub_steps import sub_step_section
from mmseg_cil.visualization.sweep import Sweep, read_sweep
from mmseg_cil.visualization.table_formats import write_table_files
from mmseg_cil.visualization.tables import Table, percent
from mmseg_cil.visualization.walk_record import WalkRecord, read_walk

PathLike = str | os.PathLike[str]
FOLDER = 'report'
PAGE = 'index.html'
COMPARISON_PAGE = 'comparison.html'
#: Definitions of the measures of a whole walk, in a sentence each.
DEFINITIONS = (
    'forgetting: mean over what was learned before the last step of its best earlier value minus '
    'the last; BWT: last value minus the value when learned. By class these are IoUs, by domain '
    'mIoUs on the images of the domain.'
)
FOOTER = (
    'IoU and mIoU in percent; a dash is an undefined value. old: what earlier steps brought; '
    'new: what the last step brought; hIoU: the harmonic mean of old and new; base: step 0; '
    f'later: all but step 0. {DEFINITIONS}'
)


def load_walk(work_dir: PathLike) -> dict[str, Any]:
    """Return the checked content of ``metrics.json``.

    Args:
        work_dir: The folder of a walk.

    Returns:
        See :func:`mmseg_cil.evaluation.walk_metrics.assemble_metrics`.

    Raises:
        InputError: The folder or the file is missing or damaged.
    """
    return dict(read_walk(work_dir).metrics)


def render_report(
    work_dir: PathLike, out: PathLike | None = None, echo: Callable[[str], object] = print
) -> Path:
    """Render one walk, finished or not.

    Args:
        work_dir: The folder of the walk.
        out: Where to write; None: ``WORK_DIR/report``.
        echo: Takes the tables as text.

    Returns:
        Path of the page, which holds all pictures in itself.

    Raises:
        InputError: ``metrics.json`` is missing or damaged.
        OSError: Writing failed.
    """
    walk = read_walk(work_dir)
    out = Path(out) if out is not None else walk.work_dir / FOLDER
    notes = list(walk.missing)
    sections = _walk_sections(walk, out, notes) if walk.entries else []
    if not walk.entries:
        notes.append('metrics.json holds no step, so there is nothing to show yet.')
    lead = f'{len(walk.entries)} steps evaluated, from {walk.work_dir.name}'
    if sections:
        sections.append(provenance_section([walk], [walk.method]))
    write_table_files(_tables(sections), out)
    write_text(out / PAGE, html_page(walk.title, lead, sections, notes, FOOTER))
    echo(f'{walk.title}\n')
    if walk.entries:
        echo(tables.step_table(walk, what=tables.background_note(walk)).to_text() + '\n')
        echo(f'{tables.continual_table(walk).to_text()}\n{DEFINITIONS}\n')
        snapshots = tables.snapshot_table(walk)
        if snapshots:
            echo(snapshots.to_text() + '\n')
    for note in notes:
        echo(f'note: {note}')
    return out / PAGE


def render_comparison(
    work_dirs: Sequence[PathLike],
    out: PathLike | None = None,
    allow_mixed: bool = False,
    vary: str | None = None,
    echo: Callable[[str], object] = print,
) -> Path:
    """Render several walks side by side.

    Args:
        work_dirs: The folders of at least two walks; differences are to the first.
        out: Where to write; None: ``report`` in the first folder.
        allow_mixed: Whether to compare walks over different protocols.
        vary: Dotted name of a number of the configs, such as
            ``'method.regularisers.0.loss_weight'``: adds table and curve of the
            results by its value.
        echo: Takes the tables as text.

    Returns:
        Path of the page, which holds all pictures in itself.

    Raises:
        InputError: A walk cannot be read or has no step; one is given twice;
            the protocols differ and ``allow_mixed`` is not set; ``vary`` names
            nothing that can be an axis.
        OSError: Writing failed.
    """
    walks = [read_walk(work_dir) for work_dir in work_dirs]
    check_comparable(walks, allow_mixed)
    out = Path(out) if out is not None else walks[0].work_dir / FOLDER
    labels = _labels(walks)
    mixed = len({walk.protocol for walk in walks}) > 1
    title = 'several protocols' if mixed else walks[0].protocol
    notes = [
        f'{label}: {note}' for w, label in zip(walks, labels, strict=True) for note in w.missing
    ]
    if mixed:
        told = (f'{label}: {w.protocol}' for w, label in zip(walks, labels, strict=True))
        notes.append(f'The protocols differ, so the numbers do not compare: {"; ".join(told)}.')
    else:
        notes += notes_on_images(walks, labels)
    if len({len(walk.entries) for walk in walks}) > 1:
        notes.append('The walks have different numbers of steps; each is taken at its own last.')
    main = tables.comparison_table(walks, labels)
    sweep = read_sweep(walks, labels, vary, notes) if vary else None
    groups = seed_groups(walks, labels)
    sections = _comparison_sections(groups, walks, labels, title, out, notes, main)
    sections.insert(1, Section('Sweep', _sweep(sweep, out)))
    sections.append(provenance_section(walks, labels))
    write_table_files(_tables(sections), out)
    heading = f'{title}: {" / ".join(group.label for group in groups)}'
    page = html_page(heading, f'{len(walks)} walks compared', sections, notes, FOOTER)
    write_text(out / COMPARISON_PAGE, page)
    echo(f'{heading}\n\n{main.to_text()}\n')
    published = published_table(walks)
    if published:
        echo(f'{published.to_text()}\n')
    if sweep:
        echo(f'{tables.sweep_table(sweep).to_text()}\n')
    for note in notes:
        echo(f'note: {note}')
    return out / COMPARISON_PAGE


def _walk_sections(walk: WalkRecord, out: Path, notes: list[str]) -> list[Section]:
    with styled():
        curve, classes = _curve(walk, out), _class_map(walk, out)
        groups, loss = _group_map(walk, out, notes), _loss(walk, out)
    grid = draw_grid(
        lambda: prediction_grid(walk, read_samples(walk.work_dir)),
        out / 'predictions.png',
        'Image, truth and the prediction after each step.',
        'Grid of pictures: for each sample the image, the true classes and the predicted classes '
        'after each step.',
        notes,
    )
    main = tables.step_table(walk, what=tables.background_note(walk))
    other = tables.other_reading(walk)
    results: list[Table | Picture | Details] = [main, tables.continual_table(walk), *curve]
    results += [*([other] if other else []), *tables.further_tables(walk)]
    apart = (tables.data_set_table(walk), tables.snapshot_table(walk))
    results += [table for table in apart if table]
    steps: list[Table | Picture | Details] = [*groups]
    steps += [tables.brings_table(walk)] if walk.introduced else []
    beside = sub_step_section(walk, out)
    return [
        Section('Results', results),
        Section('Predictions', grid),
        Section('Steps', steps),
        Section('Classes', [tables.class_table(walk), *classes]),
        Section('Confusion', _confusion(walk, out)),
        Section('Training', loss),
        *([beside] if beside else []),
    ]


def _curve(walk: WalkRecord, out: Path) -> list[Picture]:
    last = walk.entries[-1]
    means = ', '.join(f'{part} {percent(last["mIoU"].get(part))} %' for part in ('all', 'old'))
    return draw(
        figures.curve_figure(walk),
        out / 'curve.svg',
        'mIoU of all, old and new over the steps.',
        f'Line chart of the mIoU of all, old and new over {len(walk.steps)} steps; after step '
        f'{last["step"]}: {means}.',
    )


def _class_map(walk: WalkRecord, out: Path) -> list[Picture]:
    return draw(
        figures.class_figure(walk),
        out / 'classes.svg',
        "IoU of every class after each step; grey: not seen yet; a white line: the next step's.",
        f'Heat map of {len(walk.seen)} classes by {len(walk.steps)} steps; the table of classes '
        f'holds its numbers.',
    )


def _group_map(walk: WalkRecord, out: Path, notes: list[str]) -> list[Picture]:
    known = any(entry.get('groups') for entry in walk.entries)
    if not known:
        notes.append('metrics.json has no "groups", so their matrix is left out.')
    return draw(
        figures.group_figure(walk) if known else None,
        out / 'groups.svg',
        'mIoU of what each step brought (columns) after each step (rows).',
        'Heat map of the mIoU of what each step brought after each step; down a column one sees '
        'it being forgotten.',
    )


def _loss(walk: WalkRecord, out: Path) -> list[Picture]:
    course = '; '.join(
        f'step {losses.step} from {losses.values[0]:.3g} to {losses.values[-1]:.3g}'
        for losses in walk.losses
    )
    return draw(
        figures.loss_figure(walk) if walk.losses else None,
        out / 'loss.svg',
        'Training loss of the steps, one after another.',
        f'Line chart of the training loss of {len(walk.losses)} steps; {course}.',
    )


def _comparison_sections(
    groups: Sequence[SeedGroup],
    walks: Sequence[WalkRecord],
    labels: Sequence[str],
    title: str,
    out: Path,
    notes: list[str],
    main: Table,
) -> list[Section]:
    final = '; '.join(
        f'{label}: all {percent(walk.entries[-1]["mIoU"].get("all"))} %, '
        f'old {percent(walk.entries[-1]["mIoU"].get("old"))} %'
        for walk, label in zip(walks, labels, strict=True)
    )
    with styled():
        curves = draw(
            comparison_figures.comparison_curves(groups),
            out / 'comparison_curves.svg',
            _curves_caption(walks, groups),
            f'Line chart of the mIoU of all and old over the steps. After the last step {final}.',
            [group.label for group in groups],
        )
        classes = draw(
            comparison_figures.class_curves(groups),
            out / 'comparison_class_curves.svg',
            'IoU of every class over the steps.',
            'Line charts of the IoU of every class over the steps, a panel a class.',
            [group.label for group in groups],
            wide=True,
        )
        bars = draw(
            comparison_figures.difference_figure(walks, labels),
            out / 'comparison_classes.svg',
            f'IoU after the last step minus that of {labels[0]}, class by class.',
            f'Bar chart of the difference in IoU to {labels[0]} of every class; the table of '
            f'classes holds its numbers.',
        )
    grid: list[Picture] = []
    if len({tuple(walk.class_names) for walk in walks}) == 1:
        grid = draw_grid(
            lambda: comparison_grid(walks, labels, _shared_samples(walks), title),
            out / 'comparison_predictions.png',
            'Image, truth and the predictions after the last step; where they differ most, first.',
            'Grid of pictures: for each sample the image, the true classes and what each walk '
            'predicts after its last step.', notes,
        )  # fmt: skip
    published, seeds = published_table(walks), seed_table(groups)
    over_steps = [tables.mean_over_steps_table(walks, labels, part) for part in ('all', 'old')]
    return [
        Section('Results', [*filter(None, (seeds, main, published)), *curves, *over_steps]),
        Section('Predictions', grid),
        Section('Classes', [tables.difference_table(walks, labels), *bars, *classes]),
    ]


def _sweep(sweep: Sweep | None, out: Path) -> list[Table | Picture | Details]:
    path = out / 'comparison_sweep.svg'
    if sweep is None:
        remove_figure(path)
        return []
    with styled():
        picture = draw(
            comparison_figures.sweep_figure(sweep),
            path,
            f'mIoU and forgetting by the value of {sweep.key}; a level line is a run without it.',
            f'Line charts of mIoU and forgetting after step {sweep.step} for {sweep.key} at '
            f'{", ".join(f"{value:g}" for value in sweep.values)}; the table above holds the '
            f'numbers.',
        )
    return [tables.sweep_table(sweep), *picture]


def _curves_caption(walks: Sequence[WalkRecord], groups: Sequence[SeedGroup]) -> str:
    caption = 'mIoU of all (solid) and old (dashed) over the steps'
    if any(len(group.walks) > 1 for group in groups):
        caption += '; means over the seeds, bands of one standard deviation'
    if any(map(published_lines, walks)):
        caption += '; dotted: published, not run here'
    return f'{caption}.'


def _confusion(walk: WalkRecord, out: Path) -> list[Table | Picture | Details]:
    """Draw the confusion after the last step, and by domain the IoU of classes on each."""
    table = tables.confusion_table(walk)
    found = walk.confusion(walk.steps[-1])
    several = found is not None and len(found[1]) > 1
    with styled():
        matrix = draw(
            figures.confusion_figure(found[0], found[1].sum(axis=0)) if found else None,
            out / 'confusion.svg',
            "Share of each class's pixels by what they are predicted as, after the last step.",
            'Heat map of true classes by predicted classes after the last step.',
        )
        by_domain = draw(
            figures.domain_figure(*found) if found and several else None,
            out / 'domains.svg',
            "IoU of every class on the images of each step's domains, after the last step.",
            'Heat map of classes by the domains of each step, after the last step.',
        )
    return [*([table] if table else []), *by_domain, *matrix]


def _tables(sections: Sequence[Section]) -> list[Table]:
    return [item for section in sections for item in section.content if isinstance(item, Table)]


def _labels(walks: Sequence[WalkRecord]) -> list[str]:
    """Return the methods' names; where two agree, with the folder's, then with its path."""
    names = [walk.method for walk in walks]
    folders = [walk.work_dir.resolve() for walk in walks]
    for form in (lambda path: path.name, lambda path: str(path)):
        counts = Counter(names)
        names = [
            f'{walk.method} ({form(path)})' if counts[name] > 1 else name
            for name, walk, path in zip(names, walks, folders, strict=True)
        ]
    return names


def _shared_samples(walks: Sequence[WalkRecord]) -> list[Any]:
    named = [{sample.name: sample for sample in read_samples(walk.work_dir)} for walk in walks]
    shared = [
        sample for name, sample in named[0].items() if all(name in other for other in named[1:])
    ]
    folders = [walk.work_dir / f'step_{walk.steps[-1]:02d}' for walk in walks]
    return order_by_difference(shared, folders)
