"""Teach a trained network new classes: ``mmseg-cil extend CONFIG CHECKPOINT ...``.

    mmseg-cil extend old.py old.pth --images new/images --masks new/masks \
        --new-classes horse --new-classes sheep --ids horse=1 sheep=7 --void-ids 11 \
        --test-images ... --test-masks ... --method mib --iterations 2000 --work-dir OUT

CONFIG and CHECKPOINT are of MMSegmentation; the images that the network was trained on are not
needed. The masks hold the new classes alone; what they leave unlabelled (0) is background, or is
ignored where the network has no background. Each ``--new-classes`` is a step. The config of the
walk is written to ``OUT/extension.py``, and ``mmseg-cil train OUT/extension.py`` takes it with
changes of yours. Exit status: as of ``mmseg-cil train``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mmseg_cil.errors import InputError
from mmseg_cil.utils.cli import ToolParser


def make_parser(prog: str | None = None) -> ToolParser:
    """Return the command line."""
    parser = ToolParser(prog=prog, description='Teach a trained network new classes.')
    parser.add_argument('config', help='config that the network was trained with')
    parser.add_argument('checkpoint', help='its weights')
    new = parser.add_argument_group('new data')
    new.add_argument('--images', type=Path, required=True, help='folder of the new images')
    new.add_argument('--masks', type=Path, required=True, help='folder of their masks')
    new.add_argument('--test-images', type=Path, help='images to score on [the new images]')
    new.add_argument('--test-masks', type=Path, help='their masks')
    new.add_argument(
        '--new-classes', nargs='+', action='append', required=True, metavar='CLASS',
        help='classes of a step; given again: of one more step',
    )  # fmt: skip
    new.add_argument(
        '--ids', nargs='+', default=[], metavar='CLASS=ID',
        help='what the masks hold for a class [1, 2, ... in order]',
    )  # fmt: skip
    new.add_argument(
        '--void-ids', nargs='+', type=int, default=[], metavar='ID',
        help='what masks hold, besides 255, for pixels of no class',
    )  # fmt: skip
    parser.add_argument(
        '--classes', nargs='+', default=[], metavar='CLASS',
        help="the network's classes in the order of its outputs [the checkpoint's]",
    )  # fmt: skip
    parser.add_argument(
        '--method', help='such as plop [mib for a network with a background, else lwf]'
    )
    parser.add_argument('--iterations', type=int, help="of each step [the config's]")
    parser.add_argument('--lr', type=float, help="learning rate of each step [the config's]")
    parser.add_argument('--work-dir', type=Path, required=True, help='where everything goes')
    parser.add_argument('--resume', action='store_true', help='go on with the walk that is there')
    parser.add_argument('--overwrite', action='store_true', help='begin anew')
    parser.add_argument('--no-report', action='store_true', help='do not render the report')
    return parser


def run(args: argparse.Namespace) -> None:
    """Write the config and walk it.

    Raises:
        InputError: Something the user gave is wrong; nothing was trained.
    """
    ids = dict(map(_id, args.ids))
    if bool(args.test_images) != bool(args.test_masks):
        raise InputError('--test-images and --test-masks go together: give both, or none')
    from mmseg_cil.engine.commands import run_walk, settled_config
    from mmseg_cil.engine.config.extension import Extension, ImagesAndMasks
    from mmseg_cil.engine.extend import write_config
    from mmseg_cil.utils.quiet import quieten_warnings

    quieten_warnings()
    test = ImagesAndMasks(args.test_images, args.test_masks) if args.test_images else None
    extension = Extension(
        args.config,
        args.checkpoint,
        args.new_classes,
        ImagesAndMasks(args.images, args.masks),
        test,
        ids,
        args.void_ids,
        args.classes,
        args.method or '',
        args.iterations,
        args.lr,
    )
    cfg = write_config(extension, args.work_dir, args.resume, args.overwrite)
    if test is None:
        print('note: without --test-images the scores are of the images that are trained on')
    run_walk(
        settled_config(cfg, {}),
        args.work_dir,
        resume=args.resume,
        overwrite=args.overwrite,
        report=not args.no_report,
    )


def _id(text: str) -> tuple[str, int]:
    name, equals, value = text.rpartition('=')
    if not equals or not name or not value.isascii() or not value.isdigit():
        raise InputError(f'--ids {text}: write CLASS=ID, such as horse=1')
    return name, int(value)
