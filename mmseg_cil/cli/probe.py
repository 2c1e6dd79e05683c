"""Tell whether a walk's networks, or only their classifiers, forgot the old classes.

    mmseg-cil probe WORK_DIR [--iters 500] [--cfg-options key=value ...]

For each finished step the network stands still, and a new linear (1x1) classifier of its embedding
is trained on the training images of all steps so far, with the labels of all their classes. It is
tested on the step's test images, and its mIoU stands beside the step's own. WORK_DIR/probe.json is
written, and nothing else.
Exit status: 0 done, 2 wrong usage or input, 1 failure.
"""

from __future__ import annotations

import argparse

from mmseg_cil.utils.cli import ToolParser, add_config_options


def make_parser(prog: str | None = None) -> ToolParser:
    """Return the parser of the command line."""
    parser = ToolParser(
        prog=prog,
        description='Train a new linear classifier on the frozen network of each step, with the '
        'labels of all classes so far, and print its mIoU beside that of the step: if it finds the '
        'old classes again, only the classifier forgot them. Writes WORK_DIR/probe.json.',
    )
    parser.add_argument('work_dir', help='work directory of the walk')
    parser.add_argument(
        '--iters', type=int, default=500, help='batches that each probe is trained on [500]'
    )
    parser.add_argument('--lr', type=float, default=0.01, help='learning rate of Adam [0.01]')
    parser.add_argument('--seed', type=int, default=0, help='seed of the images and crops [0]')
    parser.add_argument(
        '--config', help="config file, which is code [the walk's own copy, read as data]"
    )
    add_config_options(parser)
    return parser


def run(args: argparse.Namespace) -> None:
    """Probe the steps, and print the table.

    Raises:
        InputError: Something the user gave is wrong.
    """
    from mmseg_cil.engine.commands import probe
    from mmseg_cil.visualization.probe import probe_table

    print(probe_table(probe(args)).to_text())
    print(f'written: {args.work_dir}/probe.json')
