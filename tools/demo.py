"""Watch fine-tuning forget and MiB remember, on data that needs no download.

    python tools/demo.py [--work-dir work_dirs/demo] [--fresh]

Walks an 11-5 schedule over the embedded dataset with both methods from one
shared step 0, prints the comparison and the path of the report. An interrupted
demo goes on where it stood. Exit status: 0 done, 2 wrong usage or input,
1 failure (also if MiB does not remember more than fine-tuning).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mmseg_cil.errors import InputError
from mmseg_cil.utils.cli import ToolParser, run_tool


def walk(method: str, work_dir: Path, start_from: Path | None = None) -> None:
    """Runs ``tools/train.py`` for one method, resuming what is there."""
    command = [
        sys.executable,
        str(ROOT / 'tools/train.py'),
        '--method',
        method,
        '--protocol',
        'embedded_11-5',
        '--work-dir',
        str(work_dir),
        '--no-report',
        '--cfg-options',
        f'train_dataloader.dataset.data_root={work_dir.parent / "shapes"}',
        f'test_dataloader.dataset.data_root={work_dir.parent / "shapes"}',
    ]
    if (work_dir / 'journal.json').exists():
        command.append('--resume')
    if start_from is not None:
        command += ['--start-from', str(start_from)]
    print(f'\n=== {method}: {" ".join(command[1:8])} ...', flush=True)
    process = subprocess.Popen(command, env={**os.environ, 'PYTHONUNBUFFERED': '1'})
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


def main() -> int:
    """The demo."""
    parser = ToolParser(description='Fine-tuning against MiB on embedded data.')
    parser.add_argument('--work-dir', type=Path, default=ROOT / 'work_dirs/demo')
    parser.add_argument('--fresh', action='store_true', help='begin anew')
    args = parser.parse_args()
    folders = {method: args.work_dir / method for method in ('finetune', 'mib')}
    if args.fresh:
        for folder in folders.values():
            shutil.rmtree(folder, ignore_errors=True)
    walk('finetune', folders['finetune'])
    walk('mib', folders['mib'], start_from=folders['finetune'])

    from mmseg_cil.visualization.report import load_walk, render_comparison

    page = render_comparison(list(folders.values()), args.work_dir / 'report')
    old = {name: load_walk(folder)['steps'][-1]['mIoU']['old'] for name, folder in folders.items()}
    if any(value is None for value in old.values()):
        raise InputError(f'{args.work_dir} holds no finished walks: run with --fresh')
    print(
        f'\nold classes after the last step: fine-tuning {100 * old["finetune"]:.1f} %, '
        f'MiB {100 * old["mib"]:.1f} % mIoU'
    )
    print(f'report: {page}')
    return 0 if old['mib'] > old['finetune'] else 1


if __name__ == '__main__':
    run_tool(main, goes_on='start the demo again to go on')
