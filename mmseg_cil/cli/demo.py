"""Watch fine-tuning forget and other methods remember, on data that needs no download.

    mmseg-cil demo [--work-dir work_dirs/demo] [--fresh]

Walk an 11-5 schedule over the embedded data set with each method from one shared step 0, print the
comparison and the path of the report. An interrupted demo goes on where it stood. Exit status: 0
done, 2 wrong usage or input, 1 failure (also if MiB does not remember more than fine-tuning).
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from mmseg_cil.errors import InputError
from mmseg_cil.utils.cli import ToolParser

#: Piece of a method and how the last lines name it; the first one trains the step 0 of all.
METHODS = {'finetune': 'fine-tuning', 'mib': 'MiB'}


def make_parser(prog: str | None = None) -> ToolParser:
    """Return the command line."""
    parser = ToolParser(
        prog=prog, description=f'{" and ".join(METHODS.values())}, compared on embedded data.'
    )
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/demo'))
    parser.add_argument('--fresh', action='store_true', help='begin anew')
    return parser


def run(args: argparse.Namespace) -> int:
    """Walk with every method; 0 where MiB remembers more than fine-tuning, else 1.

    Raises:
        InputError: The work directory holds something else.
        SystemExit: A walk has ended with this status, and has said why.
    """
    folders = {method: args.work_dir / method for method in METHODS}
    if args.fresh:
        for folder in folders.values():
            shutil.rmtree(folder, ignore_errors=True)
    first, *others = folders.items()
    _walk(*first)
    for method, folder in others:
        _walk(method, folder, start_from=first[1])

    from mmseg_cil.visualization.report import load_walk, render_comparison

    page = render_comparison(list(folders.values()), args.work_dir / 'report')
    old = {name: load_walk(folder)['steps'][-1]['mIoU']['old'] for name, folder in folders.items()}
    if any(value is None for value in old.values()):
        raise InputError(f'{args.work_dir} holds no finished walks: run with --fresh')
    told = ', '.join(f'{METHODS[name]} {100 * value:.1f} %' for name, value in old.items())
    print(f'\nold classes after the last step: {told} mIoU')
    print(f'report: {page}')
    return 0 if old['mib'] > old['finetune'] else 1


def _walk(method: str, work_dir: Path, start_from: Path | None = None) -> None:
    """Run ``mmseg-cil train`` for a method, resuming what is there."""
    shapes = work_dir.parent / 'shapes'
    options = [
        *('--method', method, '--protocol', 'embedded_11-5'),
        *('--work-dir', str(work_dir), '--no-report'),
        '--cfg-options',
        f'train_dataloader.dataset.data_root={shapes}',
        f'test_dataloader.dataset.data_root={shapes}',
    ]
    if (work_dir / 'journal.json').exists():
        options.append('--resume')
    if start_from is not None:
        options += ['--start-from', str(start_from)]
    print(f'\n=== {method}: mmseg-cil train {" ".join(options[:6])} ...', flush=True)
    process = subprocess.Popen(
        [sys.executable, '-m', 'mmseg_cil', 'train', *options], env=_environment()
    )
    try:
        status = process.wait()
    except KeyboardInterrupt:
        # It saves what it has; Ctrl-C has reached it too.
        process.terminate()
        process.wait()
        raise
    if status:
        # It has said why.
        raise SystemExit(status)


def _environment() -> dict[str, str]:
    """Return the variables of a process that finds this package, which need not be installed."""
    package = str(Path(__file__).resolve().parents[2])
    paths = [package, *filter(None, [os.environ.get('PYTHONPATH')])]
    return {**os.environ, 'PYTHONUNBUFFERED': '1', 'PYTHONPATH': os.pathsep.join(paths)}
