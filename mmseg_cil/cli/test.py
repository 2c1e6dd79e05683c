"""Re-evaluate the steps of a walk from their checkpoints.

    mmseg-cil test WORK_DIR [--step 3] [--cfg-options key=value ...]

The command uses the walk's own copy of its config. Scores are those that training
wrote, unless the data or an evaluation option changed; metrics.json is rewritten.
Exit status: 0 done, 2 wrong usage or input, 1 failure.
"""

from __future__ import annotations

import argparse
import os

from mmseg_cil.utils.cli import ToolParser, add_config_options


def make_parser(prog: str | None = None) -> ToolParser:
    """Return the parser of the command line."""
    parser = ToolParser(prog=prog, description='Re-evaluate the steps of a walk.')
    parser.add_argument('work_dir', help='work directory of the walk')
    parser.add_argument('--step', type=int, help='only this step [all that are done]')
    parser.add_argument(
        '--config', help="config file, which is code [the walk's own copy, read as data]"
    )
    parser.add_argument('--dry-run', action='store_true', help='print, but write nothing')
    parser.add_argument(
        '--break-lock',
        action='store_true',
        help='take the work directory from a process of another machine that has died',
    )
    add_config_options(parser)
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    return parser


def run(args: argparse.Namespace) -> None:
    """Evaluate the steps.

    Raises:
        InputError: Something the user gave is wrong.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    from mmseg_cil.engine.commands import test

    test(args)
