"""The benchmarks run, and what they compare is equal. Their times are not looked at."""

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
METHODS = {path.stem for path in ROOT.glob('configs/_base_/methods/*.py')}


def run(name, monkeypatch, *arguments):
    """Runs ``main`` of a benchmark in this process."""
    path = ROOT / f'benchmarks/{name}.py'
    spec = importlib.util.spec_from_file_location(f'benchmark_{name}', path)
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up there.
    monkeypatch.setitem(sys.modules, spec.name, module)
    monkeypatch.setattr(sys, 'argv', [name, '--quick', '--device', 'cpu', *arguments])
    spec.loader.exec_module(module)
    return module, module.main()


def test_every_fast_loss_is_its_plain_form(monkeypatch, capsys):
    module, status = run('losses', monkeypatch, '--repeats', '1', '--batch', '1')
    output = capsys.readouterr().out
    assert status == 0
    for group in module.GROUPS.values():
        assert all(case.name in output for case in group.cases(True))


def test_forms_that_differ_are_told(monkeypatch, capsys):
    module, _ = run('losses', monkeypatch, '--repeats', '1', '--only', 'lwf')
    wrong = module.Group('wrong', module.pixel_cases('x', module.plain_lwf, module.plain_mib), 1.0)
    monkeypatch.setitem(module.GROUPS, 'lwf', wrong)
    assert module.main() == 1
    assert 'forms differ' in capsys.readouterr().err


def test_a_step_of_every_method_is_measured(monkeypatch, capsys):
    _, status = run('step', monkeypatch)
    rows = [line.split()[0] for line in capsys.readouterr().out.splitlines()[2:]]
    assert status == 0
    assert rows[:2] == ['fine-tuning', 'limit']
    # Joint training consists of the same parts as fine-tuning.
    assert set(rows[2:]) == METHODS - {'joint'}
    assert len(rows) == len(set(rows))


def test_targets_are_judged(monkeypatch):
    module, _ = run('step', monkeypatch, '--methods', 'mib')
    assert module.verdict('mib', 1.39).endswith('met')
    assert module.verdict('mib', 1.41).endswith('missed')
    assert module.verdict('finetune', 1.0) == ''


@pytest.mark.parametrize('name', ['losses', 'step'])
def test_the_command_line_is_told(name, monkeypatch, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(name, monkeypatch, '--help')
    assert stopped.value.code == 0
    assert '--repeats' in capsys.readouterr().out
