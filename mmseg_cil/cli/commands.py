"""The table of the subcommands, which help, completion and the entry point read."""

from __future__ import annotations

import argparse
import difflib
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mmseg_cil.errors import InputError
from mmseg_cil.utils.cli import ToolParser

#: The name of the command.
PROGRAM = 'mmseg-cil'


@dataclass(frozen=True)
class Command:
    """A subcommand.

    Attributes:
        module: Module of the subcommand in :mod:`mmseg_cil.cli`.
        help: Line of the subcommand in the list of all subcommands.
        goes_on: Advice on going on after a signal, for :func:`mmseg_cil.utils.cli.run_tool`.
    """

    module: str
    help: str
    goes_on: str = ''

    def make_parser(self, prog: str | None = None) -> ToolParser:
        """Return the parser of the command line.

        Args:
            prog: Name in usage lines; None: that of the process.
        """
        parser: ToolParser = self._part('make_parser')(prog)
        return parser

    def run(self, args: argparse.Namespace) -> int | None:
        """Do the work, and return the exit status, where None means 0."""
        status: int | None = self._part('run')(args)
        return status

    def call(self, argv: Sequence[str] | None = None, prog: str | None = None) -> int | None:
        """Read a command line and do the work.

        Args:
            argv: Arguments; None: those of the process.
            prog: Name in usage lines; None: that of the process.

        Raises:
            InputError: The arguments, or what they name, are wrong.
        """
        return self.run(self.make_parser(prog).parse_args(argv))

    def _part(self, name: str) -> Callable[..., Any]:
        part: Callable[..., Any] = getattr(
            importlib.import_module(f'mmseg_cil.cli.{self.module}'), name
        )
        return part


#: All subcommands by name, in the order of the help.
COMMANDS = {
    'train': Command('train', 'walk all steps of a protocol', 'go on with --resume'),
    'extend': Command('extend', 'teach a trained network new classes', 'go on with --resume'),
    'test': Command('test', 'evaluate the steps of a walk again'),
    'probe': Command('probe', 'tell what the networks of a walk still know of old classes'),
    'report': Command('report', 'render the report of a walk, or compare several'),
    'grid': Command(
        'grid', 'walk methods x protocols x seeds, and make a table', 'the same command goes on'
    ),
    'methods': Command('methods', 'list the methods'),
    'protocols': Command('protocols', 'list the protocols, or print the steps of one'),
    'new-method': Command('new_method', 'write the skeleton of a method of your own'),
    'demo': Command('demo', 'walk a short schedule, no download', 'start the demo again to go on'),
    'completion': Command('completion', 'print the completion script of a shell'),
}


def find_command(name: str) -> Command:
    """Return a subcommand by its name.

    Raises:
        InputError: There is no subcommand of this name.
    """
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, 1, 0.5)
        hint = f'did you mean {close[0]}? ' if close else ''
        raise InputError(
            f'{PROGRAM} has no command {name!r}: {hint}there are {", ".join(COMMANDS)}'
        )
    return COMMANDS[name]
