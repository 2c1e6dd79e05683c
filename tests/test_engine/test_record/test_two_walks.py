"""Two walks in one work directory, run as a user runs them."""

import json
import time

import pytest

from mmseg_cil.testing.processes import ended, start_script, start_two
from mmseg_cil.testing.tiny import ROOT, tiny_config


def command(config, work_dir, *options):
    return [
        ROOT / 'tools/train.py',
        config,
        '--work-dir',
        work_dir,
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
    log = work_dir.with_name('second')
    log.unlink(missing_ok=True)
    with ended([start_script(command(config, work_dir, *options), log)]) as (program,):
        return program.wait(240), program.output


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
        first = [start_script(command(config, work_dir), tmp_path / 'log')]
    else:
        first = start_two(command(config, work_dir, '--launcher', 'pytorch'), tmp_path / 'log')
    with ended(first):
        wait_for(work_dir / 'step_00/resume.pth')
        before = (work_dir / 'journal.json').read_text()
        for options in ([], ['--resume'], ['--resume', '--break-lock']):
            status, output = second(config, work_dir, *options)
            assert status == 2, output
            # The first process of the job has it, for all.
            assert f'pid {first[0].pid}, since ' in output and 'Traceback' not in output
        assert (work_dir / 'journal.json').read_text() == before
    state = json.loads((work_dir / 'journal.json').read_text())
    assert state['steps'] == [] and (work_dir / 'walk.lock').exists()
    cfg.step_overrides = {0: dict(max_iters=2)}
    config.write_text(cfg.pretty_text)
    status, output = second(config, work_dir, '--resume', '--accept-changes')
    assert status == 0, output
    assert f'note: {work_dir / "walk.lock"} was left by a process that has died' in output
    assert not (work_dir / 'walk.lock').exists()
