"""Measure the time before a walk's first iteration, and that of the class index.

    python benchmarks/startup.py [CONFIG] [--cfg-options key=value ...]

Starts ``tools/train.py`` in a process of its own and prints, in one run:

* seconds from the command to the end of the first training iteration, and the
  share of importing the libraries in it;
* seconds to index the masks of the config's training and test data with no
  cache (files as the operating system has them), again from the cache, and
  their ratio, with a check that both give the same index.

Without a CONFIG it uses the demo's.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mmseg_cil.utils.cli import run_tool

IMPORTS = (
    'import mmseg_cil.engine.commands, mmseg_cil.models, mmseg_cil.hooks, mmseg_cil.evaluation'
)


def demo_config(folder: Path) -> Path:
    """Write the demo's config to a folder."""
    from mmseg_cil.engine.config.compose import compose

    path = folder / 'demo.py'
    path.write_text(compose(dict(method='mib', protocol='embedded_11-5')).pretty_text)
    return path


def first_iteration(config: Path, options: list[str], work_dir: Path) -> float:
    """Seconds from the command until the first iteration is logged."""
    command = [
        sys.executable,
        '-u',
        str(ROOT / 'tools/train.py'),
        str(config),
        '--work-dir',
        str(work_dir),
        '--no-report',
        '--cfg-options',
        'default_hooks.logger.interval=1',
        *options,
    ]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    seen = []
    try:
        for line in process.stdout:
            seen.append(line)
            if re.search(r'Iter\(train\) *\[ *1/', line):
                return time.perf_counter() - start
    finally:
        process.kill()
        process.wait()
    raise RuntimeError('the walk ended before its first iteration:\n' + ''.join(seen[-20:]))


def import_seconds() -> float:
    """Seconds that a fresh interpreter needs for the libraries."""
    start = time.perf_counter()
    script = f'import sys; sys.path.insert(0, {str(ROOT)!r}); {IMPORTS}'
    subprocess.run([sys.executable, '-c', script], check=True, capture_output=True)
    return time.perf_counter() - start


def index_seconds(config: Path, options: dict) -> list[tuple[str, int, float, float]]:
    """For 'train' and 'test': images, seconds without and with a cache."""
    from mmengine.registry import init_default_scope

    from mmseg_cil.datasets.class_index import load_or_build_index
    from mmseg_cil.datasets.items import open_sources, read_items
    from mmseg_cil.engine.config.load import load_config
    from mmseg_cil.engine.data import dataset_configs

    init_default_scope('mmseg_cil')
    rows = []
    for split, dataset in zip(
        ('train', 'test'), dataset_configs(load_config(config, options)), strict=True
    ):
        items = read_items(open_sources(dataset))
        seconds, found = [], []
        with tempfile.TemporaryDirectory() as cache:
            for _ in range(2):
                start = time.perf_counter()
                index = load_or_build_index(items.paths, items.names, [Path(cache)])
                seconds.append(time.perf_counter() - start)
                found.append(index.presence)
        assert (found[0] == found[1]).all(), 'the cache gave another index'
        rows.append((split, len(items.names), *seconds))
    return rows


def main() -> None:
    """Run the benchmark."""
    from mmengine.config import DictAction

    parser = argparse.ArgumentParser(description='Start-up and class index.')
    parser.add_argument('config', nargs='?', type=Path)
    parser.add_argument('--cfg-options', nargs='+', default=[])
    args = parser.parse_args()
    action = argparse.ArgumentParser()
    action.add_argument('--o', nargs='+', action=DictAction, default={})
    options = action.parse_args(['--o', *args.cfg_options] if args.cfg_options else []).o
    with tempfile.TemporaryDirectory() as folder:
        config = args.config or demo_config(Path(folder))
        for split, images, cold, cached in index_seconds(config, options):
            print(
                f'index of {images} {split} masks: {cold:.2f} s, cached {cached:.3f} s '
                f'({cold / cached:.0f}x)'
            )
        imports = import_seconds()
        total = first_iteration(config, args.cfg_options, Path(folder) / 'walk')
    print(
        f'command to first iteration: {total:.1f} s, of which imports {imports:.1f} s '
        f'({100 * imports / total:.0f} %); {os.cpu_count()} cores'
    )


if __name__ == '__main__':
    run_tool(main)
