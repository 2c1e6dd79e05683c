"""Print the steps of a protocol: classes or domains, spellings, and images per step.

    mmseg-cil protocols
    mmseg-cil protocols voc_11-1
    mmseg-cil protocols voc_15-1 --setting disjoint --data-root data/VOCdevkit/VOC2012
    mmseg-cil protocols --config my_config.py

Without a name, the protocols in common use are listed, one line each. The figures that papers
publish for the protocol are listed below its steps. With --data-root the images are counted as the
shipped dataset config of the protocol's family finds them below that folder; with --config, as that
config does. Exit status: 0 done, 2 wrong usage or input, 1 failure.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import Any

from mmseg_cil.errors import InputError
from mmseg_cil.protocols import NAMED, PRESETS, PROTOCOLS, SETTINGS, Protocol, build_protocol
from mmseg_cil.published_figures import figures_of
from mmseg_cil.utils.cli import ToolParser

#: The datasets whose shipped config --data-root applies to.
COUNTED = tuple(name for name in PROTOCOLS.built() if not PROTOCOLS[name].by_domain)


def make_parser(prog: str | None = None) -> ToolParser:
    """Return the parser of the command line."""
    parser = ToolParser(
        prog=prog,
        description='Print the steps of a protocol.',
        epilog=f'In common use: {", ".join(NAMED)}',
    )
    parser.add_argument('name', nargs='?', help='such as voc_15-1')
    parser.add_argument('--setting', choices=SETTINGS)
    parser.add_argument('--preset', choices=list(PRESETS))
    parser.add_argument('--split', choices=['clean', 'legacy'], help='of Cityscapes by city')
    parser.add_argument('--class-order', help='a seed, or class names separated by commas')
    parser.add_argument('--data-root', type=Path, help='count the images below this folder')
    parser.add_argument('--config', type=Path, help='take protocol and data from this config')
    return parser


def request(args: argparse.Namespace) -> dict[str, Any]:
    """Return the ``protocol`` of a config that the arguments ask for."""
    cfg = {'name': args.name}
    for key in ('setting', 'preset', 'split'):
        if getattr(args, key):
            cfg[key] = getattr(args, key)
    if args.class_order:
        order = args.class_order
        cfg['class_order'] = dict(seed=int(order)) if order.isdecimal() else order.split(',')
    return cfg


def count(cfg: Any) -> tuple[Protocol, dict[str, tuple[int, ...]]]:
    """Return the protocol and the images per step of a config with data."""
    import tempfile

    from mmengine.registry import init_default_scope

    from mmseg_cil.engine.config.first_step import with_first_step
    from mmseg_cil.engine.config.own_data import with_own_data
    from mmseg_cil.engine.preflight.prepare import read_data

    init_default_scope('mmseg_cil')
    cfg = with_own_data(with_first_step(cfg))
    cfg.skip_empty_steps = True
    with tempfile.TemporaryDirectory() as folder:
        protocol, images, *_ = read_data(cfg, folder)
    return protocol, images


def config_of(args: argparse.Namespace) -> Any:
    """Return the config to count with; None where nothing is to be counted."""
    if args.config is None and args.data_root is None:
        return None
    from mmseg_cil.engine.config.compose import BASES, dataset_of
    from mmseg_cil.engine.config.load import load_config

    if args.config is not None:
        cfg = load_config(args.config)
    else:
        protocol = build_protocol(request(args))
        dataset = protocol.taxonomy.dataset
        if dataset not in COUNTED:
            raise InputError(
                f'--data-root knows the layouts of {", ".join(COUNTED)}, not of '
                f'{dataset!r}: use --config'
            )
        cfg = load_config(BASES / 'datasets' / f'{dataset_of(dataset)}.py')
        cfg.protocol = request(args)
    if args.data_root is not None:
        for loader in (cfg.train_dataloader, cfg.test_dataloader):
            loader.dataset.data_root = str(args.data_root)
            _prefer_what_is_there(loader.dataset, args.data_root)
    return cfg


def _prefer_what_is_there(dataset: Any, root: Path) -> None:
    # The SBD-augmented VOC is passed around with one folder of masks for both
    # splits, and with its list under either of two names.
    masks = dataset.data_prefix.get('seg_map_path', '')
    if masks == 'SegmentationClass' and not (root / masks).is_dir():
        dataset.data_prefix.seg_map_path = 'SegmentationClassAug'
    listed = root / dataset.get('ann_file', '')
    if listed.name == 'trainaug.txt' and not listed.is_file():
        dataset.ann_file = str(Path(dataset.ann_file).with_name('aug.txt'))


def lines(protocol: Protocol, images: dict[str, tuple[int, ...]] | None) -> list[str]:
    """Return the printed lines on the steps of a protocol."""
    spelled = protocol.spellings()
    result = [
        f'{protocol.name}: {len(protocol.steps)} steps, {protocol.kind}-incremental, '
        f'{protocol.setting}'
    ]
    if spelled:
        result.append(
            'background counted: {}; foreground only (customary): {}'.format(
                spelled.get('counted', '-'), spelled.get('foreground', '-')
            )
        )
    if getattr(protocol, 'split', None):
        result.append(f'split: {protocol.split}')  # type: ignore[attr-defined]
    result += [
        '',
        f'{"step":>4} {"outputs":>7} ' + (f'{"train":>7} {"test":>6}  ' if images else ' ') + 'new',
    ]
    for step in protocol.steps:
        new = list(step.domains) or protocol.class_names(step.new)
        counts = (
            f'{images["train"][step.index]:>7} {images["test"][step.index]:>6}  ' if images else ' '
        )
        note = '' if protocol.trains(step.index) else '  (not trained: nothing to tell apart)'
        result.append(f'{step.index:>4} {len(step.seen):>7} {counts}{", ".join(new)}{note}')
    return result


def published(protocol: Protocol) -> list[str]:
    """Return the lines of the figures that papers publish for a protocol, whatever its setting."""
    figures = figures_of(protocol.to_dict(), any_setting=True)
    if not figures:
        return []
    cells = [
        (
            figure.method,
            figure.setting,
            *(
                '-' if value is None else f'{value}'
                for value in (figure.old, figure.new, figure.all)
            ),
            figure.describe(),
        )
        for figure in figures
    ]
    return [
        '',
        'published: mIoU (%) after the last step (all settings; not results of this package)',
        f'{"method":<10} {"setting":<10} {"old":>6} {"new":>6} {"all":>6}  source',
        *(
            f'{m:<10} {s:<10} {old:>6} {new:>6} {mean:>6}  {told}'
            for m, s, old, new, mean, told in cells
        ),
    ]


def listed() -> list[str]:
    """Return a line for each protocol in common use: its name, its steps and its kind."""
    width = max(map(len, NAMED))
    lines = [f'{name:<{width}}  {_summary(name)}' for name in NAMED]
    return [
        *lines,
        f'{"embedded_11-5":<{width}}  the embedded data set, no download; any other X-Y too',
    ]


def _summary(name: str) -> str:
    try:
        protocol = build_protocol({'name': name})
    except InputError:
        # Only the data set knows the classes of this protocol.
        return 'its steps follow from the data'
    sizes = [len(step.domains) or len(step.new) for step in protocol.steps]
    unit = 'domains' if protocol.kind == 'domain' else 'classes'
    return (
        f'{len(sizes)} step{"s" * (len(sizes) > 1)} by {protocol.kind}: {_runs(sizes)} new {unit}'
    )


def _runs(sizes: list[int]) -> str:
    """Return sizes as a text, with repeated sizes written once: ``15, 5 x 1``."""
    runs = [(size, len(list(group))) for size, group in itertools.groupby(sizes)]
    return ', '.join(f'{count} x {size}' if count > 1 else f'{size}' for size, count in runs)


def _build(args: argparse.Namespace) -> Protocol:
    """Build the protocol of a name; a family that builds none has the classes of its dataset."""
    family = PROTOCOLS.of(args.name)
    if family is None or family.build or 'dataset' not in family.pieces:
        return build_protocol(request(args))
    from mmengine.registry import init_default_scope

    from mmseg_cil.engine.config.compose import BASES
    from mmseg_cil.engine.config.load import read_unsettled
    from mmseg_cil.registry import DATASETS

    init_default_scope('mmseg_cil')
    piece = read_unsettled(BASES / 'datasets' / f'{family.pieces["dataset"]}.py')
    kind = DATASETS.get(piece.train_dataloader.dataset.type)
    asked = {'dataset': family.name, **request(args)}
    return build_protocol(asked, kind.METAINFO['classes'])


def run(args: argparse.Namespace) -> None:
    """Print the list of protocols, or the steps of one.

    Raises:
        InputError: There is no such protocol, or its data cannot be read.
    """
    if args.name and args.config:
        raise InputError('give either the name of a protocol or --config')
    if not args.name and not args.config:
        print('\n'.join(listed()))
        return
    cfg = config_of(args)
    protocol, images = count(cfg) if cfg is not None else (_build(args), None)
    print('\n'.join([*lines(protocol, images), *published(protocol)]))
