"""Runs that differ in one number of their config, set out against that number."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from mmseg_cil.errors import InputError
from mmseg_cil.utils.harmonic import HARMONIC
from mmseg_cil.utils.literals import read_literals
from mmseg_cil.utils.merging import merge_options
from mmseg_cil.visualization.walk_record import WalkRecord

#: The copy of its config that a walk leaves in its folder.
CONFIG_COPY = 'walk_config.py'
MEASURES = ('old', 'new', 'all', 'forgetting')
#: Settings that may differ between two runs without any effect on their numbers.
_HARMLESS = {'work_dir', 'resume', 'start_from', 'allow_unknown_keys'}
_MISSING = object()


@dataclass(frozen=True)
class SweepRun:
    """A run of a sweep.

    Attributes:
        method: Name of its method.
        label: Name of the run.
        value: The number of its config; None where the config has no such key.
        scores: The :data:`MEASURES` and hIoU as fractions; None where undefined.
    """

    method: str
    label: str
    value: float | None
    scores: Mapping[str, float | None]


@dataclass(frozen=True)
class Sweep:
    """Runs against one number of their configs.

    Attributes:
        key: Dotted name of the number.
        step: The step after which all runs are read.
        runs: Those whose config has the number, by method (in the order given)
            and rising value.
        levels: Those whose config has not: what the others are measured against.
    """

    key: str
    step: int
    runs: Sequence[SweepRun]
    levels: Sequence[SweepRun]

    @property
    def methods(self) -> list[str]:
        """The methods of the runs, each once."""
        return list(dict.fromkeys(run.method for run in self.runs))

    @property
    def values(self) -> list[float]:
        """The values that the number takes, rising."""
        return sorted({run.value for run in self.runs if run.value is not None})

    def line(self, method: str, measure: str) -> list[tuple[float, float]]:
        """(value, mean over the runs of that value) of one method, by rising value."""
        known = [
            (run.value, score) for run in self.runs
            if run.method == method and run.value is not None
            and (score := run.scores[measure]) is not None
        ]  # fmt: skip
        grouped = [
            (value, [score for _, score in pairs])
            for value, pairs in groupby(known, key=lambda pair: pair[0])
        ]
        return [(value, sum(scores) / len(scores)) for value, scores in grouped]


def read_sweep(
    walks: Sequence[WalkRecord], labels: Sequence[str], key: str, notes: list[str]
) -> Sweep:
    """Read one number from the configs of walks and the scores that belong to it.

    All are read after the same step: the last that at least half of the runs
    with the number have evaluated. (A choice: one run ahead of the others, or
    one that has only begun, should not decide.) A walk of one step, as joint
    training is, is read after that.

    Args:
        walks: At least one evaluated step each.
        labels: Their names.
        key: Dotted name of a number of the config, such as
            ``'method.regularisers.0.loss_weight'``.
        notes: Takes sentences about runs that are left out, and about runs of
            one method that differ in more than the number.

    Returns:
        The runs and their scores.

    Raises:
        InputError: A config is missing or unreadable, none has the key, or what
            it names is no finite number.
    """
    configs = [_read_config(walk) for walk in walks]
    found = [look_up(config, key) for config in configs]
    if all(value is _MISSING for value in found):
        raise InputError(f'--vary {key}: no run has it in its config{_meant(key, configs)}')
    values = [_number(w, key, v, c) for w, v, c in zip(walks, found, configs, strict=True)]
    step = _common_step([w for w, v in zip(walks, values, strict=True) if v is not None])
    runs: list[SweepRun] = []
    levels: list[SweepRun] = []
    late: list[str] = []
    for walk, label, value in zip(walks, labels, values, strict=True):
        at = walk.steps[-1] if walk.planned == 1 else step
        if at not in walk.steps:
            late.append(label)
            continue
        run = SweepRun(walk.method, label, value, _scores(walk, at))
        (levels if value is None else runs).append(run)
    if late:
        notes.append(f'Left out of the sweep, step {step} not being evaluated: {", ".join(late)}.')
    notes += _other_differences(walks, configs, values, key)
    order = list(dict.fromkeys(run.method for run in runs))
    runs.sort(key=lambda run: (order.index(run.method), run.value or 0.0))
    return Sweep(key, step, runs, levels)


def look_up(config: Any, key: str) -> Any:
    """Return the value of a dotted key in dicts and lists; a sentinel where there is none.

    Keys that hold dots themselves or are whole numbers, as those of
    ``step_overrides`` may be, are found as well.
    """
    parts = key.split('.')
    if isinstance(config, Mapping):
        names = {str(name): value for name, value in config.items()}
        for count in range(1, len(parts) + 1):
            head, rest = '.'.join(parts[:count]), '.'.join(parts[count:])
            found = names.get(head, _MISSING)
            if found is not _MISSING and rest:
                found = look_up(found, rest)
            if found is not _MISSING:
                return found
    elif isinstance(config, list | tuple) and parts[0].isdecimal() and int(parts[0]) < len(config):
        found = config[int(parts[0])]
        return look_up(found, '.'.join(parts[1:])) if len(parts) > 1 else found
    return _MISSING


def scale_of(values: Sequence[float]) -> str:
    """Return the axis that shows values best.

    Args:
        values: Finite numbers.

    Returns:
        ``'log'`` where they are positive and span more than a decade,
        ``'symlog'`` where their magnitudes do so and zero or negative ones are
        among them, else ``'linear'``.
    """
    sizes = [abs(value) for value in values if value]
    if not sizes or max(sizes) <= 10 * min(sizes):
        return 'linear'
    return 'log' if min(values) > 0 else 'symlog'


def _read_config(walk: WalkRecord) -> dict[str, Any]:
    """Return the config of a walk, with what its method says of its protocol merged in."""
    from mmengine.config import Config

    path = Path(walk.work_dir) / CONFIG_COPY
    if not path.is_file():
        raise InputError(
            f'{path} is missing, so what --vary names cannot be read: leave the run out, or let '
            f'mmseg-cil train CONFIG --work-dir {walk.work_dir} --resume write it again'
        )
    try:
        cfg = Config(read_literals(path))
        changes = dict(cfg.get('method') or {}).get('protocol_overrides') or {}
        own = changes.get(walk.metrics['protocol'], {})
        merge_options(cfg, {f'method.{key}': value for key, value in own.items()})
        if changes:
            del cfg.method['protocol_overrides']
    except Exception as error:
        raise InputError(f'{path} cannot be read: {type(error).__name__}: {error}') from error
    return dict(cfg.to_dict())


def _number(walk: WalkRecord, key: str, value: Any, config: Mapping[str, Any]) -> float | None:
    if value is _MISSING:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        told = repr(value) if not isinstance(value, dict | list | tuple) else 'a group of settings'
        raise InputError(
            f'--vary {key}: in the config of {walk.work_dir} it is {told}, but only a finite '
            f'number can be an axis{_meant(key, [config])}'
        )
    return float(value)


def _meant(key: str, configs: Sequence[Mapping[str, Any]]) -> str:
    """Return a hint at numbers of the configs whose names are like the one given."""
    names = {
        name for config in configs for name, value in _leaves(config)
        if isinstance(value, int | float) and not isinstance(value, bool)
    }  # fmt: skip
    close = sorted(name for name in names if name.startswith(f'{key}.'))
    close = close or difflib.get_close_matches(key, sorted(names), n=3, cutoff=0.6)
    return f'; did you mean {" or ".join(close[:3])}?' if close else ''


def _leaves(config: Any, name: str = '') -> Iterator[tuple[str, Any]]:
    if isinstance(config, Mapping):
        for key, value in config.items():
            yield from _leaves(value, f'{name}.{key}' if name else str(key))
    elif isinstance(config, list | tuple):
        for position, value in enumerate(config):
            yield from _leaves(value, f'{name}.{position}' if name else str(position))
    else:
        yield name, config


def _common_step(walks: Sequence[WalkRecord]) -> int:
    last = sorted((walk.steps[-1] for walk in walks), reverse=True)
    return last[(len(last) - 1) // 2]


def _scores(walk: WalkRecord, step: int) -> dict[str, float | None]:
    entries = [entry for entry in walk.entries if entry['step'] <= step]
    means = entries[-1]['mIoU']
    if len(entries) == len(walk.entries):
        fallen = walk.metrics.get('continual', {}).get('forgetting')
    else:
        # The file tells it after the last step only. Imported here: it brings torch along.
        from mmseg_cil.evaluation.walk_metrics import continual_metrics

        fallen = continual_metrics(entries, walk.metrics.get('kind', 'class'))['forgetting']
    parts = (*MEASURES[:3], HARMONIC)
    return {**{part: means.get(part) for part in parts}, 'forgetting': fallen}


def _other_differences(
    walks: Sequence[WalkRecord],
    configs: Sequence[Mapping[str, Any]],
    values: Sequence[float | None],
    key: str,
) -> list[str]:
    """Return a sentence for each method whose runs differ in more than the key."""
    by_method: dict[str, list[dict[str, Any]]] = {}
    for walk, config, value in zip(walks, configs, values, strict=True):
        if value is not None:
            kept = {name: v for name, v in config.items() if name not in _HARMLESS}
            by_method.setdefault(walk.method, []).append(dict(_leaves(kept)))
    sentences = []
    for method, ones in by_method.items():
        names = sorted({name for content in ones for name in content} - {key})
        differing = [
            name for name in names
            if any(content.get(name, _MISSING) != ones[0].get(name, _MISSING) for content in ones)
        ]  # fmt: skip
        if differing:
            rest = f' and {len(differing) - 4} more' if len(differing) > 4 else ''
            sentences.append(
                f'The runs of {method} differ in more than {key}: {", ".join(differing[:4])}{rest}.'
            )
    return sentences
