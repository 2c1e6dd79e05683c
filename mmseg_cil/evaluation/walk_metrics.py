"""The ``metrics.json`` and ``metrics.csv`` of a walk, made of the entries of its steps."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmseg_cil.errors import InputError
from mmseg_cil.evaluation.continual import (
    average_miou,
    backward_transfer,
    forgetting,
    intransigence,
)
from mmseg_cil.evaluation.further_scores import FURTHER_NAMES
from mmseg_cil.evaluation.step_scores import none_if_nan
from mmseg_cil.utils.atomic import write_csv, write_json
from mmseg_cil.utils.harmonic import HARMONIC, entry_with_harmonic

PARTS = ('all', 'old', 'new', 'base', 'later')


def score_matrix(
    entries: Sequence[Mapping[str, Any]], kind: str
) -> tuple[list[str], npt.NDArray[np.float64], list[int]]:
    """Return the step-by-class (or step-by-domain) matrix of a walk.

    Args:
        entries: Step entries, by rising step.
        kind: ``'class'``: a column is a class, a value its IoU. ``'domain'``: a
            column is the domains of one step, a value the mIoU on them.

    Returns:
        The names of the N columns; float64 (K, N) with NaN where a column was
        not seen yet or is undefined; and for each column the row of the step
        that introduced it, -1 where that step is not among the entries.
    """
    row_of = {entry['step']: row for row, entry in enumerate(entries)}
    introduced = entries[-1]['introduced'] if entries else []
    learned = [row_of.get(step, -1) for step in range(len(introduced))]
    if kind == 'domain':
        columns = [', '.join(group) for group in introduced]
        rows = [[_nan(v) for v in entry['groups']] for entry in entries]
        rows = [row + [np.nan] * (len(columns) - len(row)) for row in rows]
    else:
        columns = [name for group in introduced for name in group]
        learned = [learned[j] for j, group in enumerate(introduced) for _ in group]
        rows = [[_nan(entry['IoU'].get(name)) for name in columns] for entry in entries]
    return columns, np.array(rows, dtype=np.float64).reshape(len(rows), len(columns)), learned


def continual_metrics(
    entries: Sequence[Mapping[str, Any]],
    kind: str,
    reference: Mapping[str, float | None] | None = None,
) -> dict[str, float | None]:
    """Return average mIoU, forgetting and backward transfer of the steps so far.

    Forgetting and BWT are means over the classes learned before the last step
    (in a walk over domains: over the domains of each earlier step). The background
    is one of these classes where ``background_in_means`` says so. See
    :mod:`mmseg_cil.evaluation.continual` for the definitions.

    A step that had nothing to train counts like any other. An example is step 0 of
    ``voc_1-1``, which predicts background everywhere: the unseen classes are
    background at this step, so its mIoU is 1. The step raises the average of the 21
    steps, and the best score from which the background's forgetting is measured.
    (This is a choice: leaving the step out would make the average depend on what was
    trained. An average without the step is the mean of the other entries; the journal
    marks such steps with ``trained: false``.)

    Args:
        entries: Step entries, by rising step.
        kind: ``'class'`` or ``'domain'``.
        reference: IoU by class name (or mIoU by domains) of a joint model; adds
            ``intransigence``.

    Returns:
        Fractions; None where undefined, such as forgetting after one step.
    """
    columns, matrix, learned = score_matrix(entries, kind)
    settings = entries[-1]['settings'] if entries else {}
    if kind == 'class' and not settings.get('background_in_means', True):
        kept = [j for j, name in enumerate(columns) if name != settings.get('background')]
        columns, matrix = [columns[j] for j in kept], matrix[:, kept]
        learned = [learned[j] for j in kept]
    values = {
        'average_mIoU': average_miou([_nan(entry['mIoU']['all']) for entry in entries]),
        'forgetting': forgetting(matrix, learned),
        'BWT': backward_transfer(matrix, learned),
    }
    if reference is not None:
        joint = [_nan(reference.get(name)) for name in columns]
        values['intransigence'] = intransigence(matrix, learned, joint)
    return {name: none_if_nan(value) for name, value in values.items()}


def assemble_metrics(
    entries: Sequence[Mapping[str, Any]],
    *,
    protocol: str,
    method: str,
    setting: str,
    kind: str,
    palette: Mapping[str, Sequence[int]] | None = None,
    reference: Mapping[str, float | None] | None = None,
) -> dict[str, Any]:
    """Return the content of ``metrics.json``.

    Args:
        entries: Entries of the steps finished so far
            (:attr:`~mmseg_cil.evaluation.IncrementalIoUMetric.result`), any order.
        protocol: Name of the protocol, such as ``'voc_15-1'``.
        method: Name of the method.
        setting: ``'overlapped'``, ``'disjoint'`` or ``'sequential'``.
        kind: ``'class'`` or ``'domain'``.
        palette: Colour (red, green, blue; 0..255) by class name, *in the order
            of the protocol's class ids*, future classes included.
        reference: See :func:`continual_metrics`.

    Returns:
        A dict that JSON can hold: fractions in [0, 1], None where undefined.

    Raises:
        InputError: Two entries are of the same step, or ``kind`` is unknown.
    """
    if kind not in ('class', 'domain'):
        raise InputError(f"kind is {kind!r}; a walk is over 'class' or 'domain'")
    entries = sorted(entries, key=lambda entry: entry['step'])
    steps = [entry['step'] for entry in entries]
    if len(set(steps)) < len(steps):
        raise InputError(f'the steps {steps} hold one twice; pass one entry a step')
    return {
        'protocol': protocol,
        'method': method,
        'setting': setting,
        'kind': kind,
        'palette': {name: [int(v) for v in rgb] for name, rgb in (palette or {}).items()},
        'steps': [entry_with_harmonic(entry) for entry in entries],
        'continual': continual_metrics(entries, kind, reference),
    }


def metrics_rows(metrics: Mapping[str, Any]) -> list[list[Any]]:
    """Return the rows of ``metrics.csv``: a header, then one row a step.

    Args:
        metrics: The content of ``metrics.json``, from :func:`assemble_metrics`.

    Returns:
        Rows of step, images, the five mIoU, the five mIoU with and without background, hIoU in
        these three readings, the groups, the IoU of every class, and the means of further scores
        where a step has them. Scores are fractions, empty where undefined.
    """
    entries = metrics['steps']
    names = list(dict.fromkeys(name for entry in entries for name in entry['seen']))
    groups = max((len(entry['groups']) for entry in entries), default=0)
    kinds = ('mIoU', 'mIoU_with_background', 'mIoU_without_background')
    header = ['step', 'images', *(f'{kind}_{part}' for kind in kinds for part in PARTS)]
    header += [kind.replace('mIoU', HARMONIC) for kind in kinds]
    header += [f'mIoU_of_step_{j}' for j in range(groups)] + [f'IoU {name}' for name in names]
    further = [name for name in FURTHER_NAMES if any(name in entry for entry in entries)]
    header += [f'm{kind}_{part}' for kind in further for part in PARTS]
    rows: list[list[Any]] = [header]
    for entry in entries:
        row = [entry['step'], entry['images']]
        row += [entry[kind][part] for kind in kinds for part in PARTS]
        row += [entry[kind].get(HARMONIC) for kind in kinds]
        row += entry['groups'] + [None] * (groups - len(entry['groups']))
        row += [entry['IoU'].get(name) for name in names]
        row += [entry.get(f'm{kind}', {}).get(part) for kind in further for part in PARTS]
        rows.append(['' if value is None else value for value in row])
    return rows


def write_metrics(work_dir: str | os.PathLike[str], metrics: Mapping[str, Any]) -> None:
    """Write ``metrics.json`` and ``metrics.csv``, each replaced atomically.

    Args:
        work_dir: The folder of the walk.
        metrics: The content of ``metrics.json``, from :func:`assemble_metrics`.

    Raises:
        OSError: Writing failed; the former files are whole.
    """
    write_json(Path(work_dir, 'metrics.json'), metrics)
    write_csv(Path(work_dir, 'metrics.csv'), metrics_rows(metrics))


def _nan(value: float | None) -> float:
    return float('nan') if value is None else float(value)
