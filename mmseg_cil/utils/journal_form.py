"""Check of the form of a journal, which may come from anywhere.

Every reader of a ``journal.json`` makes this check.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mmseg_cil.utils.inside import is_plain_name

Check = Callable[[Any], bool]


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _index(value: Any) -> bool:
    return _whole(value) and 0 <= value < 10000


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _anything(value: Any) -> bool:
    return True


def _or_none(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _each(check: Check) -> Check:
    return lambda value: isinstance(value, list) and all(map(check, value))


def _by_name(check: Check, name: Check = _text) -> Check:
    return lambda value: (
        isinstance(value, dict) and all(map(name, value)) and all(map(check, value.values()))
    )


def _fields(needed: Mapping[str, Check], may: Mapping[str, Check]) -> Check:
    return lambda value: (
        isinstance(value, dict)
        and all(key in value and check(value[key]) for key, check in needed.items())
        and all(value.get(key) is None or check(value[key]) for key, check in may.items())
    )


_STEP = _fields(
    {}, {'step': _index, 'old': _each(_text), 'new': _each(_text), 'domains': _each(_text)}
)
_SUB_STEP = _fields(
    {},
    {
        'files': _by_name(_text, is_plain_name),
        'identity': _by_name(_anything),
        'summary': _by_name(_anything),
        'evaluation': _text,
        'iterations': _number,
        'seconds': _number,
    },
)
_RECORD = _fields(
    {'step': _index, 'status': _text},
    {
        'sub_steps': _by_name(_SUB_STEP, is_plain_name),
        'checkpoint_sha256': _text,
        'kept_sha256': _by_name(_text, is_plain_name),
        'exemplars': _by_name(_anything),
        'evaluation': _text,
        'classes': _whole,
        'images': _whole,
        'iterations': _whole,
        'replayed': _whole,
    },
)
_HEADER: dict[str, Check] = {
    'protocol': _fields(
        {}, {'name': _text, 'classes': _each(_text), 'steps': _each(_STEP), 'fingerprint': _text}
    ),
    'method': _by_name(_anything),
    'fingerprints': _by_name(_text),
    'steps': _each(_RECORD),
    'seed': _whole,
    'world_size': _whole,
    'images': _by_name(_each(_whole)),
    'data': _by_name(_each(_or_none(_text))),
    'iterations': _each(_whole),
    'start_from': _text,
    'versions': _by_name(_text),
    'computing': _by_name(_anything),
    'former': _by_name(_each(_or_none(_text))),
    'accepted_changes': _each(
        _fields({'changed': _each(_text), 'trained_before': _each(_index)}, {})
    ),
}


def form_problem(content: Mapping[str, Any]) -> str | None:
    """Return a message about an entry of a journal with a wrong form; None where all are right.

    Missing entries are no problem here, and neither are unknown entries of another version.

    Args:
        content: The decoded file.
    """
    wrong = [
        key
        for key, check in _HEADER.items()
        if content.get(key) is not None and not check(content[key])
    ]
    if not wrong:
        return None
    if wrong == ['steps'] and isinstance(content['steps'], list):
        record = next(step for step in content['steps'] if not _RECORD(step))
        return f'the step record {str(record)[:200]} is not valid'
    return f'{wrong[0]!r} is not of the form that a walk writes'
