"""Measures where the time of a short walk goes, as a table of its phases.

    python benchmarks/walk.py [CONFIG] [--method mib] [--tiny] [--iterations 10] [--repeats 3]
        [--plain] [--json FILE] [--cfg-options key=value ...]

Walks ``CONFIG``, or the demo's config, with ``--iterations`` in each step, in a process of its own
that is started ``--repeats`` times; ``--tiny`` walks the tiny data and network of the tests. The
table has the least time of each phase, and the least processor time of the walk's own process:
whatever else runs on the machine only adds to them. Beneath it stand

* seconds from the command to the end of the first iteration of training;
* seconds a step outside iterations and evaluation, from the first step's beginning to the end of
  the last step: all that is neither the loop of training nor the loop of the test.

``--plain`` walks a second time, in turn with the first, as MMEngine alone would: with configs that
yapf formats, the machine described anew for every step, and all imports at the beginning.
``walk_clock.py`` tells which work a phase includes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / 'benchmarks')]

from outcome import write_outcome
from walk_clock import PHASES, PURPOSE, REST


def write_config(arguments: argparse.Namespace, folder: Path) -> Path:
    """Write the config that is walked, and return its path."""
    from mmengine.config import Config

    from mmseg_cil.engine.config.compose import compose
    from mmseg_cil.testing.tiny import make_data, tiny_config
    from mmseg_cil.utils.config_text import config_text

    if arguments.tiny:
        cfg = tiny_config(make_data(folder / 'data'), arguments.method, rehearsal=True)
    elif arguments.config:
        cfg = Config.fromfile(arguments.config)
    else:
        cfg = compose(dict(method=arguments.method, protocol='embedded_11-5'))
        for split in ('train', 'test'):
            cfg[f'{split}_dataloader'].dataset.data_root = str(folder / 'shapes')
    if arguments.iterations:
        cfg.train_cfg.max_iters = arguments.iterations
        for overrides in (cfg.get('step_overrides') or {}).values():
            overrides.update(max_iters=arguments.iterations)
    path = folder / 'walked.py'
    path.write_text(config_text(cfg))
    return path


def walk(config: Path, work_dir: Path, options: list[str], plain: bool) -> dict[str, Any]:
    """Walk in a process of its own.

    Returns:
        ``seconds``, ``processor`` and ``calls`` by phase, ``steps``, and the seconds
        ``first_iteration``, ``used_before``, ``idle_a_step``, ``used_a_step``, ``whole`` and
        ``cpu`` (of all processes).

    Raises:
        RuntimeError: The walk has failed.
    """
    found = work_dir.parent / f'{work_dir.name}.json'
    words = [str(found), str(time.monotonic()), str(int(plain)), str(config)]
    words += ['--work-dir', str(work_dir), *(['--cfg-options', *options] if options else [])]
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, str(ROOT / 'benchmarks/walk_inside.py'), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    whole = time.monotonic() - start
    if done.returncode or not found.exists():
        raise RuntimeError(f'the walk has failed:\n{done.stdout[-3000:]}')
    result: dict[str, Any] = json.loads(found.read_text())
    # The rest is the start of the interpreter and its end.
    result['seconds'][REST] += whole - sum(result['seconds'].values())
    return {**result, 'whole': whole}


def least(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the least time of each phase, and of the whole, over several walks of one config."""
    phases = {name for run in runs for name in run['seconds']}
    times = ('first_iteration', 'used_before', 'idle_a_step', 'used_a_step', 'whole', 'cpu')
    return {
        **{
            kind: {name: min(run[kind].get(name, 0.0) for run in runs) for name in phases}
            for kind in ('seconds', 'processor')
        },
        'calls': runs[0]['calls'],
        'steps': runs[0]['steps'],
        **{name: min(run[name] for run in runs) for name in times},
    }


def table(results: dict[str, dict[str, Any]]) -> str:
    """Return the phases of each kind of walk, and what is aimed at."""
    lines = []
    for kind, result in results.items():
        seconds, whole = result['seconds'], sum(result['seconds'].values())
        lines.append(f'{kind:<20}{"s":>9}{"share":>8}{"cpu s":>9}{"calls":>8}')
        for phase in (*PHASES, REST):
            taken = seconds.get(phase, 0.0)
            if phase in seconds or phase in PURPOSE:
                calls = result['calls'].get(phase, '')
                used = result['processor'].get(phase, 0.0)
                lines.append(
                    f'{phase:<20}{taken:>9.2f}{100 * taken / whole:>7.0f}%{used:>9.2f}{calls:>8}'
                )
        lines.append(f'{"whole":<20}{result["whole"]:>9.2f}')
        lines.append(
            f'command to first iteration {result["first_iteration"]:.2f} s, '
            f'{result["used_before"]:.2f} s of processor time; outside iterations and evaluation '
            f'{result["idle_a_step"]:.2f} s a step (of {result["steps"]}), '
            f'{result["used_a_step"]:.2f} s of processor time; in all {result["cpu"]:.1f} s of it\n'
        )
    return '\n'.join(lines)


def main() -> int:
    """Read the command line and run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('config', nargs='?', type=Path, help="default: the demo's")
    parser.add_argument('--method', default='mib', help='where there is no CONFIG')
    parser.add_argument('--tiny', action='store_true', help='the tiny walk of the tests')
    parser.add_argument(
        '--iterations', type=int, default=10, help='in each step; 0: as the config says'
    )
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--plain', action='store_true', help="measure MMEngine's own ways as well")
    parser.add_argument('--json', type=Path, help='file for the numbers')
    parser.add_argument('--cfg-options', nargs='+', default=[])
    arguments = parser.parse_args()
    kinds = ['as it is', *(['plain'] if arguments.plain else [])]
    runs: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = write_config(arguments, folder)
        # The first walk draws the data and indexes them; it is not counted.
        for number in range(arguments.repeats + 1):
            for kind in kinds:
                place = folder / f'{kind.replace(" ", "_")}_{number}'
                done = walk(config, place, arguments.cfg_options, kind == 'plain')
                if number or arguments.repeats == 0:
                    runs[kind].append(done)
    results = {kind: least(listed) for kind, listed in runs.items()}
    print(
        f'{arguments.config or ("tiny" if arguments.tiny else "demo")}, {os.cpu_count()} cores, '
        f'OMP_NUM_THREADS={os.environ.get("OMP_NUM_THREADS", "unset")}, least of '
        f'{max(1, arguments.repeats)}\n'
    )
    print(table(results))
    if arguments.json:
        write_outcome(
            arguments.json, [dict(name=kind, **result) for kind, result in results.items()]
        )
    return 0


if __name__ == '__main__':
    sys.exit(main())
