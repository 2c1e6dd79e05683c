"""Readable text of configs without yapf, which takes up to seconds for a config."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from mmengine.config import Config

from mmseg_cil.utils.deferred import deferred

_WIDTH, _INDENT = 100, 4
#: The modules that MMEngine imports for a config's text, whether it formats the text or not.
_FORMATTERS = {'yapf': (), 'yapf.yapflib.yapf_api': ('FormatCode',)}


class _Unformatted(Config):
    """A config whose text is not formatted."""

    @property
    def pretty_text(self) -> str:
        """Return the text as MMEngine makes it, without importing its formatter."""
        with deferred(_FORMATTERS):
            text: str = super().pretty_text
        return text


def config_text(cfg: Config) -> str:
    """Return the Python text of a config, in lines of at most 100 characters where possible.

    The text has the same content as the config's ``pretty_text``.

    Args:
        cfg: The config.
    """
    return with_line_breaks(without_yapf(cfg).pretty_text)


def without_yapf(cfg: Config) -> Config:
    """Return the config with a text that is valid Python, but not formatted by yapf.

    MMEngine asks for the text at the beginning of a step and at every checkpoint.
    """
    # Without a text Config would open the file.
    return _Unformatted(
        cfg._cfg_dict, cfg_text=cfg.text or '#', filename=cfg.filename, format_python_code=False
    )


def with_line_breaks(text: str) -> str:
    """Return assignments in Python with line breaks between the parts of long values.

    Args:
        text: Python text without comments, which would be lost.

    Example:
        >>> with_line_breaks(f'numbers = {list(range(40))}').splitlines()[:2]
        ['numbers = [', '    0,']
    """
    return ''.join(f'{_statement(node)}\n' for node in ast.parse(text).body)


def _statement(node: ast.stmt) -> str:
    if isinstance(node, ast.Assign):
        start = ''.join(f'{ast.unparse(target)} = ' for target in node.targets)
        return start + _value(node.value, 0, len(start))
    return ast.unparse(node)


def _value(node: ast.expr, indent: int, used: int) -> str:
    """Return the text of a value that begins after ``used`` characters of a line."""
    flat = ast.unparse(node)
    parts = list(_parts(node))
    if used + len(flat) < _WIDTH or not parts:
        return flat
    inner = indent + _INDENT
    lines = [
        f'{" " * inner}{start}{_value(child, inner, inner + len(start))},\n'
        for start, child in parts
    ]
    opening, closing = _brackets(node)
    return f'{opening}\n{"".join(lines)}{" " * indent}{closing}'


def _parts(node: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    """Yield the parts of a compound value, each with the text before it."""
    if isinstance(node, ast.Call):
        yield from (('', argument) for argument in node.args)
        for keyword in node.keywords:
            yield (f'{keyword.arg}=' if keyword.arg else '**'), keyword.value
    elif isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            yield ('**' if key is None else f'{ast.unparse(key)}: '), value
    elif isinstance(node, (ast.List, ast.Tuple, ast.Set)):
        yield from (('', element) for element in node.elts)


def _brackets(node: ast.expr) -> tuple[str, str]:
    if isinstance(node, ast.Call):
        return f'{ast.unparse(node.func)}(', ')'
    if isinstance(node, ast.List):
        return '[', ']'
    return ('(', ')') if isinstance(node, ast.Tuple) else ('{', '}')
