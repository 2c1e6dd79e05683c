"""The benchmarks run, and what they compare is equal. Their times are not looked at."""

import argparse
import sys
from pathlib import Path

import pytest
from mmengine.registry import init_default_scope

from mmseg_cil.models.generators import LayoutGenerator

ROOT = Path(__file__).resolve().parents[2]
METHODS = {path.stem for path in ROOT.glob('configs/_base_/methods/*.py')}


@pytest.fixture
def run(benchmark_module, monkeypatch):
    """Runs ``main`` of a benchmark in this process."""

    def call(name, *arguments):
        monkeypatch.setattr(sys, 'argv', [name, '--quick', '--device', 'cpu', *arguments])
        module = benchmark_module(name)
        return module, module.main()

    return call


def test_every_fast_loss_is_its_plain_form(run, capsys):
    module, status = run('losses', '--repeats', '1', '--batch', '1')
    output = capsys.readouterr().out
    assert status == 0
    for group in module.GROUPS.values():
        assert all(case.name in output for case in group.cases(True))


def test_forms_that_differ_are_told(run, monkeypatch, capsys):
    module, _ = run('losses', '--repeats', '1', '--only', 'lwf')
    wrong = module.Group('wrong', module.pixel_cases('x', module.plain_lwf, module.plain_mib), 1.0)
    monkeypatch.setitem(module.GROUPS, 'lwf', wrong)
    assert module.main() == 1
    assert 'forms differ' in capsys.readouterr().err


def test_a_step_of_every_method_is_measured(run, capsys):
    _, status = run('step')
    # Above the table a method may say what the thin network lacks.
    _, _, table = capsys.readouterr().out.partition('  target\n')
    rows = [line.split()[0] for line in table.splitlines()]
    assert status == 0
    assert rows[:2] == ['fine-tuning', 'limit']
    # Joint training consists of the same parts as fine-tuning; pruning comes after the step.
    assert set(rows[2:]) == METHODS - {'joint', 'm2kd_pruned'}
    assert len(rows) == len(set(rows))


@pytest.fixture
def step_of(benchmark_module, tmp_path):
    """What ``step.py`` measures of one method, of a thin network."""

    def made(method, model='fcn_r18-thin', crop=32):
        step = benchmark_module('step')
        init_default_scope('mmseg_cil')
        data = step.random_batch(2, 32, (3, 2))
        with step.quietly():
            rows = step.contestants(argparse.Namespace(
                model=ROOT / f'configs/_base_/models/{model}.py', classes=(3, 2), crop=crop,
                methods=[method], tasks=1, snapshots=None, amp=False, device='cpu',
            ), tmp_path, data)
        return rows, data

    return made


@pytest.mark.parametrize(('model', 'distilled'), [
    ('fcn_r18-thin', False), ('fcn_r18-thin_aux', True)])
def test_a_row_says_when_there_is_no_auxiliary_head_to_distil(model, distilled, step_of):
    rows, data = step_of('m2kd', model)
    assert any('loss_ad' in name for name in rows[-1].step(data)) == distilled
    assert [bool(row.note) for row in rows] == [False, False, not distilled]


def test_the_generator_is_of_the_size_of_a_walk_and_counted(step_of):
    rows, _ = step_of('dfgr', crop=272)
    *_, generator = rows[-1].parts
    assert isinstance(generator, LayoutGenerator) and generator.size == (256, 256)
    assert rows[-1].note == ''


def test_targets_are_judged(run):
    module, _ = run('step', '--methods', 'mib')
    assert module.verdict('mib', 1.39).endswith('met')
    assert module.verdict('mib', 1.41).endswith('missed')
    assert module.verdict('finetune', 1.0) == ''


@pytest.mark.parametrize('name', ['losses', 'step'])
def test_the_command_line_is_told(name, run, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(name, '--help')
    assert stopped.value.code == 0
    assert '--repeats' in capsys.readouterr().out
