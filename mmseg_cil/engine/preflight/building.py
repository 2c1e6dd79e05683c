"""Failures of the parts that a config names, reported as wrong input."""

from __future__ import annotations

import contextlib
import difflib
import re
import traceback
from collections.abc import Iterator

from mmengine.registry import Registry

from mmseg_cil import registry
from mmseg_cil.errors import InputError

_UNKNOWN = re.compile(r'(\S+) is not in the \S+::(.+?) registry')


@contextlib.contextmanager
def part(name: str) -> Iterator[None]:
    """Turn every failure in a block that builds a part of the config into an InputError.

    Args:
        name: Name of the part, for the message.

    Raises:
        InputError: Something was raised within the block.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(f'{name}: {explain(error)}') from error


def explain(error: Exception) -> str:
    """Return an error as one line, with its place in the code unless the config is at fault."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    unknown = _UNKNOWN.match(text)
    if unknown:
        return no_such_type(unknown[1], unknown[2])
    last = traceback.extract_tb(error.__traceback__)[-1]
    # An error that MMEngine's registry itself raises is about the config, not about code.
    where = '' if '/mmengine/registry/' in last.filename else f' ({last.filename}:{last.lineno})'
    return f'{type(error).__name__}: {" ".join(text.split())}{where}'


def require_type(kinds: Registry, kind: object, where: str) -> None:
    """Refuse a type that no registry holds.

    Raises:
        InputError: The type is an unknown name, or None.
    """
    if kind is None:
        raise InputError(f"{where} has no type: write dict(type='NAME', ...)")
    if isinstance(kind, str) and kinds.get(kind) is None:
        raise InputError(f'{where}: {no_such_type(kind, kinds.name)}')


def no_such_type(name: str, kind: str) -> str:
    """Return the message that a registry does not hold a name, with similar names that it holds.

    Args:
        name: The unknown type.
        kind: The name of the registry, such as 'model' or 'transform'.
    """
    known: set[str] = set()
    for node in vars(registry).values():
        if isinstance(node, Registry) and node.name == kind:
            level: Registry | None = node
            while level is not None:
                known.update(level.module_dict)
                level = level.parent
    near = difflib.get_close_matches(name.rpartition('.')[2], sorted(known), 3)
    hint = (
        f'; did you mean {" or ".join(near)}?'
        if near
        else '; a module of your own must be imported (custom_imports)'
    )
    return f'there is no {kind.replace("_", " ")} {name!r}{hint}'
