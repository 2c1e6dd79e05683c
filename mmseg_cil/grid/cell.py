"""A walk of a grid in a process of its own: ``python -m mmseg_cil.grid.cell CONFIG WORK_DIR``.

The process does the same as ``mmseg-cil train CONFIG --work-dir WORK_DIR --resume``, with its exit
statuses.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import sys
import time
from pathlib import Path

from mmseg_cil.utils.cli import ToolParser, run_tool

#: Option of Linux's prctl that sets the signal sent to a process when its parent has died.
_PR_SET_PDEATHSIG = 1
#: Seconds for which a cell waits for the end of a former process of its own.
_PATIENCE = 600.0


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = ToolParser(description='Walk one cell of a grid.')
    parser.add_argument('config')
    parser.add_argument('work_dir')
    parser.add_argument('--start-from', help='the work directory whose step 0 is taken over')
    parser.add_argument('--steps', help='only these steps')
    parser.add_argument('--threads', type=int, help='threads of PyTorch')
    parser.add_argument('--parent', type=int, help='process whose death ends this one, too')
    parser.add_argument('--report', action='store_true', help='render the report')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Walk, or go on with a walk.

    Raises:
        InputError: See :func:`~mmseg_cil.engine.commands.train`.
    """
    args = parse_args(argv)
    if args.parent:
        _end_with(args.parent)
    if args.threads:
        import torch

        torch.set_num_threads(args.threads)
    from mmseg_cil.engine.commands import train
    from mmseg_cil.engine.config.compose import KINDS

    _wait_for_former(Path(args.work_dir))
    pieces = dict.fromkeys(KINDS)
    train(
        argparse.Namespace(
            **pieces,
            config=args.config,
            cfg_options={},
            amp=False,
            print_config=False,
            work_dir=args.work_dir,
            resume=True,
            accept_changes=False,
            start_from=args.start_from,
            steps=args.steps,
            launcher='none',
            no_report=not args.report,
        )
    )


def _end_with(parent: int) -> None:
    """Let this process save its state and end when the process that started it has died."""
    if sys.platform == 'linux':
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def _wait_for_former(work_dir: Path) -> None:
    """Wait while a process of a killed grid is still saving its state in the work directory."""
    from mmseg_cil.engine.record.lock import holder_of

    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        holder = holder_of(work_dir)
        if holder is None or holder.is_dead() is not False:
            return
        time.sleep(0.5)


if __name__ == '__main__':
    run_tool(main, goes_on='the grid goes on with the same command')
