"""The line that a walk prints at the end of each step."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

_PARTS = ('all', 'old', 'new')


def step_line(
    step: int,
    metrics: Mapping[str, Any],
    records: Sequence[Mapping[str, Any]],
    iterations: Sequence[int],
) -> str:
    """Return scores and the time left, as one line.

    Forgetting is the fall of the IoU of a class (or domain) from its best earlier value, BWT its
    change since it was learnt; both are means over all that was learnt before this step.

    Args:
        step: The step that is done.
        metrics: The content of ``metrics.json``, with this step.
        records: The steps' records of the journal, with their seconds.
        iterations: Iterations of every step of the walk.

    Example:
        >>> entry = {'step': 1, 'mIoU': {'all': 0.4, 'old': 0.5, 'new': 0.2}}
        >>> step_line(1, {'steps': [entry], 'continual': {'forgetting': 0.12}}, [], [10, 10])
        'step 1 of 0..1 done: mIoU all 40.0 %, old 50.0 %, new 20.0 %; forgetting 12.0 points'
    """
    entry = next(entry for entry in metrics['steps'] if entry['step'] == step)
    means = entry.get('mIoU') or {}
    told = [f'{part} {100 * means[part]:.1f} %' for part in _PARTS if means.get(part) is not None]
    line = f'step {step} of 0..{len(iterations) - 1} done: '
    line += f'mIoU {", ".join(told)}' if told else 'not scored'
    for name in ('forgetting', 'BWT'):
        value = metrics['continual'].get(name)
        if value is not None:
            line += f'; {name} {100 * value:.1f} points'
    left = seconds_left(step, records, iterations)
    if left is not None:
        line += f'; about {datetime.timedelta(seconds=round(left))} left'
    return line


def seconds_left(
    step: int, records: Sequence[Mapping[str, Any]], iterations: Sequence[int]
) -> float | None:
    """Return how long the later steps will take at the pace of the last one that trained.

    Args:
        step: The step that is done.
        records: As :func:`step_line`.
        iterations: As :func:`step_line`.

    Returns:
        Seconds; None where no step is left, or none has been timed.
    """
    later = iterations[step + 1 :]
    timed = [
        record
        for record in records
        if record.get('train_seconds') and record.get('iterations') and record['step'] <= step
    ]
    if not later or not timed:
        return None
    last = timed[-1]
    tests = [record['evaluate_seconds'] for record in records if record.get('evaluate_seconds')]
    pace = float(last['train_seconds']) / int(last['iterations'])
    return sum(later) * pace + len(later) * (float(tests[-1]) if tests else 0.0)
