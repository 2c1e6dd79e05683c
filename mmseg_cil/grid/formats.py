"""The scores of a grid as rows of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmseg_cil.grid.tables import MEANS, Scores


def csv_rows(scores: Sequence[Scores]) -> list[list[Any]]:
    """Return the summaries as rows of numbers: one for each protocol, step and method."""
    header = ['protocol', 'step', 'last', 'method', 'seeds', 'cells', 'failed']
    header += [f'{part}_{kind}' for part in MEANS for kind in ('mean', 'std')]
    header += ['baseline', 'difference', 'difference_low', 'difference_high', 'pairs']
    rows: list[list[Any]] = [header]
    for score in scores:
        for entry in score.entries.values():
            row: list[Any] = [score.protocol, score.step, int(score.last), entry.name]
            row += [entry.seeds, entry.cells, len(entry.failures)]
            for part in MEANS:
                row += [_rounded(entry.parts[part].mean), _rounded(entry.parts[part].deviation)]
            found = entry.difference
            if found is None:
                row += [score.baseline, '', '', '', '']
            else:
                half = found.half_width
                ends = (None, None) if half is None else (found.mean - half, found.mean + half)
                row += [score.baseline, *map(_rounded, (found.mean, *ends)), found.count]
            rows.append(row)
    return rows


def _rounded(value: float | None) -> float | str:
    return '' if value is None else round(value, 4)
