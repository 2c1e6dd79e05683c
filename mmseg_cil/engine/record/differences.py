"""How a walk that goes on differs from the one that its journal records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mmseg_cil.engine.journal import Journal
from mmseg_cil.engine.record.earlier import IMAGES, has_same_beginning
from mmseg_cil.errors import InputError

if TYPE_CHECKING:
    from mmseg_cil.engine.walk import Walk


def details(walk: Walk, journal: Journal) -> dict[str, str]:
    """More about some of the fingerprints that may differ, by their names."""
    result = {}
    recorded = (journal.content.get('data') or {}).get('train')
    counts = (journal.content.get('images') or {}).get('train') or []
    others = _differing(recorded, walk.prints.train) if recorded else \
        _differing(counts, walk.train_images)
    if others:
        how = 'other images or masks, or in another order' if recorded else 'another number of them'
        result[IMAGES] = f'of {listed(others)}: {how}'
    steps = len(journal.content['protocol'].get('steps') or ())
    common = min(steps, walk.num_steps)
    if steps != walk.num_steps and has_same_beginning(
            walk, journal.content['protocol'], common - 1):
        change = 'further ones come' if steps < walk.num_steps else 'later ones are missing'
        result['protocol'] = f'{listed(range(common))} the same, {change}'
    return result


def _differing(before: Sequence[object], now: Sequence[object]) -> list[int]:
    return [step for step, pair in enumerate(zip(before, now, strict=False)) if pair[0] != pair[1]]


def check_trained_classes(walk: Walk, journal: Journal) -> None:
    """Makes sure that the steps that are trained know the classes that this config gives them.

    Raises:
        InputError: They know others, which no acceptance of changes makes up for.
    """
    steps = journal.content['protocol'].get('steps') or []
    for record in journal.content['steps']:
        step = record['step']
        if record['status'] == 'begun':
            continue
        if step >= walk.num_steps:
            raise InputError(
                f'{journal.path} records step {step}, and the protocol {walk.protocol.name} of '
                f'this config has the steps 0..{walk.num_steps - 1} only: use the former config, '
                f'or begin in another --work-dir with --start-from {journal.path.parent}:'
                f'{walk.num_steps - 1}')
        now = walk.seen_names(step)
        before = [*steps[step]['old'], *steps[step]['new']] if step < len(steps) else now
        if before != now:
            raise InputError(
                f'step {step} in {journal.path.parent} is trained on the classes '
                f'{", ".join(before)}, and this config gives it {", ".join(now)}: use the former '
                'config, or another --work-dir')


def listed(steps: Sequence[int]) -> str:
    """'step 1', or 'steps 0, 1, 2'."""
    return f'step{"s" if len(steps) > 1 else ""} {", ".join(map(str, steps))}'
