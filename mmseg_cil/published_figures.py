"""The figures that papers publish, as data: ``configs/published.csv``, one row a figure.

A row is mIoU in per cent after the last step. A display of a row beside own results must say
that the figure is published, and where.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmseg_cil.errors import InputError
from mmseg_cil.protocols import build_protocol
from mmseg_cil.utils.shipped import CONFIGS

#: The file lies beside the pieces of configs; if it is missing, no figure is known.
FILE = CONFIGS / 'published.csv'
COLUMNS = (
    'method', 'protocol', 'setting', 'backbone', 'source',
    'background', 'old', 'new', 'all', 'note',
)  # fmt: skip
#: Published method of each method piece that is another form of it and shares its figures.
FORMS = {
    'plop_paper': 'plop',
    'lgkd_paper': 'lgkd',
    'mib_nest_paper': 'mib_nest',
    'plop_nest_paper': 'plop_nest',
    'mib_ucd_paper': 'mib_ucd',
    'sdr_paper': 'sdr',
    'mib_ewf_paper': 'mib_ewf',
    'plop_ewf_paper': 'plop_ewf',
    'reminder_paper': 'reminder',
    'dkd_decomposed_paper': 'dkd_decomposed',
    'star_paper': 'star',
}
_BACKGROUND = {'yes': True, 'no': False, '': None}


@dataclass(frozen=True)
class PublishedFigure:
    """One row of ``configs/published.csv``.

    Attributes:
        method: Name of the method's piece.
        protocol: Name of the protocol, in the customary count of classes.
        setting: ``'overlapped'`` or ``'disjoint'``; the split for Cityscapes by city; empty
            where the paper has none of these.
        backbone: Name of the network's backbone; empty where the source does not tell it.
        source: Paper or README.
        background: Whether the means count the background; None where the source does not tell,
            or there is no background.
        old: mIoU of the old classes in per cent; None where it is not published.
        new: mIoU of the new classes in per cent; None where it is not published.
        all: mIoU of all classes in per cent; None where it is not published.
        note: Further information for readers; may be empty.
    """

    method: str
    protocol: str
    setting: str
    backbone: str
    source: str
    background: bool | None
    old: float | None
    new: float | None
    all: float | None
    note: str

    def describe(self, backbone: bool = True) -> str:
        """Return the circumstances in words: source, background, backbone and note.

        Args:
            backbone: Whether to name the backbone.
        """
        told = {True: 'with background', False: 'without background', None: ''}[self.background]
        parts = [self.source, told, self.backbone if backbone else '', self.note]
        return ', '.join(part for part in parts if part)


def read_figures(path: Path = FILE) -> tuple[PublishedFigure, ...]:
    """Read the published figures; return none where the file is missing.

    Args:
        path: A file of the form of ``configs/published.csv``.

    Raises:
        InputError: The file has other columns, or a cell with an impossible value.
    """
    if not path.is_file():
        return ()
    with path.open(encoding='utf-8', newline='') as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise InputError(f'{path}: its first line must be {",".join(COLUMNS)}')
        return tuple(_figure(row, f'{path}, line {reader.line_num}') for row in reader)


def figures_of(
    protocol: Mapping[str, Any], method: str | None = None, any_setting: bool = False
) -> list[PublishedFigure]:
    """Return the figures published for a protocol, in the order of the file.

    Two names of one walk (``voc_11-1`` and the customary ``voc_10-1``) have the same figures. A
    protocol whose steps differ from the steps that its name stands for has no figures.

    Args:
        protocol: The protocol as :meth:`mmseg_cil.protocols.Protocol.to_dict` returns it, or a
            journal holds it.
        method: Name of the method whose figures are returned; None: all methods.
        any_setting: Whether figures of other settings (for Cityscapes by city: of another split)
            count too. Figures without a setting always count.
    """
    name = str(protocol.get('name'))
    method = FORMS.get(method, method) if method else None
    setting = protocol.get('split') or protocol.get('setting')
    try:
        named = build_protocol({'name': name}).to_dict()
        if _steps(named) != _steps(protocol):
            return []
    except (InputError, KeyError, TypeError):  # an own protocol, or a journal that does not tell
        return []
    return [
        figure
        for figure in _all_figures()
        if figure.protocol in (name, named['spellings'].get('foreground'))
        and method in (None, figure.method)
        and (any_setting or figure.setting in ('', setting))
    ]


def _steps(protocol: Mapping[str, Any]) -> list[tuple[list[str], list[str]]]:
    return [(step['new'], step['domains']) for step in protocol['steps']]


@functools.cache
def _all_figures() -> tuple[PublishedFigure, ...]:
    return read_figures()


def _figure(row: Mapping[str, str | None], where: str) -> PublishedFigure:
    cells = {name: (row.get(name) or '').strip() for name in COLUMNS}
    if None in row or cells['background'] not in _BACKGROUND:
        raise InputError(
            f"{where}: background must be 'yes', 'no' or empty, and there must be "
            f'{len(COLUMNS)} cells: quote a cell that holds a comma'
        )
    old, new, everything = (_number(cells[name], name, where) for name in ('old', 'new', 'all'))
    return PublishedFigure(
        cells['method'],
        cells['protocol'],
        cells['setting'],
        cells['backbone'],
        cells['source'],
        _BACKGROUND[cells['background']],
        old,
        new,
        everything,
        cells['note'],
    )


def _number(cell: str, name: str, where: str) -> float | None:
    if not cell:
        return None
    try:
        value = float(cell)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 100.0:
        raise InputError(
            f'{where}: {name} is {cell!r}; it must be a number from 0 to 100, or empty'
        )
    return value
