"""Watch fine-tuning forget and other methods remember, on data that needs no download.

    mmseg-cil demo [--work-dir work_dirs/demo] [--fresh | --data-only]

First half: walk an 11-5 schedule over the embedded data set with each method from one shared step
0, and print the comparison and the path of the report. Second half: teach the network of that step
0 two classes of another embedded data set, whose masks have other ids and show nothing else.

An interrupted demo goes on where it stood. Exit status: 0 done, 2 wrong usage or input, 1 failure
(also if MiB does not remember more than fine-tuning).
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from mmseg_cil.errors import InputError
from mmseg_cil.utils.cli import ADVISED, ToolParser

#: Pieces of methods, and their names in the last lines; the first one trains the step 0 of all.
METHODS = {'finetune': 'fine-tuning', 'mib': 'MiB', 'vdfd': 'VDFD'}
#: Options by method: hooks of VDFD that pass over images see fewer of them here, as a pass over all
#: takes as long as the training of a step.
OPTIONS = {'vdfd': ('method.custom_hooks.1.max_images=64', 'method.custom_hooks.2.max_images=128')}
#: The folder of the walk that extends the network of step 0.
EXTENSION = 'extended'


def make_parser(prog: str | None = None) -> ToolParser:
    """Return the parser of the command line."""
    *first, last = METHODS.values()
    parser = ToolParser(
        prog=prog,
        description=f'{", ".join(first)} and {last} compared, then a trained network extended; '
        'on embedded data.',
    )
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/demo'))
    parser.add_argument('--fresh', action='store_true', help='begin anew')
    parser.add_argument(
        '--data-only', action='store_true', help='draw the two data sets into --work-dir, and end'
    )
    return parser


def run(args: argparse.Namespace) -> int:
    """Walk with every method, and extend; return 0 if MiB remembers more than fine-tuning, else 1.

    Raises:
        InputError: The work directory holds something else.
        SystemExit: A walk has ended with this exit status, and has printed the reason.
    """
    if args.data_only:
        _draw(args.work_dir)
        return 0
    folders = {method: args.work_dir / method for method in METHODS}
    if args.fresh:
        for folder in (*folders.values(), args.work_dir / EXTENSION):
            shutil.rmtree(folder, ignore_errors=True)
    first, *others = folders.items()
    _walk(*first)
    for method, folder in others:
        _walk(method, folder, start_from=first[1])

    from mmseg_cil.visualization.report import load_walk, render_comparison

    page = render_comparison(list(folders.values()), args.work_dir / 'report')
    last = {name: load_walk(folder)['steps'][-1] for name, folder in folders.items()}
    old = {name: entry['mIoU']['old'] for name, entry in last.items()}
    if any(value is None for value in old.values()):
        raise InputError(f'{args.work_dir} holds no finished walks: run with --fresh')
    told = ', '.join(f'{METHODS[name]} {100 * value:.1f} %' for name, value in old.items())
    print(f'\nold classes after the last step: {told} mIoU')
    print(f'report: {page}', flush=True)

    folder = args.work_dir / EXTENSION
    _extend(first[1], folder)
    entries = load_walk(folder)['steps']
    before, after = (
        entry['data_sets']['old']['mIoU']['base'] for entry in (entries[0], entries[-1])
    )
    new = ', '.join(f'{name} {_percent(entries[-1]["IoU"].get(name))}' for name in _new_classes())
    print(
        f'\nthe network of step 0, extended with another data set: {new}; its own classes '
        f'{_percent(before)} mIoU before, {_percent(after)} after'
    )
    print(f'report: {folder / "report" / "index.html"}')
    return 0 if old['mib'] > old['finetune'] else 1


def _draw(work_dir: Path) -> None:
    """Draw the data sets of both halves, and print where they are."""
    from mmseg_cil.datasets.embedded import EmbeddedShapesDataset
    from mmseg_cil.datasets.embedded_signs import provide_signs

    shapes = work_dir / 'shapes'
    EmbeddedShapesDataset(str(shapes)).full_init()
    signs = provide_signs(work_dir / 'signs')
    print(f'shapes: {shapes} (JPEGImages, SegmentationClass, ImageSets)')
    print(f'signs: {signs} (train and val: pictures, labels)')


def _new_classes() -> list[str]:
    from mmseg_cil.datasets.embedded_signs import IDS

    return list(IDS)


def _percent(value: float | None) -> str:
    return 'not scored' if value is None else f'{100 * value:.1f} %'


def _walk(method: str, work_dir: Path, start_from: Path | None = None) -> None:
    """Run ``mmseg-cil train`` for a method, resuming a walk that is there."""
    shapes = work_dir.parent / 'shapes'
    options = [
        *('--method', method, '--protocol', 'embedded_11-5'),
        *('--work-dir', str(work_dir), '--no-report'),
        '--cfg-options',
        f'train_dataloader.dataset.data_root={shapes}',
        f'test_dataloader.dataset.data_root={shapes}',
        *OPTIONS.get(method, ()),
    ]
    if (work_dir / 'journal.json').exists():
        options.append('--resume')
    if start_from is not None:
        options += ['--start-from', str(start_from)]
    print(f'\n=== {method}: mmseg-cil train {" ".join(options[:6])} ...', flush=True)
    _run('train', *options)


def _extend(walk: Path, work_dir: Path) -> None:
    """Run ``mmseg-cil extend`` for the network of a walk's step 0, or resume such a walk."""
    from mmseg_cil.datasets.embedded_signs import IDS, VOID_ID, provide_signs

    signs = provide_signs(work_dir.parent / 'signs')
    options = [
        *(str(walk / 'walk_config.py'), str(walk / 'step_00' / 'checkpoint.pth')),
        *('--images', str(signs / 'train/pictures'), '--masks', str(signs / 'train/labels')),
        *('--test-images', str(signs / 'val/pictures')),
        *('--test-masks', str(signs / 'val/labels'), '--old-test', '--name', 'signs'),
        *(word for name in IDS for word in ('--new-classes', name)),
        *('--ids', *(f'{name}={mask_id}' for name, mask_id in IDS.items())),
        *('--void-ids', str(VOID_ID), '--method', 'mib', '--work-dir', str(work_dir)),
    ]
    if (work_dir / 'journal.json').exists():
        options.append('--resume')
    print(f'\n=== mmseg-cil extend {" ".join(options)}', flush=True)
    _run('extend', *options)


def _run(*words: str) -> None:
    """Run a subcommand in a process of its own.

    Raises:
        SystemExit: The subcommand has ended with this exit status, and has printed the reason.
    """
    process = subprocess.Popen([sys.executable, '-m', 'mmseg_cil', *words], env=_environment())
    try:
        status = process.wait()
    except KeyboardInterrupt:
        # The process saves its state; Ctrl-C has reached it too.
        process.terminate()
        process.wait()
        raise
    if status:
        raise SystemExit(status)


def _environment() -> dict[str, str]:
    """Return the variables of a process that finds this package, which need not be installed."""
    package = str(Path(__file__).resolve().parents[2])
    paths = [package, *filter(None, [os.environ.get('PYTHONPATH')])]
    return {
        **os.environ,
        'PYTHONUNBUFFERED': '1',
        'PYTHONPATH': os.pathsep.join(paths),
        ADVISED: '1',  # the demo itself says how to go on after a signal
    }
