"""Walk all steps of a protocol: train, evaluate and report each.

    mmseg-cil train CONFIG [--work-dir DIR] [--resume | --overwrite] [--steps 0-2]
                    [--start-from WORK_DIR[:K] | --checkpoint CONFIG CHECKPOINT]
                    [--amp] [--as-published]
                    [--cfg-options key=value ...]
    mmseg-cil train --method plop --protocol voc_15-1 [--dataset voc12aug]
                    [--model deeplabv3_r101-d16] [--schedule voc] ...

The second form composes the config from the files of these names in
``configs/_base_``; dataset, model and schedule follow from the protocol where
they are not given. Beside a CONFIG, such an option replaces that part of it.
``--as-published`` turns the settings of the papers on. ``--print-config`` shows the result
and does nothing else; ``--print-step-config K`` shows the config that the walk derives for step K.

Several processes: ``tools/dist_train.sh CONFIG GPUS`` (torchrun; on CPUs too) or
``tools/slurm_train.sh`` of a checkout, or ``torchrun --nproc_per_node=GPUS -m mmseg_cil train
CONFIG --launcher pytorch``; CONFIG may be - where a config is composed.
Exit status: 0 done, 2 wrong usage or input, 130 after Ctrl-C and 143 after SIGTERM or SIGUSR1
(which save the state and go on with --resume), 1 failure.
"""

from __future__ import annotations

import argparse
import os

from mmseg_cil.utils.cli import ToolParser, add_config_options


def make_parser(prog: str | None = None) -> ToolParser:
    """Return the parser of the command line."""
    parser = ToolParser(
        prog=prog,
        description='Walk all steps of an incremental schedule.',
        epilog='For example: --method mib --protocol voc_15-1 --work-dir work_dirs/mib. '
        'The methods are the files in configs/_base_/methods.',
    )
    parser.add_argument('config', nargs='?', help='config file; none, or -, with --method')
    _add_config_parts(parser)
    _add_beginnings(parser)
    _add_ways_to_run(parser)
    return parser


def _add_config_parts(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose the config to walk, or only show it."""
    parts = parser.add_argument_group('parts of the config, by name in configs/_base_')
    parts.add_argument('--method', help='such as plop')
    parts.add_argument('--protocol', help='such as voc_15-1, or any other X-Y')
    parts.add_argument('--dataset', help="such as voc12aug [the protocol's]")
    parts.add_argument('--model', help='such as deeplabv3_r101-d16 [the one of the papers]')
    parts.add_argument('--schedule', help="such as voc [the dataset's, or the method's for it]")
    parser.add_argument(
        '--as-published',
        action='store_true',
        help="the papers' network, crops, test geometry, schedule and rules for "
        'method and protocol; the log names what still differs',
    )
    parser.add_argument('--print-config', action='store_true', help='print the config and end')
    parser.add_argument(
        '--print-step-config',
        type=int,
        metavar='STEP',
        help="print a step's config, each line with what has set it, and end",
    )


def _add_beginnings(parser: argparse.ArgumentParser) -> None:
    """Add the options for the folder of a walk, and for its beginning."""
    parser.add_argument('--work-dir', help='where everything goes [work_dirs/<config name>]')
    parser.add_argument(
        '--resume', action='store_true', help='go on with the walk in the work directory, mid-step'
    )
    parser.add_argument(
        '--overwrite',
        action='store_true',
        help='begin anew where the work directory holds a walk, which is removed',
    )
    parser.add_argument(
        '--accept-changes',
        action='store_true',
        help='resume although protocol, method or schedule were changed',
    )
    parser.add_argument(
        '--break-lock',
        action='store_true',
        help='take the work directory from a process of another machine that has died',
    )
    parser.add_argument('--steps', help="only these steps, e.g. '0', '0-2' or '1,3'")
    parser.add_argument(
        '--start-from',
        metavar='WORK_DIR[:K]',
        help='take steps 0..K (0 by default) over from another run',
    )
    parser.add_argument(
        '--checkpoint',
        nargs=2,
        metavar=('CONFIG', 'CHECKPOINT'),
        help='step 0 is this network of MMSegmentation, trained elsewhere',
    )


def _add_ways_to_run(parser: argparse.ArgumentParser) -> None:
    """Add the options for the way to run a walk."""
    add_config_options(parser)
    parser.add_argument('--amp', action='store_true', help='mixed precision (on CPUs in bfloat16)')
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='what started the processes; dist_train.sh, slurm_train.sh set it',
    )
    parser.add_argument(
        '--no-rehearsal',
        action='store_true',
        help='do not try a batch of the first and the last step before training',
    )
    parser.add_argument('--no-report', action='store_true', help='do not render the report')
    # Older versions of torchrun pass this option; newer ones set the variable.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> None:
    """Walk the steps.

    Raises:
        InputError: Something the user gave is wrong.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    from mmseg_cil.engine.commands import train

    train(args)
