"""Walks that differ by their seed alone are one row, one curve and one band of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmseg_cil.visualization.figures import FloatArray, to_percent
from mmseg_cil.visualization.tables import CONTINUAL, UNDEFINED, Table
from mmseg_cil.visualization.walk_record import WalkRecord, shown_parts


@dataclass(frozen=True)
class SeedGroup:
    """A walk, or several that differ by their seed alone.

    Attributes:
        label: Its name in the comparison.
        walks: The walks, in the order in which they were given.
    """

    label: str
    walks: tuple[WalkRecord, ...]

    @property
    def steps(self) -> list[int]:
        """The steps that all walks have."""
        shared = set(self.walks[0].steps).intersection(*(walk.steps for walk in self.walks[1:]))
        return sorted(shared)

    def scores(self, part: str) -> FloatArray:
        """Return the mIoU of a part after each shared step, in per cent.

        Args:
            part: ``'all'``, ``'old'``, ...

        Returns:
            (walks, steps); NaN where undefined.
        """
        return self._at_shared_steps([walk.miou(part) for walk in self.walks])

    def class_means(self, name: str) -> FloatArray:
        """Return the IoU of a class after each shared step, a mean over the walks, in per cent.

        Args:
            name: Name of the class.

        Returns:
            (steps,); NaN where a walk has none.
        """
        values = self._at_shared_steps([walk.iou(name) for walk in self.walks])
        means: FloatArray = values.mean(axis=0)
        return means

    def _at_shared_steps(self, values: Sequence[Sequence[float | None]]) -> FloatArray:
        """Return fractions after each step of each walk as percentages (walks, shared steps)."""
        by_step = [
            dict(zip(walk.steps, own, strict=True))
            for walk, own in zip(self.walks, values, strict=True)
        ]
        return np.array([to_percent([own[step] for step in self.steps]) for own in by_step])


def seed_groups(walks: Sequence[WalkRecord], labels: Sequence[str]) -> list[SeedGroup]:
    """Return the walks in groups of those that differ by their seed alone.

    Args:
        walks: The walks of a comparison.
        labels: The name of each.

    Returns:
        The groups in the order of their first walks. A group of several is called by its method,
        and by the folder of its first walk where two groups have one method.
    """
    groups: dict[Any, list[int]] = {}
    for place, walk in enumerate(walks):
        key = _settings(walk)
        groups.setdefault(place if key is None else key, []).append(place)
    several = [walks[places[0]].method for places in groups.values() if len(places) > 1]
    result = []
    for places in groups.values():
        label = labels[places[0]]
        if len(places) > 1:
            method = walks[places[0]].method
            label = method if several.count(method) == 1 else label
            label = f'{label}, {len(places)} seeds'
        result.append(SeedGroup(label, tuple(walks[place] for place in places)))
    return result


def _settings(walk: WalkRecord) -> tuple[Any, ...] | None:
    """Return all that a result depends on but the seed; None where the journal does not tell."""
    prints = walk.journal.get('fingerprints')
    if not isinstance(prints, Mapping) or 'seed' not in prints:
        return None
    kept = sorted((key, str(value)) for key, value in prints.items() if key != 'seed')
    return (walk.method, walk.protocol, len(walk.steps), tuple(kept))


def seed_table(groups: Sequence[SeedGroup]) -> Table | None:
    """Return means and deviations over the seeds; None where no group has several walks.

    Args:
        groups: From :func:`seed_groups`.
    """
    if all(len(group.walks) == 1 for group in groups):
        return None
    rows = []
    shown = shown_parts(walk.entries[-1]['mIoU'] for group in groups for walk in group.walks)
    for group in groups:
        parts = [[walk.miou(part)[-1] for walk in group.walks] for part in shown]
        whole = [walk.metrics.get('continual', {}) for walk in group.walks]
        parts += [[found.get(name) for found in whole] for name in CONTINUAL]
        cells = [_spread(values) for values in parts]
        rows.append([group.label, str(len(group.walks)), *cells])
    header = ['method', 'seeds', *shown, *CONTINUAL.values()]
    caption = 'Mean ± standard deviation over the seeds, after the last step (%)'
    return Table(caption, header, rows, name='seeds')


def _spread(values: Sequence[float | None]) -> str:
    found = [100 * value for value in values if value is not None]
    if not found:
        return UNDEFINED
    if len(found) == 1:
        return f'{found[0]:.2f}'
    return f'{np.mean(found):.2f} ± {np.std(found, ddof=1):.2f}'
