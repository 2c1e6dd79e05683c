"""What a config file itself says of the method, beside what it takes from its bases.

A method's ``protocol_overrides`` are for whoever takes the method as it is. A
file that builds on it and sets one of their keys means what it says, for every
protocol. Config merges files without telling which set what, so the files are
read once more, as text: nothing is executed.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from mmengine.config import Config

from mmseg_cil.engine.config.files import find_config
from mmseg_cil.engine.config.former_files import hint_at
from mmseg_cil.engine.config.step_overrides import drop_protocol_overrides
from mmseg_cil.errors import InputError

OVERRIDES = 'protocol_overrides'


def settle_protocol_overrides(cfg: Config, path: str | Path) -> None:
    """Takes out of ``protocol_overrides``, in place, what later files set themselves.

    Args:
        cfg: Read from ``path``.
        path: A config file. Of others than Python files nothing is known, and
            their bases' overrides stay.
    """
    given: list[str] = []
    lists: list[str] = []
    for one in files_of(Path(path)):
        keys = list(method_keys(one))
        if any(key.split('.')[0] == OVERRIDES for key in keys):
            # They were written beside the file's own values, and so after them.
            given, lists = [], []
        else:
            given += keys
            lists += method_lists(one)
    drop_protocol_overrides(
        cfg, [f'method.{key}' for key in given], replaced=[f'method.{key}' for key in lists]
    )


def files_of(path: Path, above: tuple[Path, ...] = ()) -> list[Path]:
    """A config file and its bases in the order in which they are merged: bases first.

    Bases are those of ``_base_``, also of MMSegmentation (``mmseg::``), and those that a pure
    Python config imports within ``read_base()``.

    Args:
        path: The file.
        above: Files that it is a base of, as they name each other.

    Raises:
        InputError: A base does not exist, or has the file itself as a base.
    """
    if path.resolve() in (one.resolve() for one in above):
        raise InputError(
            'the bases of the config go in a circle: '
            f'{" -> ".join(str(one) for one in (*above, path))}'
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
    # Names with variables in them MMEngine finds.
    inner = [
        find_config(name) if '::' in name else path.parent / name
        for name in names
        if '{{' not in name
    ]
    inner += _read_bases(path)
    return [one for base in inner for one in files_of(base, (*above, path))] + [path]


def _read_bases(path: Path) -> Iterator[Path]:
    """The files that a pure Python config imports within ``with read_base():``, by their place."""
    if path.suffix != '.py' or not path.is_file():
        return
    for node in ast.parse(path.read_text(encoding='utf-8')).body:
        calls = [one.context_expr for one in node.items] if isinstance(node, ast.With) else []
        if any(
            isinstance(one, ast.Call) and getattr(one.func, 'id', '') == 'read_base'
            for one in calls
        ):
            for one in getattr(node, 'body', ()):
                if isinstance(one, ast.ImportFrom) and one.module and one.level:
                    folder = path.parents[one.level - 1]
                    yield folder.joinpath(*one.module.split('.')).with_suffix('.py')


def method_keys(path: Path) -> Iterator[str]:
    """Dotted keys that a file gives its ``method``, elements of lists by their number."""
    value = _assigned(path, 'method')
    if value is not None:
        yield from _keys(value)


def method_lists(path: Path) -> Iterator[str]:
    """Dotted keys of the lists that a file gives its ``method``: a file sets a list as a whole."""
    value = _assigned(path, 'method')
    if value is not None:
        yield from _lists(value)


def _assigned(path: Path, name: str) -> ast.expr | None:
    """What a Python file assigns to a name at its top level; None where it does not."""
    if path.suffix != '.py' or not path.is_file():
        return None
    found = None
    for node in ast.parse(path.read_text(encoding='utf-8')).body:
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == name for target in node.targets
        ):
            found = node.value
    return found


def _keys(value: ast.expr, prefix: str = '') -> Iterator[str]:
    inner = _inner(value)
    if not inner and prefix:
        yield prefix
    for key, one in inner:
        yield from _keys(one, f'{prefix}.{key}' if prefix else key)


def _lists(value: ast.expr, prefix: str = '') -> Iterator[str]:
    if isinstance(value, (ast.List, ast.Tuple)):
        yield prefix
    else:
        for key, one in _inner(value):
            yield from _lists(one, f'{prefix}.{key}' if prefix else key)


def _inner(value: ast.expr) -> list[tuple[str, ast.expr]]:
    """Keys and values of a dict or a list, written out; nothing for any other value."""
    if isinstance(value, ast.Dict):
        return [
            (str(key.value), one)
            for key, one in zip(value.keys, value.values, strict=True)
            if isinstance(key, ast.Constant)
        ]
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == 'dict':
        return [(one.arg, one.value) for one in value.keywords if one.arg]
    if isinstance(value, (ast.List, ast.Tuple)):
        return [(str(place), one) for place, one in enumerate(value.elts)]
    return []
