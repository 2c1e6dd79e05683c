"""Checks of the cells of a grid before any of them is walked."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mmengine.config import Config

from mmseg_cil.engine.config.comparison import differences
from mmseg_cil.engine.walk import Walk
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.errors import InputError
from mmseg_cil.grid.composition import read_text
from mmseg_cil.grid.places import Places
from mmseg_cil.grid.plan import Cell


@dataclass
class Checked:
    """The results of the checks.

    Attributes:
        walks: The walk of one seed, by protocol and row.
        refused: The reasons why cells cannot be walked, by cell.
    """

    walks: dict[tuple[str, str], Walk] = field(default_factory=dict)
    refused: dict[Cell, str] = field(default_factory=dict)


def check_same_configs(places: Places, configs: Mapping[Cell, Config]) -> None:
    """Refuse a folder whose cells were walked, or begun, with other configs.

    Args:
        places: Places of the grid.
        configs: Configs of all cells now.

    Raises:
        InputError: The config of a cell differs.
    """
    for cell, cfg in configs.items():
        path = places.config(cell)
        if not (places.work_dir(cell).is_dir() and path.is_file()):
            continue
        changed = differences(read_text(path), _plain(cfg))
        if changed:
            raise InputError(
                f'{places.work_dir(cell)} was begun with another config than it has in this grid; '
                f'they differ in {", ".join(changed[:5])}'
                f'{f" and {len(changed) - 5} more" if len(changed) > 5 else ""}: use the former '
                'grid, another --work-dir, or a name of its own for the changed method or protocol'
            )


def _plain(cfg: Config) -> dict[str, Any]:
    content: dict[str, Any] = cfg.to_dict()
    return content


def check_cells(
    cells: Sequence[Cell],
    configs: Mapping[Cell, Config],
    places: Places,
    allow_refused: bool = False,
) -> Checked:
    """Check every kind of cell as its walk would before training; all seeds are one kind.

    Args:
        cells: Cells to be walked.
        configs: Configs of the cells.
        places: Places of the grid.
        allow_refused: Whether some kinds of cells may be refused.

    Raises:
        InputError: A kind of cell is refused though none may be, or all kinds are.
    """
    checked = Checked()
    refused: dict[tuple[str, str], str] = {}
    for cell in cells:
        if cell.kind in checked.walks or cell.kind in refused:
            continue
        try:
            checked.walks[cell.kind] = look_at(configs[cell], places)
        except InputError as error:
            refused[cell.kind] = str(error)
    told = [f'{row} on {protocol}: {error}' for (protocol, row), error in refused.items()]
    if told and (not allow_refused or not checked.walks):
        raise InputError(
            '; '.join(told) + ('' if not checked.walks else ' (--allow-refused walks the others)')
        )
    for line in told:
        print(f'refused: {line}', flush=True)
    checked.refused = {cell: refused[cell.kind] for cell in cells if cell.kind in refused}
    return checked


def look_at(cfg: Config, places: Places) -> Walk:
    """Check a walk, without the rehearsal, and return it.

    Raises:
        InputError: The walk is refused.
    """
    cfg = copy.deepcopy(cfg)
    cfg.rehearsal = False
    return WalkRunner(cfg, places.folder).prepare().walk
