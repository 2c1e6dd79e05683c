"""Two walks in one work directory, run as a user runs them."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from processes import FOLDER, start_two
from tiny import ROOT, tiny_config

ENV = {
    **os.environ,
    'OMP_NUM_THREADS': '1',
    'CUDA_VISIBLE_DEVICES': '-1',
    'PYTHONPATH': str(FOLDER),
}


def command(config, work_dir, *options):
    return [
        str(ROOT / 'tools/train.py'),
        str(config),
        '--work-dir',
        str(work_dir),
        '--no-report',
        '--steps',
        '0',
        *options,
    ]


def wait_for(path):
    deadline = time.monotonic() + 240
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert path.exists()


def second(config, work_dir, *options):
    return subprocess.run(
        [sys.executable, *command(config, work_dir, *options)],
        capture_output=True,
        text=True,
        env=ENV,
    )


@pytest.mark.slow
@pytest.mark.parametrize('processes', [1, 2])
def test_the_second_is_refused_and_may_go_on_when_the_first_was_killed(
    data_root, tmp_path, processes
):
    cfg = tiny_config(data_root)
    cfg.step_overrides = {0: dict(max_iters=2000)}
    cfg.default_hooks.checkpoint.interval = 1
    config, work_dir = tmp_path / 'config.py', tmp_path / 'walk'
    config.write_text(cfg.pretty_text)
    if processes == 1:
        with open(tmp_path / 'log', 'w') as log:
            first = [
                subprocess.Popen(
                    [sys.executable, *command(config, work_dir)], env=ENV, stdout=log, stderr=log
                )
            ]
    else:
        first = start_two(command(config, work_dir, '--launcher', 'pytorch'), tmp_path / 'log')
    try:
        wait_for(work_dir / 'step_00/resume.pth')
        before = (work_dir / 'journal.json').read_text()
        for options in ([], ['--resume'], ['--resume', '--break-lock']):
            done = second(config, work_dir, *options)
            assert done.returncode == 2, done.stderr
            # The first process of the job has it, for all.
            assert f'pid {first[0].pid}, since ' in done.stderr and 'Traceback' not in done.stderr
        assert (work_dir / 'journal.json').read_text() == before
        for process in first:
            process.send_signal(signal.SIGKILL)
    finally:
        for process in first:
            process.kill()
            process.wait()
    state = json.loads((work_dir / 'journal.json').read_text())
    assert state['steps'] == [] and (work_dir / 'walk.lock').exists()
    cfg.step_overrides = {0: dict(max_iters=2)}
    config.write_text(cfg.pretty_text)
    done = second(config, work_dir, '--resume', '--accept-changes')
    assert done.returncode == 0, done.stderr
    assert f'note: {work_dir / "walk.lock"} was left by a process that has died' in done.stdout
    assert not (work_dir / 'walk.lock').exists()
