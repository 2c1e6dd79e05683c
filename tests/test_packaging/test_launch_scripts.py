"""The launch scripts: syntax, usage, and the command that they end in."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ('dist_train.sh', 'dist_test.sh', 'slurm_train.sh')


@pytest.mark.parametrize('name', [*SCRIPTS, 'make_venv.sh'])
def test_scripts_parse_and_are_executable(name: str) -> None:
    script = ROOT / 'tools' / name
    assert subprocess.run(['bash', '-n', str(script)]).returncode == 0
    assert os.access(script, os.X_OK)


@pytest.mark.parametrize(
    ('name', 'arguments'),
    [
        ('dist_train.sh', []),
        ('dist_train.sh', ['config.py']),
        ('dist_train.sh', ['config.py', 'two']),
        ('dist_train.sh', ['config.py', '0']),
        ('dist_test.sh', ['work_dir']),
        ('slurm_train.sh', ['partition', 'job']),
    ],
)
def test_missing_or_wrong_arguments_give_usage_and_exit_2(name: str, arguments: list[str]) -> None:
    done = subprocess.run(
        ['bash', str(ROOT / 'tools' / name), *arguments], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f'usage: tools/{name} ')


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The scripts beside a .venv whose python, like srun, prints its arguments one a line."""
    root = tmp_path / 'a checkout'
    echo = root / '.venv' / 'bin' / 'python'
    echo.parent.mkdir(parents=True)
    echo.write_text('#!/bin/sh\nprintf "%s\\n" "$PYTHONPATH" "$@"\n')
    echo.chmod(0o755)
    shutil.copy(echo, echo.with_name('srun'))
    (root / 'tools').mkdir()
    for name in SCRIPTS:
        shutil.copy(ROOT / 'tools' / name, root / 'tools' / name)
    return root


def run(checkout: Path, name: str, *arguments: str, **environment: str) -> list[str]:
    path = f'{checkout / ".venv" / "bin"}:{os.environ["PATH"]}'
    keep = {
        k: v
        for k, v in os.environ.items()
        if k not in ('NNODES', 'NODE_RANK', 'MASTER_ADDR', 'PORT', 'GPUS', 'PYTHONPATH')
    }
    done = subprocess.run(
        ['bash', str(checkout / 'tools' / name), *arguments],
        check=True,
        capture_output=True,
        text=True,
        env={**keep, 'PATH': path, **environment},
    )
    return done.stdout.splitlines()


def test_one_node_by_default(checkout: Path) -> None:
    printed = run(
        checkout, 'dist_train.sh', 'my config.py', '2', '--resume', '--cfg-options', 'a=1 2'
    )
    assert printed == [
        str(checkout),
        str(checkout / 'tools' / 'launch.py'),
        '--nnodes=1',
        '--node_rank=0',
        '--master_addr=127.0.0.1',
        '--master_port=29500',
        '--nproc_per_node=2',
        str(checkout / 'tools' / 'train.py'),
        'my config.py',
        '--launcher',
        'pytorch',
        '--resume',
        '--cfg-options',
        'a=1 2',
    ]


def test_several_nodes_by_the_environment(checkout: Path) -> None:
    printed = run(
        checkout,
        'dist_test.sh',
        'work',
        '8',
        '--step',
        '3',
        NNODES='4',
        NODE_RANK='3',
        MASTER_ADDR='node0',
        PORT='29777',
        PYTHONPATH='/mine',
    )
    assert printed[0] == f'{checkout}:/mine'
    assert printed[1] == str(checkout / 'tools' / 'launch.py')
    assert printed[2:7] == [
        '--nnodes=4',
        '--node_rank=3',
        '--master_addr=node0',
        '--master_port=29777',
        '--nproc_per_node=8',
    ]
    assert printed[7:] == [
        str(checkout / 'tools' / 'test.py'),
        'work',
        '--launcher',
        'pytorch',
        '--step',
        '3',
    ]


def test_slurm_fills_nodes_of_eight(checkout: Path) -> None:
    printed = run(
        checkout,
        'slurm_train.sh',
        'gpu',
        'mib',
        'config.py',
        '--resume',
        GPUS='16',
        SRUN_ARGS='--time=10:00 --qos=low',
    )
    assert {
        '--partition=gpu',
        '--job-name=mib',
        '--ntasks=16',
        '--ntasks-per-node=8',
        '--gres=gpu:8',
        '--time=10:00',
        '--qos=low',
    } <= set(printed)
    assert printed[-5:] == [
        str(checkout / 'tools' / 'train.py'),
        'config.py',
        '--launcher',
        'slurm',
        '--resume',
    ]
