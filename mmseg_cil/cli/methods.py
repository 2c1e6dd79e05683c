"""List the methods, one line each: ``mmseg-cil methods``.

A method is a file in ``configs/_base_/methods``; ``--method NAME`` of ``mmseg-cil train`` takes
its name. The files are part of the installed package; ``--path`` prints their folder.
"""

from __future__ import annotations

import argparse
import ast
from pathlib import Path

from mmseg_cil.utils.cli import ToolParser
from mmseg_cil.utils.shipped import CONFIGS


def make_parser(prog: str | None = None) -> ToolParser:
    """Return the parser of the command line."""
    parser = ToolParser(prog=prog, description='List the methods that --method takes.')
    parser.add_argument('--path', action='store_true', help='print the folder of their files')
    return parser


def run(args: argparse.Namespace) -> None:
    """Print the list, or the folder."""
    folder = CONFIGS / '_base_' / 'methods'
    if args.path:
        print(folder)
        return
    methods = listed(folder)
    width = max(map(len, methods), default=0)
    for name, line in methods.items():
        print(f'{name:<{width}}  {line}')


def listed(folder: Path) -> dict[str, str]:
    """Return the first line of each piece's docstring by the name of the method.

    Args:
        folder: Folder of the pieces.
    """
    return {path.stem: _first_line(path) for path in sorted(folder.glob('*.py'))}


def _first_line(path: Path) -> str:
    """Return the first line of a file's docstring, without running the file."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding='utf-8'))) or ''
    return text.partition('\n')[0]
