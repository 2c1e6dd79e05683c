"""The entry point of ``mmseg-cil``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from mmseg_cil import __version__
from mmseg_cil.cli.commands import COMMANDS, PROGRAM, find_command
from mmseg_cil.utils.cli import ToolParser, run_tool


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run a subcommand and end the process with its exit status.

    Args:
        argv: Arguments; None: those of the process.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    command = COMMANDS.get(words[0]) if words else None

    def call() -> int | None:
        if not words or words[0].startswith('-'):
            return _without_command(words)
        return find_command(words[0]).call(words[1:], f'{PROGRAM} {words[0]}')

    run_tool(call, goes_on=command.goes_on if command else '')


def make_parser() -> ToolParser:
    """Return the parser of the command line in front of the subcommands."""
    width = max(map(len, COMMANDS))
    lines = [f'  {name:<{width}}  {command.help}' for name, command in COMMANDS.items()]
    parser = ToolParser(
        prog=PROGRAM,
        usage=f'{PROGRAM} [-h] [--version] COMMAND ...',
        description='Class- and domain-incremental semantic segmentation on MMSegmentation.',
        epilog='\n'.join(
            ['commands:', *lines, '', f'{PROGRAM} COMMAND --help tells the options of a command.']
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--version', action='version', version=f'{PROGRAM} {__version__}')
    return parser


def _without_command(words: Sequence[str]) -> int:
    parser = make_parser()
    parser.parse_args(words)
    if not words:
        parser.print_help(sys.stderr)
    return 2
