"""Walk methods x protocols x seeds x settings, and put the scores in one table.

    mmseg-cil grid CONFIG --methods finetune mib plop vdfd --protocols voc_15-1 \
        --seeds 1 2 3 --work-dir DIR [--workers 2] [--threads-per-worker 1] [--gpus 0,1]
        [--set [METHOD:]KEY=VALUE[,VALUE...] ...] [--baseline mib] [--cfg-options key=value ...]
    mmseg-cil grid --tables DIR

The same command goes on with what is unfinished. Exit status: 0 done, 1 a cell has failed
(the others are walked), 2 wrong usage or input, 130 after Ctrl-C and 143 after SIGTERM or
SIGUSR1, when the walks have saved their states.
"""

from __future__ import annotations

import argparse

from mmseg_cil.utils.cli import ToolParser


def make_parser(prog: str | None = None) -> ToolParser:
    """Return the parser of the command line."""
    from mmseg_cil.grid.command import make_parser

    return make_parser(prog or 'grid.py')


def run(args: argparse.Namespace) -> int:
    """Walk the grid, and return 1 if a cell has failed, else 0.

    Raises:
        InputError: Something the user gave is wrong; nothing was run.
    """
    from mmseg_cil.grid.command import run

    return run(args)
