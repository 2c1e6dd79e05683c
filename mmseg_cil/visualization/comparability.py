"""Checks that the numbers of several walks may stand side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from mmseg_cil.errors import InputError
from mmseg_cil.visualization.walk_record import WalkRecord


def check_comparable(walks: Sequence[WalkRecord], allow_mixed: bool) -> None:
    """Refuses walks whose numbers do not compare.

    Args:
        walks: To be compared with the first of them.
        allow_mixed: Whether they may be of other protocols or test images.

    Raises:
        InputError: There are less than two, one is given twice or has no step, or
            they do not compare and need not.
    """
    if len(walks) < 2:
        raise InputError('a comparison needs at least two work directories')
    for work_dir, count in Counter(walk.work_dir.resolve() for walk in walks).items():
        if count > 1:
            raise InputError(f'{work_dir} is given twice; name each walk once')
    for walk in walks:
        if not walk.entries:
            raise InputError(
                f'{walk.work_dir / "metrics.json"} holds no step; wait for its first step, or '
                f'leave it out'
            )
        differing = _differing(walks[0], walk)
        if differing and not allow_mixed:
            raise InputError(
                f'{walks[0].work_dir} and {walk.work_dir} differ in {", ".join(differing)}: their '
                f'numbers do not compare. Give walks over one protocol, or --allow-mixed if you '
                f'mean it'
            )


def _differing(first: WalkRecord, other: WalkRecord) -> list[str]:
    """Return the reasons why the numbers of two walks do not compare."""
    differing: list[str] = []
    prints = [_fingerprint(walk.journal) for walk in (first, other)]
    if all(prints):
        # One protocol can have two names (voc_11-5 is voc_10-5); the fingerprint knows.
        if prints[0] != prints[1]:
            differing.append(f'protocol ({first.protocol}, {other.protocol})')
            if first.protocol == other.protocol:
                differing = ['protocol (one name, but other classes, images or label rules)']
    elif first.protocol != other.protocol:
        differing.append(f'protocol ({first.protocol}, {other.protocol})')
    for key in ('old', 'background_in_means', 'absent', 'eps'):
        values = [walk.entries[0].get('settings', {}).get(key) for walk in (first, other)]
        if values[0] != values[1]:
            differing.append(f'{key} ({values[0]}, {values[1]})')
    others = _other_images(first, other, 'test')
    if others and not differing:
        differing.append(f'the test images or masks of {others}')
    return differing


def notes_on_images(walks: Sequence[WalkRecord], labels: Sequence[str]) -> list[str]:
    """Sentences about walks that were trained or tested on other images than the first.

    Args:
        walks: At least one.
        labels: Their names.
    """
    return [
        f'{label} was {what} on other images or masks than {labels[0]} at {others}.'
        for split, what in (('train', 'trained'), ('test', 'tested'))
        for walk, label in zip(walks, labels, strict=True)
        if (others := _other_images(walks[0], walk, split))
    ]


def _other_images(first: WalkRecord, other: WalkRecord, split: str) -> str:
    """Return the steps of both at which they have other images; empty where none is known to."""
    both = [(walk.journal.get('data') or {}).get(split) or [] for walk in (first, other)]
    steps = [
        step
        for step, (own, two) in enumerate(zip(*both, strict=False))
        if None not in (own, two) and own != two
    ]
    return f'step{"s" if len(steps) > 1 else ""} {", ".join(map(str, steps))}' if steps else ''


def _fingerprint(journal: Mapping[str, Any]) -> str | None:
    protocol = journal.get('protocol')
    return protocol.get('fingerprint') if isinstance(protocol, Mapping) else None
