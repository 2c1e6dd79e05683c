"""The command-line tools, run as a user runs them."""

import contextlib
import json
import os
import random
import subprocess
import time
from dataclasses import dataclass

import pytest
import torch
from mmengine.config import Config

from mmseg_cil.engine.config.compose import compose
from mmseg_cil.testing.loss_record import mean_losses
from mmseg_cil.testing.processes import ENVIRONMENT, ended, run_two, start_script
from mmseg_cil.testing.tiny import ROOT, tiny_config, weights

ENV = {**os.environ, **ENVIRONMENT}


@dataclass
class Done:
    """Exit status and output of a tool."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """Runs a tool to its end."""

    def tool(name, *arguments, folder=None):
        logs = tmp_path_factory.mktemp('logs')
        program = start_script(
            [ROOT / name, *arguments], logs / 'out', errors=logs / 'errors', folder=folder
        )
        with ended([program]):
            status = program.wait(300)
        return Done(status, program.output, (logs / 'errors').read_text())

    return tool


def write_config(path, cfg):
    path.write_text(cfg.pretty_text)
    return path


@pytest.fixture(scope='module')
def config(data_root, tmp_path_factory):
    cfg = tiny_config(data_root)
    cfg.train_dataloader.num_workers = 1
    cfg.train_dataloader.persistent_workers = True
    cfg.step_overrides = {0: dict(max_iters=12), 'later': dict(lr=0.02, max_iters=8)}
    cfg.default_hooks.checkpoint.interval = 3
    return write_config(tmp_path_factory.mktemp('config') / 'tiny.py', cfg)


@pytest.fixture(scope='module')
def unbroken(config, run, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('unbroken')
    done = run('tools/train.py', config, '--work-dir', work_dir)
    assert done.returncode == 0, done.stderr[-3000:]
    return work_dir


def test_training_ends_in_a_report(unbroken):
    page = (unbroken / 'report/index.html').read_text()
    metrics = json.loads((unbroken / 'metrics.json').read_text())
    assert f'{100 * metrics["steps"][-1]["mIoU"]["all"]:.2f}' in page
    samples = json.loads((unbroken / 'report/samples.json').read_text())
    assert samples and all(
        (unbroken / 'step_02/predictions' / f'{sample["name"]}.png').is_file() for sample in samples
    )


def saved_states(work_dir):
    """Modification times of the states that steps in training have saved."""
    return {path: path.stat().st_mtime_ns for path in work_dir.glob('step_*/resume.pth')}


def kill_after_next_save(program, work_dir, pause):
    """SIGKILL some moments after a step in training has saved its state anew."""
    before, deadline = saved_states(work_dir), time.monotonic() + 120
    while program.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError):
            now = saved_states(work_dir)
            if any(before.get(path) != moment for path, moment in now.items()):
                break
        time.sleep(0.002)
    time.sleep(pause)
    program.kill()


def test_a_killed_walk_ends_with_the_weights_of_an_unbroken_one(config, unbroken, tmp_path):
    pauses = random.Random(5)
    work_dir, log = tmp_path / 'walk', tmp_path / 'log'
    command = [ROOT / 'tools/train.py', config, '--work-dir', work_dir, '--no-report']
    resumed_midway = 0
    for attempt in range(4):
        resumed_midway += bool(saved_states(work_dir))
        program = start_script([*command, *['--resume'] * bool(attempt)], log)
        with ended([program]):
            if attempt < 3:
                kill_after_next_save(program, work_dir, pauses.uniform(0.0, 0.1))
            else:
                assert program.wait(300) == 0, program.output[-3000:]
    assert resumed_midway >= 2, 'too few of the kills hit a step in training'
    for step in range(3):
        expected, found = weights(unbroken, step), weights(work_dir, step)
        for key, value in expected.items():
            assert torch.equal(value, found[key]), (step, key)
    scores = [json.loads((folder / 'metrics.json').read_text()) for folder in (unbroken, work_dir)]
    assert scores[0] == scores[1]


def test_evaluating_again_gives_the_scores_of_training(unbroken, run):
    before = (unbroken / 'metrics.json').read_text()
    for step in range(3):
        (unbroken / f'step_{step:02d}/metrics.json').unlink()
    done = run('tools/test.py', unbroken)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (unbroken / 'metrics.json').read_text() == before


def test_two_processes_learn_as_one_with_the_same_global_batch(data_root, run, tmp_path):
    cfg = tiny_config(data_root)
    # Statistics and dropout of half a batch are not those of a whole one.
    cfg.merge_from_dict({'model.backbone.norm_eval': True})
    for head in (cfg.model.decode_head, cfg.model.auxiliary_head):
        head.dropout_ratio = 0.0
        head.norm_cfg = dict(type='GN', num_groups=2)
    cfg.custom_imports = dict(imports=['mmseg_cil.testing.loss_record'])
    cfg.custom_hooks = [dict(type='LossRecordHook')]
    config = write_config(tmp_path / 'tiny.py', cfg)
    options = [config, '--steps', '0', '--no-report', '--work-dir']
    alone = run('tools/train.py', *options, tmp_path / 'one')
    assert alone.returncode == 0, alone.stderr[-3000:]
    for status, output in run_two(
        [ROOT / 'tools/train.py', *options, tmp_path / 'two', '--launcher', 'pytorch'],
        tmp_path / 'log',
    ):
        assert status == 0, output[-3000:]
    # Steps that learn from a teacher are compared so by check_method, and by the methods' walks.
    expected = mean_losses(tmp_path / 'one', 0, processes=1)
    assert len(expected) == 6
    assert mean_losses(tmp_path / 'two', 0, processes=2) == pytest.approx(expected, rel=1e-4)
    for key, value in weights(tmp_path / 'one', 0).items():
        torch.testing.assert_close(
            weights(tmp_path / 'two', 0)[key],
            value,
            rtol=1e-4,
            atol=1e-5,
            msg=lambda text, k=key: f'{k}: {text}',
        )
    scores = [json.loads((tmp_path / name / 'metrics.json').read_text()) for name in ('one', 'two')]
    for a, b in zip(scores[0]['steps'], scores[1]['steps'], strict=True):
        assert a['images'] == b['images']
        assert a['mIoU']['all'] == pytest.approx(b['mIoU']['all'], abs=0.01)
    # Two processes evaluate again as they did, and record it once.
    (tmp_path / 'two/metrics.json').unlink()
    again = [ROOT / 'tools/test.py', tmp_path / 'two', '--launcher', 'pytorch']
    for status, output in run_two(again, tmp_path / 'again'):
        assert status == 0, output[-3000:]
    assert json.loads((tmp_path / 'two/metrics.json').read_text()) == scores[1]


def test_wrong_input_has_status_2_and_no_traceback(data_root, run, tmp_path):
    cfg = tiny_config(data_root)
    cfg.protocol = dict(name='vok_15-1')
    done = run(
        'tools/train.py', write_config(tmp_path / 'bad.py', cfg), '--work-dir', tmp_path / 'walk'
    )
    assert done.returncode == 2, done.stderr[-2000:]
    assert 'error: ' in done.stderr and 'vok_15-1' in done.stderr
    assert 'Traceback' not in done.stderr and not (tmp_path / 'walk').exists()


def test_a_config_is_composed_and_printed(run, tmp_path):
    done = run(
        'tools/train.py',
        '--method',
        'plop',
        '--protocol',
        'voc_10-1',
        '--print-config',
        '--cfg-options',
        'protocol.setting=disjoint',
        folder=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    path = tmp_path / 'printed.py'
    path.write_text(done.stdout)
    expected = compose(dict(method='plop', protocol='voc_10-1')).to_dict()
    expected['protocol']['setting'] = 'disjoint'
    assert Config.fromfile(path).to_dict() == expected
    assert sorted(file.name for file in tmp_path.iterdir()) == ['printed.py']


def test_wrong_usage_has_status_2(tmp_path, config, run):
    assert run('tools/train.py', tmp_path / 'none.py').returncode == 2
    nothing = run('tools/train.py')
    assert nothing.returncode == 2 and '--method' in nothing.stderr
    assert run('tools/test.py', tmp_path).returncode == 2
    bad = run('tools/train.py', config, '--steps', '0-9', '--work-dir', tmp_path / 'w')
    assert bad.returncode == 2 and 'steps 0..2' in bad.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ('config_of', 'arguments', 'message'),
    [
        ('bad', (), "unknown protocol 'vok_15-1'"),
        pytest.param('good', ('--stepz', '0'), 'unrecognized arg', marks=pytest.mark.slow),
    ],
)
def test_two_processes_tell_wrong_input_once(data_root, tmp_path, config_of, arguments, message):
    cfg = tiny_config(data_root)
    if config_of == 'bad':
        cfg.protocol = dict(name='vok_15-1')
    command = [
        'bash',
        str(ROOT / 'tools/dist_train.sh'),
        str(write_config(tmp_path / 'tiny.py', cfg)),
        '2',
        '--work-dir',
        str(tmp_path / 'walk'),
        *arguments,
    ]
    done = subprocess.run(command, capture_output=True, text=True, env={**ENV, 'PORT': '29623'})
    assert done.returncode == 2, done.stderr[-3000:]
    assert done.stderr.count('error: ') == 1 and done.stderr.count(message) == 1
    assert 'Traceback' not in done.stderr and not (tmp_path / 'walk').exists()
