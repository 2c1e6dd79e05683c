"""The command ``tools/grid.py``: reads what is asked, walks the cells, ends in tables."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from mmseg_cil.errors import InputError
from mmseg_cil.grid.asked import asked_of
from mmseg_cil.grid.executors import LocalExecutor
from mmseg_cil.grid.run import walk_grid, write_results
from mmseg_cil.utils.cli import ToolParser, add_config_options


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = ToolParser(
        prog='grid.py',
        description='Walk methods x protocols x seeds x settings, and put the scores in a table.',
        epilog='The same command goes on with a grid that was stopped or extended.',
    )
    parser.add_argument(
        'config', nargs='?', help='config file of a walk, which may have grid=dict(methods=[...])'
    )
    cells = parser.add_argument_group('cells; each goes before what the config says in grid')
    cells.add_argument('--methods', nargs='+', metavar='METHOD', help="[the config's own]")
    cells.add_argument('--protocols', nargs='+', metavar='PROTOCOL', help="[the config's own]")
    cells.add_argument('--seeds', nargs='+', type=int, metavar='SEED')
    cells.add_argument(
        '--set', nargs='+', action='extend', default=[], metavar='[METHOD:]KEY=VALUE[,VALUE...]',
        help='an axis: a key of the config that takes these values, of all methods or of one',
    )  # fmt: skip
    for kind, meaning in (('dataset', 'voc12aug'), ('model', 'fcn_r18-thin'), ('schedule', 'voc')):
        cells.add_argument(f'--{kind}', help=f'part of all configs by name, such as {meaning}')
    add_config_options(parser)
    parser.add_argument('--work-dir', help='where everything goes [work_dirs/grid_<config name>]')
    parser.add_argument('--baseline', help='row that differences are taken to')
    parser.add_argument(
        '--share-step-0', choices=['same', 'any', 'none'],
        help='methods share a step 0 that they would train alike [same], that --start-from can '
        'take over, or none',
    )  # fmt: skip
    parser.add_argument(
        '--allow-refused', action='store_true',
        help='walk the others where a method is refused for a protocol; its cells are shown failed',
    )  # fmt: skip
    parser.add_argument('--every-step', action='store_true', help='a table for each step')
    parser.add_argument(
        '--tables', metavar='DIR', help='make the tables of a grid again from its rows, and end'
    )
    where = parser.add_argument_group('where the walks run')
    where.add_argument('--workers', type=int, default=1, help='walks at a time [1]')
    where.add_argument('--threads-per-worker', type=int, help='[cores / workers]')
    where.add_argument('--gpus', help='such as 0,1: the GPUs that the workers have in turn')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Walk the grid of a command line.

    Args:
        argv: Arguments; None: those of the process.

    Returns:
        0, or 1 where a cell has failed.

    Raises:
        InputError: Something the user gave is wrong; nothing was run.
    """
    args = parse_args(argv)
    if args.tables:
        print(write_results(Path(args.tables), args.baseline, args.every_step))
        return 0
    asked = asked_of(args)
    executor = LocalExecutor(*_room(args.workers, args.threads_per_worker), _gpus(args.gpus))
    return walk_grid(asked, executor)


def _room(workers: int, threads: int | None) -> tuple[int, int]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    for name, value in (('--workers', workers), ('--threads-per-worker', threads)):
        if value is not None and value < 1:
            raise InputError(f'{name} {value}: give a number of at least 1')
    return workers, threads or max(1, (cores or 1) // workers)


def _gpus(text: str | None) -> list[str] | None:
    if text is None:
        return None
    gpus = [one.strip() for one in text.split(',')]
    if not all(gpus):
        raise InputError(f'--gpus {text}: give the numbers of GPUs, such as 0,1')
    return gpus
