"""Reading of plain Python values without executing them."""

from __future__ import annotations

import ast
import math
import os
from pathlib import Path
from typing import Any

#: Names of the numbers that are not finite in a config's text.
_NOT_FINITE = {'inf': math.inf, 'nan': math.nan}
#: Names that stand in plain values.
_NAMES = ('dict', 'float', 'set', *_NOT_FINITE)


class NotPlainError(ValueError):
    """The error of a file that holds something else than assignments of plain values."""


def read_literals(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the values that a file, such as a config that MMEngine wrote, assigns to names.

    The file consists of ``name = value``, where values are numbers, texts, lists, tuples,
    sets and dictionaries, also written as ``dict(key=value)``. Classes stand in the file by their
    dotted names, which are returned as text. Nothing is executed.

    Args:
        path: The file.

    Raises:
        NotPlainError: The file holds anything else.
        SyntaxError: The file is no Python.
        OSError: The file cannot be read.
    """
    try:
        tree = ast.parse(Path(path).read_text(encoding='utf-8'))
        result: dict[str, Any] = {}
        for node in tree.body:
            if isinstance(node, ast.Assign) and all(
                isinstance(target, ast.Name) for target in node.targets
            ):
                value = _value(node.value)
                result.update(
                    (target.id, value) for target in node.targets if isinstance(target, ast.Name)
                )
            elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Dict):
                # MMEngine writes a config with keys that are no names as one dict.
                result.update(_value(node.value))
            elif not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
                raise _refused(node)
    except (RecursionError, MemoryError) as error:
        raise NotPlainError('it is nested too deeply') from error
    return result


def read_literal(text: str) -> Any:
    """Return the plain value that a text holds, such as ``dict(type='Dice', weight=[1, 2])``.

    Args:
        text: A value as files of :func:`read_literals` have them. Names of classes are refused,
            so that ``true`` is no text.

    Raises:
        NotPlainError: The text holds anything else.
        SyntaxError: The text is no Python.
    """
    try:
        root = ast.parse(text.strip(), mode='eval').body
        for node in ast.walk(root):
            if isinstance(node, ast.Name) and node.id not in _NAMES:
                raise _refused(node)
        return _value(root)
    except (RecursionError, MemoryError) as error:
        raise NotPlainError('it is nested too deeply') from error


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant) and node.value is not ...:
        return node.value
    if isinstance(node, ast.List):
        return [_value(inner) for inner in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_value(inner) for inner in node.elts)
    if isinstance(node, ast.Set):
        return {_hashable(inner) for inner in node.elts}
    if isinstance(node, ast.Dict) and None not in node.keys:
        return {
            _hashable(key): _value(value)
            for key, value in zip(node.keys, node.values, strict=True)
            if key is not None
        }
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return _call(node, node.func.id)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        number = _value(node.operand)
        if isinstance(number, (int, float)) and not isinstance(number, bool):
            return -number if isinstance(node.op, ast.USub) else number
    if isinstance(node, (ast.Name, ast.Attribute)):
        name = _dotted(node)
        return _NOT_FINITE.get(name, name)
    raise _refused(node)


def _hashable(node: ast.expr) -> Any:
    value = _value(node)
    try:
        hash(value)
    except TypeError:
        raise _refused(node) from None
    return value


def _call(node: ast.Call, name: str) -> Any:
    """Return the value of ``dict(...)``, ``float('inf')`` or ``set()``; refuse other calls."""
    given = [_value(inner) for inner in node.args]
    named = {
        keyword.arg: _value(keyword.value) for keyword in node.keywords if keyword.arg is not None
    }
    whole = len(named) == len(node.keywords)
    if (
        name == 'dict'
        and whole
        and len(given) <= 1
        and all(isinstance(value, dict) for value in given)
    ):
        return {**(given[0] if given else {}), **named}
    if (
        name == 'float'
        and not node.keywords
        and len(given) == 1
        and isinstance(given[0], (str, int, float))
    ):
        return float(given[0])
    if name == 'set' and not node.keywords and not given:
        return set()
    raise _refused(node)


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f'{_dotted(node.value)}.{node.attr}'
    if isinstance(node, ast.Name):
        return node.id
    raise _refused(node)


def _refused(node: ast.AST) -> NotPlainError:
    text = ' '.join(ast.unparse(node).split())
    shown = text if len(text) <= 60 else f'{text[:57]}...'
    return NotPlainError(f'line {getattr(node, "lineno", "?")} is not a plain value: {shown}')
