"""Kills tiny walks at random moments, resumes them, and compares them with unbroken ones.

    python benchmarks/kills.py [--kills 100] [--seed 0] [--methods mib,plop,...]

Every method walks once without a break. Then walks of it are begun, ended at random moments by
SIGKILL (half of the time), SIGTERM or SIGINT, and resumed, until they end. Weights of all
steps must be equal bit by bit, and so must the scores. Exit status: 0 all are, 1 some are not.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fuzzing.process import run_forked
from fuzzing.world import World, prepare_data, small_config

METHODS = ('finetune', 'lwf_mc', 'icarl', 'mib', 'plop', 'rcil', 'vdfd', 'm2kd_pruned', 'dfgr')
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def prepare(folder: Path, method: str) -> None:
    """Write data and config of a walk of three steps, which saves at every second iteration."""
    world = World(folder, random.Random(0))
    prepare_data(world.data)
    world.cfg = small_config(world.data, method)
    world.cfg['protocol']['steps'] = [['background', 'red', 'green'], ['blue'], ['grey']]
    # Most of a walk's time is training, so that most kills meet it.
    world.cfg['step_overrides'] = {0: {'max_iters': 30}, 'later': {'lr': 0.02, 'max_iters': 30}}
    world.cfg['default_hooks']['checkpoint']['interval'] = 2
    world.cfg['rehearsal'] = False
    world.cfg['method']['sub_steps'] = [
        {**step, 'max_iters': 20} if 'max_iters' in step else step
        for step in world.cfg['method'].get('sub_steps') or []
    ]
    world.write_config()


def walk(folder: Path, name: str, end: float, signum: int = signal.SIGKILL) -> int | None:
    """Begin a walk, or go on with it; None where it was ended after ``end`` seconds."""
    argv = ['train', 'config.py', '--work-dir', name, '--no-report', '--resume']
    outcome = run_forked(argv, folder, {}, end, ended_by=signum)
    if outcome.status not in (0, None):
        raise SystemExit(f'a walk that was not killed fails:\n{outcome.text[-3000:]}')
    return outcome.status


def differences(folder: Path) -> list[str]:
    """List what differs between the unbroken walk and the one that was killed."""
    found = []
    for path in sorted((folder / 'unbroken').glob('step_*/checkpoint.pth')):
        states = [
            torch.load(folder / name / path.parent.name / path.name, weights_only=True)[
                'state_dict'
            ]
            for name in ('unbroken', 'killed')
        ]
        if states[0].keys() != states[1].keys() or not all(
            torch.equal(states[0][key], states[1][key]) for key in states[0]
        ):
            found.append(f'weights of {path.parent.name}')
    scores = [
        json.loads((folder / name / 'metrics.json').read_text()) for name in ('unbroken', 'killed')
    ]
    return found + ['scores'] * (scores[0] != scores[1])


def kill_method(method: str, kills: int, rng: random.Random) -> tuple[int, int, list[str]]:
    """Kill walks of one method; return kills, kills that left a state to resume, differences."""
    folder = Path(tempfile.mkdtemp(prefix=f'kills_{method}_'))
    done = midway = 0
    wrong: list[str] = []
    try:
        prepare(folder, method)
        start = time.monotonic()
        walk(folder, 'unbroken', 600)
        whole = time.monotonic() - start
        while done < kills:
            while (
                done < kills
                and walk(folder, 'killed', rng.uniform(0.1, 0.9) * whole, rng.choice(SIGNALS))
                is None
            ):
                done += 1
                midway += any((folder / 'killed').glob('step_*/**/resume.pth'))
            walk(folder, 'killed', 1200)
            wrong += differences(folder)
            shutil.rmtree(folder / 'killed')
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return done, midway, wrong


def main() -> None:
    """Kill walks of all methods and print a line each."""
    parser = argparse.ArgumentParser(description='Kill walks at random moments.')
    parser.add_argument('--kills', type=int, default=100, help='over all methods')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--methods', default=','.join(METHODS))
    options = parser.parse_args()
    methods = options.methods.split(',')
    each = -(-options.kills // len(methods))
    total, failed = 0, False
    for method in methods:
        done, midway, wrong = kill_method(method, each, random.Random(f'{options.seed}:{method}'))
        total += done
        failed = failed or bool(wrong)
        print(
            f'{method}: {done} kills, {midway} of them with a state to go on from: '
            f'{", ".join(wrong) or "bit-equal"}',
            flush=True,
        )
    print(f'{total} kills over {len(methods)} methods')
    sys.exit(1 if failed else 0)


if __name__ == '__main__':
    main()
