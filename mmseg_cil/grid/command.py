"""The command ``mmseg-cil grid``, which reads a grid, walks its cells and makes tables."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmseg_cil.errors import InputError
from mmseg_cil.grid.asked import asked_of, read_value
from mmseg_cil.grid.cluster import CLUSTERS, ClusterExecutor
from mmseg_cil.grid.executors import Executor, LocalExecutor
from mmseg_cil.grid.references import NAMES
from mmseg_cil.grid.run import make_tables, walk_grid
from mmseg_cil.utils.cli import ToolParser, add_config_options


def make_parser(prog: str = 'grid.py') -> ToolParser:
    """Return the parser of the command line."""
    parser = ToolParser(
        prog=prog,
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
    cells.add_argument(
        '--references', nargs='*', choices=NAMES,
        help='walk joint training and a network that learns nothing after step 0 beside the '
        'methods [both]',
    )  # fmt: skip
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
    _add_place(parser)
    return parser


def _add_place(parser: ToolParser) -> None:
    where = parser.add_argument_group('where the walks run')
    where.add_argument('--workers', type=int, help='walks at a time [1; all on a cluster]')
    where.add_argument('--threads-per-worker', type=int, help='[cores / workers; 1 on a cluster]')
    where.add_argument('--gpus', help='such as 0,1: the GPUs that the workers have in turn')
    where.add_argument(
        '--cluster', choices=CLUSTERS,
        help='jobs by submitit: on Slurm, or, to try it, in local processes or in this one',
    )  # fmt: skip
    where.add_argument(
        '--cluster-options', nargs='+', default=[], metavar='KEY=VALUE',
        help="of submitit's update_parameters, such as timeout_min=600 slurm_partition=gpu",
    )  # fmt: skip


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    args: argparse.Namespace = make_parser().parse_args(argv)
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Walk the grid of a command line.

    Args:
        argv: Arguments; None: those of the process.

    Returns:
        0, or 1 where a cell has failed.

    Raises:
        InputError: Something the user gave is wrong; nothing was run.
    """
    return run(parse_args(argv))


def run(args: argparse.Namespace) -> int:
    """Walk the grid that was asked for.

    Args:
        args: Arguments from :func:`parse_args`.

    Returns:
        0, or 1 where a cell has failed.

    Raises:
        InputError: Something the user gave is wrong; nothing was run.
    """
    if args.references == []:
        args.references = True
    if args.tables:
        print(make_tables(Path(args.tables), args.baseline, args.every_step))
        return 0
    asked = asked_of(args)
    return walk_grid(asked, executor_of(args, asked.work_dir))


def executor_of(args: argparse.Namespace, work_dir: Path) -> Executor:
    """Return the executor of the walks.

    Args:
        args: Arguments from :func:`parse_args`.
        work_dir: Work directory of the grid.

    Raises:
        InputError: A number is too small, options contradict each other, or the cluster that is
            asked for cannot be used.
    """
    for name, value in (
        ('--workers', args.workers),
        ('--threads-per-worker', args.threads_per_worker),
    ):
        if value is not None and value < 1:
            raise InputError(f'{name} {value}: give a number of at least 1')
    if args.cluster is None:
        if args.cluster_options:
            raise InputError('--cluster-options are for --cluster, which is missing')
        workers = args.workers or 1
        threads = args.threads_per_worker or max(1, _cores() // workers)
        return LocalExecutor(workers, threads, _gpus(args.gpus))
    if args.gpus:
        raise InputError(
            '--gpus is for workers of this machine; on a cluster: --cluster-options gpus_per_node=1'
        )
    options = dict(map(_option, args.cluster_options))
    return ClusterExecutor(
        work_dir / 'submitit', args.cluster, args.workers, args.threads_per_worker or 1, options
    )


def _cores() -> int:
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _option(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition('=')
    if not equals or not key or not value:
        raise InputError(f'--cluster-options {text}: write KEY=VALUE, such as timeout_min=600')
    return key, read_value(value)


def _gpus(text: str | None) -> list[str] | None:
    if text is None:
        return None
    gpus = [gpu.strip() for gpu in text.split(',')]
    if not all(gpus):
        raise InputError(f'--gpus {text}: give the numbers of GPUs, such as 0,1')
    return gpus
