"""Render the report of a walk, or a comparison of several.

mmseg-cil report WORK_DIR
mmseg-cil report WORK_DIR OTHER_WORK_DIR ... [--out DIR] [--allow-mixed]
mmseg-cil report WORK_DIR OTHER_WORK_DIR ... --vary method.regularisers.0.loss_weight
"""

from __future__ import annotations

import argparse

from mmseg_cil.utils.cli import ToolParser


def make_parser(prog: str | None = None) -> ToolParser:
    """Return the parser of the command line."""
    parser = ToolParser(
        prog=prog,
        description='Tables and plots of a walk; with several work directories, a comparison.',
    )
    parser.add_argument(
        'work_dirs', nargs='+', metavar='WORK_DIR',
        help='folder of a walk, finished or not; differences are to the first',
    )  # fmt: skip
    parser.add_argument('--out', metavar='DIR', help='where to write (WORK_DIR/report)')
    parser.add_argument(
        '--allow-mixed', action='store_true', help='compare walks over different protocols'
    )
    parser.add_argument(
        '--vary', metavar='KEY',
        help='add table and curve of the results by a number of the configs, a dotted key such as '
        'method.regularisers.0.loss_weight; runs without it are drawn as level lines',
    )  # fmt: skip
    return parser


def run(args: argparse.Namespace) -> None:
    """Render the report or the comparison that the command line names.

    Raises:
        InputError: There is no walk, or the walks cannot be compared.
    """
    from mmseg_cil.visualization.report import render_comparison, render_report

    if len(args.work_dirs) == 1 and args.vary is None:
        page = render_report(args.work_dirs[0], args.out)
    else:
        page = render_comparison(args.work_dirs, args.out, args.allow_mixed, args.vary)
    print(f'report: {page}')
