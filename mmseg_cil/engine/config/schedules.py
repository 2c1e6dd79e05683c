"""Parameter schedules (learning rate, momentum) fitted to the length of a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any

from mmseg_cil.errors import InputError

#: MMEngine's ``end`` of a schedule that sets none.
NO_END = int(1e9)
#: Key that marks a schedule that has become too short, until :func:`without_short` reads it.
_MARK = 'too_short'


def schedule_groups(value: Any) -> list[list[dict]]:
    """Return the schedules of a config's ``param_scheduler``, one list for each optimizer.

    Args:
        value: A list, one schedule alone, None, or (with several optimizers)
            any of these by the optimizer's name.

    Raises:
        InputError: The value is something else, or a schedule counts epochs.
    """
    if value is None:
        return []
    if isinstance(value, Mapping) and 'type' not in value:
        return [group for entry in value.values() for group in schedule_groups(entry)]
    group = [value] if isinstance(value, dict) else value
    if not isinstance(group, Sequence) or not all(isinstance(schedule, dict) for schedule in group):
        raise InputError(f'param_scheduler must be a list of schedules, not {value!r}')
    for schedule in group:
        if schedule.get('by_epoch', True):
            raise InputError(
                f'param_scheduler {schedule.get("type")} counts epochs: set '
                'by_epoch=False, a walk is trained by iterations'
            )
    return [list(group)]


def stretch_schedules(schedules: Sequence[dict], before: int, after: int) -> None:
    """Fit MMEngine's parameter schedules to another number of iterations, in place.

    Iteration t of a schedule becomes iteration ``round(t * after / before)``, so
    a schedule that ended where the next began still does; lengths within a schedule
    (``T_max``, ``total_steps``, ``periods``, ``milestones``) follow. A ``StepLR``
    becomes a ``MultiStepLR``, whose milestones can be rounded one by one, and an
    exponential decay reaches the same value at its end.

    A schedule that shrinks below two iterations is marked for
    :func:`without_short`: MMEngine sets the first value of a ``LinearLR`` or
    ``ConstantLR`` at its first iteration and takes it back at its last, so a schedule
    of one iteration would leave the rate low for the whole step. The schedule that
    followed begins where the marked one would have begun.

    Args:
        schedules: A group of :func:`schedule_groups`.
        before: Iterations that the schedules were written for, above 0.
        after: Iterations of the step.
    """
    if after in (0, before):
        return
    ratio = after / before
    moved: dict[int, int] = {}
    for schedule in sorted(schedules, key=lambda schedule: schedule.get('begin', 0)):
        first, last = schedule.get('begin', 0), schedule.get('end', NO_END)
        begin = moved.get(first, round(first * ratio))
        _list_decays(schedule, min(last, before) - first)
        if 'begin' in schedule:
            schedule['begin'] = begin
        if 0 < last < NO_END:
            schedule['end'] = round(last * ratio)
            if _is_short(schedule):
                schedule[_MARK] = True
                moved[last] = begin
        _stretch_inside(schedule, first, begin, ratio)


def without_short(value: Any) -> Any:
    """Return a ``param_scheduler`` without the marked schedules that are still too short."""
    if isinstance(value, Mapping):
        if 'type' not in value:
            return {name: without_short(entry) for name, entry in value.items()}
        value = [value]
    if value is None:
        return None
    kept = [entry for entry in value if not (entry.get(_MARK) and _is_short(entry))]
    return [{key: part for key, part in entry.items() if key != _MARK} for entry in kept]


def _is_short(schedule: Mapping[str, Any]) -> bool:
    length: int = schedule.get('end', NO_END) - schedule.get('begin', 0)
    return length < 2


def _name(schedule: Mapping[str, Any]) -> str:
    """Return the type without its scope, or an empty text where the type is a class."""
    kind = schedule.get('type')
    return kind.rpartition('.')[2] if isinstance(kind, str) else ''


def _list_decays(schedule: dict, length: int) -> None:
    """Replace the regular decays of a ``StepLR`` by milestones below ``length``, in place."""
    if _name(schedule).startswith('Step') and schedule.get('step_size'):
        size = schedule.pop('step_size')
        schedule['milestones'] = list(range(size, length, size))
        schedule['type'] = schedule['type'].replace('Step', 'MultiStep')


def _stretch_inside(schedule: dict, first: int, begin: int, ratio: float) -> None:
    """Stretch the lengths within a schedule, whose beginning moved from ``first`` to ``begin``."""

    def at(length: float) -> int:
        return max(0, round((first + length) * ratio) - begin)

    for key in ('T_max', 'total_steps', 'total_iters'):
        if schedule.get(key):
            schedule[key] = max(1, at(schedule[key]))
    if 'milestones' in schedule:
        schedule['milestones'] = [at(value) for value in schedule['milestones']]
    if 'periods' in schedule:
        # The ends are rounded, so that the sum is right; a period that vanishes becomes 0.
        ends = [0, *map(at, accumulate(schedule['periods']))]
        schedule['periods'] = [end - start for start, end in pairwise(ends)]
    if _name(schedule).startswith('Exponential'):
        schedule['gamma'] = schedule['gamma'] ** (1 / ratio)
