"""Reading config files: ours, MMSegmentation's by ``mmseg::``, and pure Python ones."""

from __future__ import annotations

import ast
import contextlib
import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.config import utils as config_utils
from mmengine.utils import get_installed_path, is_installed

from mmseg_cil.engine.config.former_files import hint_at
from mmseg_cil.errors import InputError
from mmseg_cil.utils.shipped import CONFIGS

#: The pieces of configs.
BASES = CONFIGS / '_base_'

#: The suffixes of config files that MMEngine reads.
SUFFIXES = ('.py', '.json', '.yaml', '.yml')

#: The maintained fork of MMSegmentation, and the original, as pip knows them.
DISTRIBUTIONS = ('onedl-mmsegmentation', 'mmsegmentation')

#: Scopes whose names the scope ``mmseg_cil`` finds too, so that parts of a base that come from them
#: need no ``_scope_``.
_COMMON_SCOPES = ('mmengine', 'mmseg', 'mmseg_cil')


def know_installed_mmsegmentation() -> None:
    """Let MMEngine find configs named ``mmseg::`` in the MMSegmentation that is installed.

    MMEngine looks for the original by its name and reports that it is not installed.
    """
    installed = [distribution for distribution in DISTRIBUTIONS if is_installed(distribution)]
    if installed:
        config_utils.MODULE2PACKAGE['mmseg'] = installed[0]


@contextlib.contextmanager
def _own_scope_known() -> Iterator[None]:
    """Let MMEngine find configs named ``mmseg_cil::`` within a ``with`` block.

    The name is removed afterwards, because MMEngine expects a ``register_all_modules`` from every
    package in its list.
    """
    config_utils.MODULE2PACKAGE['mmseg_cil'] = 'mmseg_cil'
    try:
        yield
    finally:
        del config_utils.MODULE2PACKAGE['mmseg_cil']


def find_config(name: str | Path) -> Path:
    """Return the path of a config file, given by its path or as ``mmseg::FOLDER/NAME.py``.

    ``mmseg_cil::`` names the files that this package ships.

    Raises:
        InputError: There is no such file or package.
    """
    scope, colons, inner = str(name).partition('::')
    if not colons:
        path = Path(name)
        if path.is_dir():
            raise InputError(f'the config {name} is a folder: give a file')
        if not path.is_file():
            raise InputError(f'there is no config file {name}{hint_at(path)}')
        if path.suffix not in SUFFIXES:
            raise InputError(
                f'the config {name} is no file of settings: its name must end with '
                f'{", ".join(SUFFIXES)}'
            )
        return path
    know_installed_mmsegmentation()
    package = config_utils.MODULE2PACKAGE.get(scope, scope)
    if scope == 'mmseg_cil':
        folder = CONFIGS
    elif is_installed(package):
        folder = Path(get_installed_path(package)) / '.mim' / 'configs'
    else:
        raise InputError(f'{name}: {package} is not installed: pip install {package}')
    path = folder / (inner if inner.endswith('.py') else f'{inner}.py')
    if not path.is_file():
        raise InputError(
            f'{name}: there is no {path}; the name goes on after :: as the path of '
            f'a file in {folder}'
        )
    return path


def files_of(path: Path, above: tuple[Path, ...] = ()) -> list[Path]:
    """Return a config file and its bases in the order in which they are merged: bases first.

    The bases are the files in ``_base_``, also those of MMSegmentation (``mmseg::``), and the
    files that a pure Python config imports within ``read_base()``.

    Args:
        path: The file.
        above: Chain of files that leads to ``path``: each names the next one as a base.

    Raises:
        InputError: A base does not exist, or has the file itself as a base.
    """
    if path.resolve() in (former.resolve() for former in above):
        raise InputError(
            'the bases of the config go in a circle: '
            f'{" -> ".join(str(file) for file in (*above, path))}: take a _base_ out of the last'
        )
    if above and not path.is_file():
        raise InputError(
            f'the config {above[-1]} names the base {path}, which does not exist{hint_at(path)}'
        )
    bases = _assigned(path, '_base_')
    try:
        names = [] if bases is None else ast.literal_eval(bases)
    except ValueError:
        names = []
    names = [names] if isinstance(names, str) else names
    # MMEngine resolves the names that have variables in them.
    inner = [
        find_config(name) if '::' in name else path.parent / name
        for name in names
        if '{{' not in name
    ]
    inner += _read_bases(path)
    found = [file for base in inner for file in files_of(base, (*above, path))]
    return [*found, path]


def read_config(path: str | Path) -> Config:
    """Read a config file, without the scopes of parts that a base takes from MMSegmentation.

    Args:
        path: Path of the file, from :func:`find_config`.

    Raises:
        Exception: Whatever the file raises.
    """
    know_installed_mmsegmentation()
    with _own_scope_known():
        cfg = Config.fromfile(str(path))
    if _has_scopes(cfg._cfg_dict):
        text, name = cfg.text, cfg.filename
        cfg = Config(_without_scopes(cfg.to_dict()), cfg_text=text or '#', filename=name)
    return cfg


def _has_scopes(node: Any) -> bool:
    if isinstance(node, Mapping):
        return node.get('_scope_') in _COMMON_SCOPES or any(map(_has_scopes, node.values()))
    return isinstance(node, (list, tuple)) and any(map(_has_scopes, node))


def _without_scopes(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {
            key: _without_scopes(value)
            for key, value in node.items()
            if key != '_scope_' or value not in _COMMON_SCOPES
        }
    if isinstance(node, (list, tuple)):
        return type(node)(map(_without_scopes, node))
    return copy.deepcopy(node)


def _read_bases(path: Path) -> Iterator[Path]:
    """Yield the paths of the files that a pure Python config imports in ``with read_base():``."""
    if path.suffix != '.py' or not path.is_file():
        return
    for node in ast.parse(path.read_text(encoding='utf-8')).body:
        calls = [item.context_expr for item in node.items] if isinstance(node, ast.With) else []
        if any(
            isinstance(call, ast.Call) and getattr(call.func, 'id', '') == 'read_base'
            for call in calls
        ):
            for statement in getattr(node, 'body', ()):
                if isinstance(statement, ast.ImportFrom) and statement.module and statement.level:
                    folder = path.parents[statement.level - 1]
                    yield folder.joinpath(*statement.module.split('.')).with_suffix('.py')


def _assigned(path: Path, name: str) -> ast.expr | None:
    """Return the expression that a Python file assigns to a name at its top level, or None."""
    if path.suffix != '.py' or not path.is_file():
        return None
    found = None
    for node in ast.parse(path.read_text(encoding='utf-8')).body:
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == name for target in node.targets
        ):
            found = node.value
    return found
