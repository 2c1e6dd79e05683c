"""The fuzzer judges a few cases, and random kills of a walk leave no trace."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(script, *arguments):
    return subprocess.run(
        [sys.executable, ROOT / f'benchmarks/{script}.py', *arguments],
        capture_output=True,
        text=True,
        timeout=900,
    )


@pytest.mark.slow
def test_wrong_input_is_judged_and_counted():
    done = run('fuzz', '--cases', '4', '--only', '*misspelt*')
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip().splitlines()[-1] == 'clear refusal: 4'


@pytest.mark.slow
def test_a_killed_walk_is_compared_with_an_unbroken_one():
    done = run('kills', '--kills', '2', '--methods', 'finetune')
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.strip().splitlines()
    assert lines[0].startswith('finetune: 2 kills') and lines[0].endswith('bit-equal')
    assert lines[1] == '2 kills over 1 methods'
