"""The demo's walk, killed again and again: minutes, so not among the quick tests."""

import json
import os
import random
import subprocess
import sys
import time

import pytest

from mmseg_cil.testing.tiny import ROOT
from mmseg_cil.testing.walks import assert_same_weights

SEED = 11
KILLS = 6


def command(work_dir, data_root, *options):
    """A shortened walk of the demo's protocol, network, method and schedule."""
    return [
        sys.executable,
        str(ROOT / 'tools/train.py'),
        '--method',
        'mib',
        '--protocol',
        'embedded_11-5',
        '--work-dir',
        str(work_dir),
        '--no-report',
        *options,
        '--cfg-options',
        f'train_dataloader.dataset.data_root={data_root}',
        f'test_dataloader.dataset.data_root={data_root}',
        'step_overrides.0.max_iters=60',
        'step_overrides.later.max_iters=30',
        'default_hooks.checkpoint.interval=5',
    ]


@pytest.mark.slow
def test_a_walk_killed_at_random_moments_equals_an_unbroken_one(tmp_path):
    moments = random.Random(SEED)
    data_root, unbroken, broken = (tmp_path / name for name in ('data', 'unbroken', 'broken'))
    env = {**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': '-1'}
    log = tmp_path / 'log'
    with log.open('w') as file:
        start = time.monotonic()
        subprocess.run(command(unbroken, data_root), env=env, stdout=file, stderr=file, check=True)
        whole = time.monotonic() - start
        killed = midway = 0
        for attempt in range(10 * KILLS):
            midway += any(broken.glob('step_*/resume.pth'))
            process = subprocess.Popen(
                command(broken, data_root, *['--resume'] * bool(attempt)),
                env=env,
                stdout=file,
                stderr=file,
            )
            try:
                # Any moment: start-up, training, saving, evaluation, or after the end.
                wait = moments.uniform(0.1, 0.8) * whole if killed < KILLS else 20 * whole
                assert process.wait(wait) == 0, log.read_text()[-3000:]
                break
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                killed += 1
    assert killed >= 2 and midway >= 1, (killed, midway)
    assert_same_weights(unbroken, broken, 0, 1, 2)
    scores = [
        json.loads((work_dir / 'metrics.json').read_text()) for work_dir in (unbroken, broken)
    ]
    assert scores[0] == scores[1]
