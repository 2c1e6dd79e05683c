"""The configs that the cells of a grid train with, and the text of a config."""

from __future__ import annotations

import argparse
import ast
import pprint
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmseg_cil.engine.commands import walk_config
from mmseg_cil.engine.config.compose import KINDS
from mmseg_cil.engine.config.load import read_unsettled, with_options
from mmseg_cil.engine.preflight.names import with_names_allowed
from mmseg_cil.errors import InputError
from mmseg_cil.grid.plan import Cell
from mmseg_cil.grid.references import make_reference
from mmseg_cil.utils.near import near

#: The key under which a config describes the grid that it is the base of.
KEY = 'grid'


def read_grid(config: str | None) -> dict[str, Any]:
    """Read ``grid`` of a config; an empty dict where the config has none.

    Raises:
        InputError: The file cannot be read, or its ``grid`` is no dict.
    """
    found = {} if config is None else read_unsettled(config).get(KEY) or {}
    if not isinstance(found, Mapping):
        raise InputError(f'{config}: {KEY} is {found!r}; it must be a dict')
    return dict(found)


def cell_config(
    cell: Cell, config: str | None, parts: Mapping[str, str | None], options: Mapping[str, Any]
) -> Config:
    """Compose the config of a cell.

    Args:
        cell: The cell.
        config: The file that all cells have as their base, or None.
        parts: Pieces for all cells by kind: model, dataset, schedule.
        options: Settings of all cells by dotted keys.

    Raises:
        InputError: A piece is unknown, or a setting does not fit.
    """
    pieces = {kind: parts.get(kind) for kind in KINDS}
    pieces.update(method=cell.method.piece, protocol=cell.protocol.piece)
    if cell.method.reference and config is None:
        # Any method will do for the rest of the config.
        pieces['method'] = 'finetune'
    cfg = walk_config(argparse.Namespace(config=config, cfg_options={}, **pieces))
    cfg._cfg_dict.pop(KEY, None)
    if cell.method.reference:
        with_options(cfg, cell.protocol.options)
        make_reference(cfg, cell.method.name)
        options = {key: value for key, value in options.items() if not key.startswith('method.')}
    own = {**cell.method.options, **cell.setting.options}
    given = {**options, **({} if cell.method.reference else cell.protocol.options), **own}
    for key in given:
        _check_key(cfg, key, cell)
    return with_options(cfg, {**given, 'randomness.seed': cell.seed})


def _check_key(cfg: Config, key: str, cell: Cell) -> None:
    """Refuse a dotted key that the config does not have, as nothing would read it.

    The last name of a key may be new if the names before it lead to a dict of the config.
    """
    node: Any = cfg._cfg_dict
    names = key.split('.')
    for place, name in enumerate(names):
        listed = name.isdecimal() and (
            int(name) < len(node)
            if isinstance(node, (list, tuple))
            # The keys of step_overrides are numbers.
            else isinstance(node, Mapping) and name not in node and int(name) in node
        )
        if not listed and not (isinstance(node, Mapping) and name in node):
            if place and place == len(names) - 1 and isinstance(node, Mapping):
                return
            where = '.'.join(names[: place + 1])
            known = list(map(str, node)) if isinstance(node, Mapping) else []
            meant = near(name, known)
            raise InputError(
                f'{key}: the config of {cell.row} on {cell.protocol.name} has no {where}'
                + (f'; did you mean {meant!r}?' if meant else '')
                + ' (--set METHOD:KEY=VALUE sets a key of one method alone)'
            )
        node = node[int(name)] if listed else node[name]


def config_text(cfg: Config) -> str:
    """Return a config as the text of a file of plain values, readable without any other file."""
    content = with_names_allowed(cfg).to_dict()
    return ''.join(
        f'{key} = {pprint.pformat(value, width=100, sort_dicts=False)}\n'
        for key, value in content.items()
    )


def read_text(path: Path) -> dict[str, Any]:
    """Read a file that :func:`config_text` has written.

    Raises:
        InputError: The file was changed.
    """
    try:
        tree = ast.parse(path.read_text(encoding='utf-8'))
        return {
            node.targets[0].id: ast.literal_eval(node.value)  # type: ignore[attr-defined]
            for node in tree.body
        }
    except (OSError, ValueError, SyntaxError, AttributeError, TypeError) as error:
        raise InputError(
            f'{path} is not as the grid has written it ({type(error).__name__}: {error}): put it '
            'back, or remove it with the work directory beside it'
        ) from error
