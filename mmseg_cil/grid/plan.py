"""The cells of a grid, by their names."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmseg_cil.errors import InputError

#: Characters that names of folders may not have.
_UNFIT = re.compile(r'[^A-Za-z0-9._=,+-]+')
#: The separator between the name of a method and that of a setting.
SEPARATOR = '@'
#: The most letters of a folder's name that is made of settings.
_LONGEST = 120


@dataclass(frozen=True)
class Variant:
    """A method or a protocol of a grid.

    Attributes:
        name: Name in folders and tables.
        piece: Name or path of the config piece; None: that of the config itself.
        options: Settings by dotted keys, as ``--cfg-options`` has them.
        reference: Whether this is no method but one of :mod:`~mmseg_cil.grid.references`.
    """

    name: str
    piece: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    reference: bool = False


@dataclass(frozen=True)
class Setting:
    """Values of the axes that ``--set`` names.

    Attributes:
        name: Name in folders and tables; empty where there is no axis.
        options: Values by dotted keys.
    """

    name: str = ''
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Cell:
    """A walk of the grid.

    Attributes:
        method: Method of the walk.
        protocol: Protocol of the walk.
        setting: Values of the axes.
        seed: Seed of the walk.
    """

    method: Variant
    protocol: Variant
    setting: Setting
    seed: int

    @property
    def row(self) -> str:
        """The method with its setting, which name a row of the tables."""
        name = self.setting.name
        return f'{self.method.name}{SEPARATOR}{name}' if name else self.method.name

    @property
    def kind(self) -> tuple[str, str]:
        """The protocol and the row, which cells of several seeds have in common."""
        return self.protocol.name, self.row

    @property
    def place(self) -> str:
        """The path of the cell below ``cells`` or ``step_0``; fixed, for grids that go on."""
        return f'{self.protocol.name}/{self.row}/seed_{self.seed}'


@dataclass(frozen=True)
class Axis:
    """A key of the configs and the values that it takes.

    Attributes:
        key: The dotted key.
        values: The values, at least one.
        method: The one method that the axis is for; empty: all methods.
    """

    key: str
    values: Sequence[Any]
    method: str = ''


@dataclass(frozen=True)
class Plan:
    """The cells of a grid, and its baseline.

    Attributes:
        cells: The cells in order.
        baseline: Row that differences are taken to; empty: none.
    """

    cells: tuple[Cell, ...]
    baseline: str = ''

    @property
    def rows(self) -> list[str]:
        """The methods with their settings, in order."""
        return list(dict.fromkeys(cell.row for cell in self.cells))


def plan_grid(
    methods: Sequence[Variant],
    protocols: Sequence[Variant],
    seeds: Sequence[int],
    axes: Sequence[Axis] = (),
    baseline: str = '',
) -> Plan:
    """Plan the cells of a grid: all combinations.

    Args:
        methods: The methods, at least one.
        protocols: The protocols, at least one.
        seeds: The seeds, at least one.
        axes: Keys that take several values.
        baseline: A method, or a row; empty: none.

    Raises:
        InputError: There is nothing to walk, something is named twice, or an axis is for a method
            that the grid does not have.
    """
    for kind, given in (('methods', methods), ('protocols', protocols), ('seeds', seeds)):
        if not given:
            raise InputError(f'the grid has no {kind}: give --{kind}, or {kind} in its file')
    for kind, names in (
        ('method', [variant.name for variant in methods]),
        ('protocol', [variant.name for variant in protocols]),
        ('seed', list(map(str, seeds))),
        ('axis', [f'{axis.method}:{axis.key}' for axis in axes]),
    ):
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise InputError(
                f'the {kind} {twice[0]} is in the grid twice: name each once (variants of a '
                f'method take names of their own: dict(name=..., method=..., options=...))'
            )
    known = {variant.name for variant in methods}
    for axis in axes:
        if axis.method and axis.method not in known:
            raise InputError(
                f'--set {axis.method}:{axis.key}: the grid has no method {axis.method!r}; it has '
                f'{", ".join(sorted(known))}'
            )
    cells = [
        Cell(method, protocol, setting, seed)
        for protocol in protocols
        for method in methods
        for setting in ([Setting()] if method.reference else settings_of(method.name, axes))
        for seed in seeds
    ]
    return Plan(tuple(cells), baseline)


def settings_of(method: str, axes: Sequence[Axis]) -> list[Setting]:
    """Return all combinations of the values of a method's axes, named."""
    own = [axis for axis in axes if axis.method in ('', method)]
    combined = itertools.product(*([(axis.key, value) for value in axis.values] for axis in own))
    settings = [Setting(_name_of(pairs), dict(pairs)) for pairs in combined]
    twice = [
        name for name, count in Counter(setting.name for setting in settings).items() if count > 1
    ]
    if twice:
        raise InputError(f'--set gives the setting {twice[0]} twice: name each value once')
    return settings


def fit_name(text: str) -> str:
    """Return a text as the name of a folder; different texts have different names."""
    fit = _UNFIT.sub('_', text)
    if fit == text and len(fit) <= _LONGEST:
        return fit
    digest = hashlib.sha256(text.encode('utf-8')).hexdigest()[:8]
    return f'{fit[:_LONGEST]}-{digest}'


def _name_of(pairs: Sequence[tuple[str, Any]]) -> str:
    text = ','.join(f'{key}={value}' for key, value in pairs)
    return fit_name(text) if text else ''


def variant_of(entry: Any, kind: str) -> Variant:
    """Return a method or a protocol from an entry of a grid's file or command line.

    Args:
        entry: The name or path of a piece, or a dict of ``name``, the piece under its kind,
            and ``options``.
        kind: 'method' or 'protocol'.

    Raises:
        InputError: The entry has another form.
    """
    if isinstance(entry, str) and entry:
        return Variant(fit_name(Path(entry).stem if entry.endswith('.py') else entry), entry)
    if not isinstance(entry, Mapping):
        raise InputError(
            f'grid.{kind}s has the entry {entry!r}: give a name, or a dict with name, {kind} and '
            'options'
        )
    unknown = sorted(set(entry) - {'name', kind, 'options'})
    if unknown:
        raise InputError(
            f'grid.{kind}s has an entry with the unknown keys {", ".join(map(str, unknown))}; '
            f'there are name, {kind} and options'
        )
    piece = entry.get(kind)
    options = entry.get('options') or {}
    name = entry.get('name') or piece
    if not isinstance(name, str) or not isinstance(options, Mapping):
        raise InputError(
            f'grid.{kind}s has the entry {dict(entry)!r}: name must be a text and options a dict '
            'of values by dotted keys'
        )
    return Variant(fit_name(Path(name).stem if name.endswith('.py') else name), piece, options)
