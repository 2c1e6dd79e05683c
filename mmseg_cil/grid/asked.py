"""The grid that a grid's file and command line ask for."""

from __future__ import annotations

import argparse
import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmseg_cil.engine.config.load import read_unsettled
from mmseg_cil.errors import InputError
from mmseg_cil.grid.composition import read_grid
from mmseg_cil.grid.plan import Axis, Plan, Variant, plan_grid, variant_of
from mmseg_cil.grid.references import references_of
from mmseg_cil.utils.near import near

#: The keys that ``grid`` of a config may have.
KEYS = (
    'methods', 'protocols', 'seeds', 'settings', 'options', 'baseline', 'share_step_0',
    'references',
)  # fmt: skip
SHARING = ('same', 'any', 'none')


@dataclass(frozen=True)
class Asked:
    """A grid as its user wants it.

    Attributes:
        plan: The cells of the grid.
        config: File that all cells have as their base, or None.
        parts: Pieces of all cells by kind: dataset, model, schedule.
        options: Settings of all cells by dotted keys.
        work_dir: The folder of all files of the grid.
        share: Which cells share a step 0: 'same', 'any' or 'none'.
        allow_refused: Whether the other cells are walked where a method is refused.
        every_step: Whether tables are made for each step.
        listed: Methods that the grid's file lists, walked now or not.
    """

    plan: Plan
    config: str | None
    parts: Mapping[str, str | None]
    options: Mapping[str, Any]
    work_dir: Path
    share: str = 'same'
    allow_refused: bool = False
    every_step: bool = False
    listed: tuple[str, ...] = ()


def asked_of(args: argparse.Namespace) -> Asked:
    """Read a grid from the command line and its config.

    Args:
        args: Arguments from :func:`~mmseg_cil.grid.command.parse_args`.

    Raises:
        InputError: Config and arguments describe no grid.
    """
    config = None if args.config in (None, '-') else args.config
    grid = read_grid(config)
    for key in grid:
        if key not in KEYS:
            meant = near(str(key), KEYS)
            hint = f'did you mean {meant!r}?' if meant else f'there are {", ".join(KEYS)}'
            raise InputError(f'{config}: grid.{key} is not known: {hint}')
    share = args.share_step_0 or grid.get('share_step_0') or 'same'
    if share not in SHARING:
        raise InputError(f'{config}: grid.share_step_0 is {share!r}; use one of {SHARING}')
    plan = plan_grid(
        [
            *_variants('method', args.methods, grid, config),
            *references_of(args.references or grid.get('references')),
        ],
        _variants('protocol', args.protocols, grid, config),
        _seeds(args.seeds, grid, config),
        [*_axes_of_file(grid, config), *map(read_axis, args.set)],
        args.baseline or str(grid.get('baseline') or ''),
    )
    name = Path(config).stem if config else 'methods'
    options = grid.get('options') or {}
    if not isinstance(options, Mapping):
        raise InputError(f'{config}: grid.options is {options!r}; it must be a dict')
    return Asked(
        plan,
        config,
        {kind: getattr(args, kind) for kind in ('dataset', 'model', 'schedule')},
        {**options, **args.cfg_options},
        Path(args.work_dir or f'work_dirs/grid_{name}'),
        share,
        args.allow_refused,
        args.every_step,
        tuple(variant.name for variant in _listed('method', grid, config)),
    )


def _variants(
    kind: str, given: Sequence[str] | None, grid: Mapping[str, Any], config: str | None
) -> list[Variant]:
    known = _listed(kind, grid, config)
    if given is not None:
        by_name = {variant.name: variant for variant in known}
        return [by_name.get(name) or variant_of(name, kind) for name in given]
    if known:
        return known
    own = None if config is None else read_unsettled(config).get(kind)
    name = own.get('name') if isinstance(own, Mapping) else None
    return [variant_of(dict(name=str(name)), kind)] if name else []


def _listed(kind: str, grid: Mapping[str, Any], config: str | None) -> list[Variant]:
    listed = grid.get(f'{kind}s') or []
    if not isinstance(listed, (list, tuple)):
        raise InputError(f'{config}: grid.{kind}s is {listed!r}; it must be a list')
    return [variant_of(entry, kind) for entry in listed]


def _seeds(given: Sequence[int] | None, grid: Mapping[str, Any], config: str | None) -> list[int]:
    seeds = grid.get('seeds') or [] if given is None else given
    if not isinstance(seeds, (list, tuple)) or not all(
        isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed < 2**32 for seed in seeds
    ):
        raise InputError(
            f'the seeds of the grid are {seeds!r}: give whole numbers, 0 or more'
            + (f' (in grid of {config})' if given is None else '')
        )
    return list(seeds)


def _axes_of_file(grid: Mapping[str, Any], config: str | None) -> list[Axis]:
    settings = grid.get('settings') or {}
    if not isinstance(settings, Mapping) or not all(
        isinstance(values, (list, tuple)) and values for values in settings.values()
    ):
        raise InputError(
            f'{config}: grid.settings is {settings!r}; it must be a dict of lists of values, such '
            "as {'optim_wrapper.optimizer.lr': [0.01, 0.001]}; 'METHOD:KEY' is for one method"
        )
    return [_axis(key, values) for key, values in settings.items()]


def _axis(key: str, values: Sequence[Any]) -> Axis:
    method, colon, inner = str(key).rpartition(':')
    return Axis(inner if colon else str(key), tuple(values), method)


def read_axis(text: str) -> Axis:
    """Read ``[METHOD:]KEY=VALUE[,VALUE...]``; commas in brackets or quotes belong to a value.

    Raises:
        InputError: The text has another form.
    """
    key, equals, values = text.partition('=')
    parts = key.rpartition(':')[2].split('.')
    if not equals or not all(part.strip() for part in parts) or not values.strip():
        raise InputError(
            f'--set {text}: write KEY=VALUE[,VALUE...] or METHOD:KEY=VALUE[,VALUE...], such as '
            'optim_wrapper.optimizer.lr=0.01,0.001'
        )
    listed = _split(values)
    if not all(listed):
        raise InputError(f'--set {text}: a value is empty')
    return _axis(key, [read_value(entry) for entry in listed])


def _split(text: str) -> list[str]:
    depth, quote, parts = 0, '', ['']
    for letter in text:
        if quote:
            quote = '' if letter == quote else quote
        elif letter in '\'"':
            quote = letter
        elif letter in '([{':
            depth += 1
        elif letter in ')]}':
            depth -= 1
        if letter == ',' and not depth and not quote:
            parts.append('')
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def read_value(text: str) -> Any:
    """Return a value of the command line: a Python literal, true or false, or the text itself."""
    if text.lower() in ('true', 'false'):
        return text.lower() == 'true'
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
