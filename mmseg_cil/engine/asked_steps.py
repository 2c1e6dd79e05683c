"""The steps that ``--steps`` asks for, and the check that each finds the step before it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mmseg_cil.engine.record.journal import Journal
from mmseg_cil.errors import InputError


def parse_steps(text: str | None, num_steps: int) -> list[int]:
    """Return the steps that ``--steps`` names: '3', '0-2', '0,2-4'; None means all.

    Raises:
        InputError: The text does not have this form, or names a step that the walk does not have.
    """
    if text is None:
        return list(range(num_steps))
    ranges = read_ranges(text)
    if max(last for _, last in ranges) >= num_steps:
        raise InputError(f'--steps {text}: this walk has the steps 0..{num_steps - 1}')
    return sorted({step for first, last in ranges for step in range(first, last + 1)})


def read_ranges(text: str) -> list[tuple[int, int]]:
    """Return the first and the last step of each part of ``--steps``.

    Raises:
        InputError: The text has another form.
    """
    ranges = []
    for part in str(text).split(','):
        found = re.fullmatch(r'([0-9]{1,9})(?:-([0-9]{1,9}))?', part.strip())
        if not found:
            raise InputError(f"--steps {text}: write '3', '0-2' or '0,2-4'")
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first:
            raise InputError(f'--steps {text}: {part.strip()} goes backwards; write {last}-{first}')
        ranges.append((first, last))
    return ranges


def check_order(steps: Sequence[int], taken: Sequence[int], journal: Journal | None) -> None:
    """Check that every step to walk finds the step before it.

    Args:
        steps: Steps to walk, in order.
        taken: Steps that are taken over from another run.
        journal: Journal of the walk, which says which steps are done already.

    Raises:
        InputError: The step before one of the steps is missing.
    """
    there = set(taken)
    for step in steps:
        before = step - 1
        if (
            step
            and before not in there
            and not (journal and journal.is_done(before))
            and not (journal and journal.is_done(step))
        ):
            raise InputError(
                f'step {step} starts from step {before}, which is not done: '
                'include it in --steps, or take it over with --start-from'
            )
        there.add(step)
