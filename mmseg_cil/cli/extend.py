"""Teach a trained network new classes or a new domain: ``mmseg-cil extend CONFIG CHECKPOINT ...``.

    mmseg-cil extend old.py old.pth --images new/images --masks new/masks \
        --new-classes horse --new-classes sheep --ids horse=1 sheep=7 --void-ids 11 \
        --test-images ... --test-masks ... --method mib --iterations 2000 --work-dir OUT
    mmseg-cil extend OUT --images more/images --masks more/masks --new-classes cow

CONFIG and CHECKPOINT come from MMSegmentation; the images that the network was trained on are not
needed. The masks hold the new classes alone, or old ones too; pixels that they leave unlabelled (0)
are background, or one of the old classes where the network has no background. Each
``--new-classes`` is a step. The config of the walk is written to ``OUT/extension.py``, and
``mmseg-cil train OUT/extension.py`` takes it with changes of yours. With the folder of a finished
walk in place of both files, the walk goes on. The exit status is that of ``mmseg-cil train``.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mmseg_cil.errors import InputError
from mmseg_cil.utils.cli import ToolParser

if TYPE_CHECKING:
    from mmseg_cil.engine.config.new_data import NewData


def make_parser(prog: str | None = None) -> ToolParser:
    """Return the parser of the command line."""
    parser = ToolParser(
        prog=prog, description='Teach a trained network new classes, or a new domain.'
    )
    parser.add_argument(
        'config', help='config that the network was trained with, or the folder of a finished walk'
    )
    parser.add_argument('checkpoint', nargs='?', help='its weights; none beside a folder')
    _add_data(parser)
    parser.add_argument(
        '--classes', nargs='+', default=[], metavar='CLASS',
        help="the network's classes in the order of its outputs [the checkpoint's]",
    )  # fmt: skip
    parser.add_argument(
        '--old-test', action='store_true', help="score on the test images of CONFIG's data too"
    )
    parser.add_argument('--method', help='such as plop [mib]')
    parser.add_argument('--iterations', type=int, help="of each step [the config's]")
    parser.add_argument('--lr', type=float, help="learning rate of each step [the config's]")
    parser.add_argument(
        '--work-dir', type=Path, help='where everything goes; of a finished walk: its folder'
    )
    parser.add_argument('--resume', action='store_true', help='go on with the walk that is there')
    parser.add_argument('--overwrite', action='store_true', help='begin anew')
    parser.add_argument('--no-report', action='store_true', help='do not render the report')
    return parser


def _add_data(parser: ToolParser) -> None:
    new = parser.add_argument_group('new data')
    new.add_argument('--images', type=Path, help='folder of the new images')
    new.add_argument('--masks', type=Path, help='folder of their masks')
    new.add_argument('--test-images', type=Path, help='images to score on [the new images]')
    new.add_argument('--test-masks', type=Path, help='their masks')
    new.add_argument(
        '--data', metavar='CONFIG',
        help='in place of the folders: a config with train_dataloader and test_dataloader',
    )  # fmt: skip
    new.add_argument(
        '--new-classes', nargs='+', action='append', default=[], metavar='CLASS',
        help='classes of a step; given again: of one more step',
    )  # fmt: skip
    new.add_argument('--domain', metavar='NAME', help='no class is new: the images are, as NAME')
    new.add_argument(
        '--ids', nargs='+', default=[], metavar='CLASS=ID',
        help='what the masks hold for a class; a class may have several [1, 2, ... in order]',
    )  # fmt: skip
    new.add_argument(
        '--class-map', nargs='+', default=[], metavar='NAME=CLASS',
        help='with --data: the class that one of its classes is called here',
    )  # fmt: skip
    new.add_argument(
        '--void-ids', nargs='+', type=int, default=[], metavar='ID',
        help='what masks hold, besides 255, for pixels of no class',
    )  # fmt: skip
    new.add_argument(
        '--unlabelled', choices=('background', 'void', 'old'),
        help='what 0 is where it is no class [background, where the network has one; else old]',
    )  # fmt: skip
    new.add_argument(
        '--old-labels', choices=('hidden', 'used'),
        help='labels of classes that the network knows [hidden]',
    )  # fmt: skip
    new.add_argument('--name', help='what the report calls the new data')


def run(args: argparse.Namespace) -> None:
    """Write the config and walk it.

    Raises:
        InputError: Something the user gave is wrong; nothing was trained.
    """
    from mmseg_cil.engine.config.extension import Extension
    from mmseg_cil.engine.config.further_steps import FurtherSteps
    from mmseg_cil.engine.extend import extend_network, extend_walk, refuse_beside_folder
    from mmseg_cil.utils.quiet import quieten_warnings

    quieten_warnings()
    data = _new_data(args)
    if not data.has_test and not args.old_test:
        print('note: without --test-images the scores are of the images that are trained on')
    domain, report = args.domain or '', not args.no_report
    if Path(args.config).is_dir():
        refuse_beside_folder(
            {
                'CHECKPOINT': args.checkpoint,
                '--classes': args.classes,
                '--method': args.method,
                '--old-test': args.old_test,
                '--work-dir': args.work_dir,
                '--overwrite': args.overwrite,
            }
        )
        further = FurtherSteps(
            Path(args.config), args.new_classes, data, domain, args.iterations, args.lr
        )
        extend_walk(further, report=report)
        return
    if args.checkpoint is None or args.work_dir is None:
        raise InputError(
            f'{args.config} is no folder of a walk: give CONFIG, CHECKPOINT and --work-dir'
        )
    extension = Extension(
        args.config,
        args.checkpoint,
        args.new_classes,
        data,
        domain,
        args.classes,
        args.old_test,
        args.method or 'mib',
        args.iterations,
        args.lr,
    )
    extend_network(extension, args.work_dir, args.resume, args.overwrite, report=report)


def _new_data(args: argparse.Namespace) -> NewData:
    from mmseg_cil.engine.config.new_data import NewData
    from mmseg_cil.engine.extend import new_images

    ids: dict[str, list[int]] = {}
    for text in args.ids:
        name, mask_id = _id(text)
        ids.setdefault(name, []).append(mask_id)
    class_map = dict(map(_pair, args.class_map))
    train, test = new_images(args.data, args.images, args.masks, args.test_images, args.test_masks)
    return NewData(
        train,
        test,
        args.name or '',
        ids,
        args.void_ids,
        class_map,
        args.unlabelled or '',
        args.old_labels or '',
    )


def _id(text: str) -> tuple[str, int]:
    name, equals, value = text.rpartition('=')
    if not equals or not name or not value.isascii() or not value.isdigit():
        raise InputError(f'--ids {text}: write CLASS=ID, such as horse=1')
    return name, int(value)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition('=')
    if not equals or not name or not value:
        raise InputError(f'--class-map {text}: write NAME=CLASS, such as motorbike=motorcycle')
    return name, value
