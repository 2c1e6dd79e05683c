"""The benchmarks run, and what they compare is equal. Their times are not looked at."""

import argparse
import json
import sys
from pathlib import Path

import pytest
import torch
from mmengine.registry import init_default_scope

from mmseg_cil.methods.dfgr.layout_generator import LayoutGenerator
from mmseg_cil.methods.ucd.pairs import LEFT_OUT, Pairing

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


def test_every_fast_loss_is_its_plain_form(run, capsys, tmp_path):
    written = tmp_path / 'losses.json'
    module, status = run('losses', '--repeats', '1', '--batch', '1', '--json', str(written))
    output = capsys.readouterr().out
    assert status == 0
    names = [case.name for group in module.GROUPS.values() for case in group.cases(True)]
    assert [row['name'] for row in rows_of(written)] == names
    for group in module.GROUPS.values():
        assert all(case.name in output for case in group.cases(True))


def test_forms_that_differ_are_told(run, benchmark_module, monkeypatch, capsys):
    module, _ = run('losses', '--repeats', '1', '--only', 'lwf')
    forms = benchmark_module('loss_forms')
    wrong = forms.Group('wrong', forms.pixel_cases('x', forms.plain_lwf, forms.plain_mib), 1.0)
    monkeypatch.setitem(module.GROUPS, 'lwf', wrong)
    assert module.main() == 1
    assert 'forms differ' in capsys.readouterr().err


def test_pairs_in_chunks_are_the_plain_form_and_need_less_memory(run, monkeypatch, capsys):
    module, status = run('pairs', '--images', '1', '--channels', '16')
    assert status == 0 and 'differ by' in capsys.readouterr().out
    cells = module.draw(8, 16, 8, 'cpu')
    monkeypatch.setattr(module, 'Pairing', lambda: Pairing(most_pairs=2**14))
    _, chunks = module.measured(module.in_chunks, *cells)
    _, plain = module.measured(module.plain, *cells)
    rows, columns = (int((side.labels != LEFT_OUT).sum()) for side in cells)
    # The plain form holds several matrices of all pairs, four bytes a number.
    assert plain > 4 * rows * columns * 4 / 2**20 and chunks < plain / 4
    monkeypatch.setattr(module, 'plain', lambda *inputs: 2 * module.in_chunks(*inputs))
    assert module.main() == 1 and 'the forms differ' in capsys.readouterr().err


def test_the_peak_of_a_run_is_that_of_a_closed_form(benchmark_module):
    peak_of = benchmark_module('peaks').peak_of
    weights = torch.ones(2**20, requires_grad=True)  # 4 MiB, which are there before

    def run():
        exponentials = weights.exp()
        # The backward pass of sin holds: exponentials, sines, and cosines with their product.
        exponentials.sin().sum().backward()

    found = peak_of(run)
    # 16 MiB, or 12 where the sines end with the sum; a few bytes are those of scalars.
    assert 12 <= found.above < 16.1
    # The gradient stays.
    assert found.left == pytest.approx(4, abs=0.01)

    def in_place():
        first = torch.ones(2**20)
        first.mul_(2).add_(1)
        del first
        torch.ones(2**19)

    # Memory that is used again in place is not counted twice, and freed memory no longer counts.
    assert peak_of(in_place) == pytest.approx((4, 0), abs=0.01)


@pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')
def test_the_resident_memory_agrees(benchmark_module):
    peaks = benchmark_module('peaks')

    def run():
        torch.ones(2**24)  # 64 MiB, beyond what an allocator keeps

    run()
    assert peaks.resident_peak(run) == pytest.approx(peaks.peak_of(run).above, abs=8)


def rows_of(path):
    """Return the rows of a file that a benchmark wrote, all of which have one shape."""
    content = json.loads(path.read_text())
    assert list(content) == ['command', 'machine', 'versions', 'rows']
    assert content['command'].startswith('python benchmarks/')
    assert content['machine']['threads'] == torch.get_num_threads()
    assert content['versions']['torch'] == torch.__version__
    return content['rows']


def test_both_forms_of_a_step_are_compared_and_their_memory_is_measured(
    run, monkeypatch, capsys, tmp_path
):
    written = tmp_path / 'memory.json'
    words = ['--plain', '--methods', 'finetune', 'plop', '--json', str(written)]
    module, status = run('memory', *words)
    assert status == 0
    output = capsys.readouterr().out
    plain, plop = rows_of(written)
    assert [row['name'] for row in (plain, plop)] == ['finetune', 'plop']
    for row in (plain, plop):
        assert f'\n{row["name"]} ' in output
        for form in ('fast', 'plain'):
            step, peak = (row[f'{form}_{what}_mebibytes'] for what in ('step', 'peak'))
            assert 0 < step < peak == step + row['held_mebibytes']
    # The teacher's weights are held, too.
    assert plop['held_mebibytes'] > plain['held_mebibytes']
    # A plain form with another loss is told.
    plain_forms = module.PLAIN
    monkeypatch.setitem(plain_forms, 'plop', plain_forms['finetune'])
    monkeypatch.setattr(sys, 'argv', ['memory', '--quick', '--plain', '--methods', 'plop'])
    assert module.main() == 1
    assert 'forms differ' in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.walk
def test_the_plain_form_of_every_method_is_its_own(run, tmp_path):
    """At many classes and sizes at which logits are enlarged, and by the resident memory too."""
    written = tmp_path / 'memory.json'
    _, status = run('memory', '--plain', '--resident', '--json', str(written))
    assert status == 0
    assert all(row['plain_resident_mebibytes'] > 0 for row in rows_of(written))


@pytest.mark.slow
@pytest.mark.walk
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
    """Build the contestants of ``step.py`` for one method and a thin network."""

    def made(method, model='fcn_r18-thin', crop=32):
        step = benchmark_module('step')
        init_default_scope('mmseg_cil')
        data = step.random_batch(2, 32, (3, 2))
        with step.quietly():
            rows = step.contestants(
                argparse.Namespace(
                    model=ROOT / f'configs/_base_/models/{model}.py',
                    classes=(3, 2),
                    crop=crop,
                    methods=[method],
                    tasks=1,
                    snapshots=None,
                    forms=None,
                    frozen=None,
                    student=None,
                    plain=False,
                    amp=False,
                    device='cpu',
                ),
                tmp_path,
                data,
            )
        return rows, data

    return made


@pytest.mark.parametrize(
    ('model', 'distilled'), [('fcn_r18-thin', False), ('fcn_r18-thin_aux', True)]
)
def test_a_row_says_when_there_is_no_auxiliary_head_to_distil(model, distilled, step_of):
    rows, data = step_of('m2kd', model)
    assert any('loss_ad' in name for name in rows[-1].step(data)) == distilled
    assert [bool(row.note) for row in rows] == [False, False, not distilled]


def test_the_generator_is_of_the_size_of_a_walk_and_counted(step_of):
    rows, _ = step_of('dfgr', crop=272)
    *_, generator = rows[-1].parts
    assert isinstance(generator, LayoutGenerator) and generator.size == (256, 256)
    assert rows[-1].note == ''


def test_forms_of_the_teacher_and_plain_forms_have_rows_of_their_own(run, capsys, tmp_path):
    written = tmp_path / 'times.json'
    words = ['--methods', 'mib', 'dfd', '--forms', 'both', 'bfloat16', '--plain', '--least']
    _, status = run('step', *words, '--json', str(written))
    assert status == 0
    rows = [
        'fine-tuning',
        'limit',
        'limit both',
        'limit bfloat16',
        'mib, plain',
        'dfd',
        'mib',
        'mib both',
        'mib bfloat16',
    ]
    assert [row['name'] for row in rows_of(written)] == rows
    _, _, table = capsys.readouterr().out.partition('  target\n')
    assert [line[:20].strip() for line in table.splitlines()][: len(rows)] != []
    assert all(f'\n{name} ' in f'\n{table}' for name in rows)


def test_frozen_parts_have_rows_of_their_own(run, capsys, tmp_path):
    written = tmp_path / 'times.json'
    words = ['--methods', 'mib', 'dfd', '--frozen', 'first', 'backbone', '--json', str(written)]
    _, status = run('step', *words)
    assert status == 0
    assert [row['name'] for row in rows_of(written)] == [
        'fine-tuning',
        'limit',
        'fine-tuning first',
        'fine-tuning backbone',
        'dfd',
        'mib',
        'mib first',
        'mib first shared',
        'mib backbone',
        'mib backbone shared',
    ]
    assert 'mib backbone shared' in capsys.readouterr().out


def test_samples_of_a_view_are_mmsegmentations(benchmark_module, monkeypatch, capsys, tmp_path):
    written = tmp_path / 'samples.json'
    monkeypatch.setattr(sys, 'argv', ['data', '--quick', '--json', str(written)])
    module = benchmark_module('data')
    module.main()
    rows = [row['name'] for row in rows_of(written)]
    assert rows == ['ours', 'ours, masks kept', 'MMSegmentation', 'decoding', 'masks']
    output = capsys.readouterr().out
    assert all(f'\n{name} ' in output for name in rows)
    monkeypatch.setattr(module, 'map_of', lambda labels, table: labels + 1)
    with pytest.raises(SystemExit, match='the labels differ'):
        module.main()


def test_forms_of_the_student_have_rows_of_their_own(run, tmp_path):
    written = tmp_path / 'times.json'
    forms = ['channels_last', 'fused', 'recomputed', 'bfloat16', 'all']
    words = ['--methods', 'finetune', '--student', *forms, '--json', str(written)]
    assert run('step', *words)[1] == 0
    rows = {row['name']: row for row in rows_of(written)}
    assert list(rows) == ['fine-tuning', 'limit', 'finetune', *(f'finetune, {f}' for f in forms)]
    assert rows['finetune, recomputed']['mebibytes'] < rows['finetune']['mebibytes']


def test_targets_are_judged(run):
    module, _ = run('step', '--methods', 'mib')
    for name in ('mib', 'mib bfloat16', 'mib, all'):
        assert module.verdict(name, 1.14).endswith('met')
        assert module.verdict(name, 1.16).endswith('missed')
    for name in ('finetune', 'mib, plain', 'mib_ewf'):
        assert module.verdict(name, 1.0) == ''


@pytest.mark.parametrize('name', ['losses', 'step', 'memory'])
def test_the_command_line_is_told(name, run, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(name, '--help')
    assert stopped.value.code == 0
    assert '--json' in capsys.readouterr().out


def test_the_clock_of_a_walk_counts_the_innermost_phase(benchmark_module):
    module = benchmark_module('walk_clock')
    times = iter(range(100))
    clock = module.Clock(now=lambda: 0, used=lambda: 0)
    clock.now = clock.used = lambda: next(times) // 2

    def build():
        clock.now(), clock.used()  # a second passes

    inner = clock.wrap(build, 'build')
    outer = clock.wrap(lambda: (build(), inner(), build()), 'evaluation')
    outer()
    assert clock.seconds == clock.processor == {'other': 0, 'evaluation': 4, 'build': 2}
    assert clock.calls == {'evaluation': 1, 'build': 1}
    clock.wrap(outer, 'rehearsal')()
    # A closed phase keeps the time of others.
    assert clock.seconds['evaluation'] == 4 and clock.seconds['rehearsal'] > 6
    clock.mark('begun')
    first = clock.marks['begun']
    clock.mark('begun')
    assert clock.marks == {'begun': first}


@pytest.mark.slow
@pytest.mark.walk
def test_a_walk_is_measured_phase_by_phase(benchmark_module, monkeypatch, capsys, tmp_path):
    written = tmp_path / 'times.json'
    words = ['--tiny', '--iterations', '2', '--repeats', '1', '--plain', '--json', str(written)]
    monkeypatch.setattr(sys, 'argv', ['walk', *words])
    module = benchmark_module('walk')
    assert module.main() == 0
    output = capsys.readouterr().out
    results = {row.pop('name'): row for row in rows_of(written)}
    assert list(results) == ['as it is', 'plain']
    for result in results.values():
        assert set(result['seconds']) <= {*module.PHASES, module.REST}
        assert result['steps'] == result['calls']['iterations'] == result['calls']['export'] == 3
        assert sum(result['seconds'].values()) <= result['whole'] + 1e-6
        assert 0 < result['seconds']['iterations'] < result['whole']
        assert 0 < result['first_iteration'] < result['whole']
    assert all(f'\n{phase:<20}' in output for phase in ('import', 'rehearsal', 'report', 'export'))


@pytest.mark.slow
@pytest.mark.walk
def test_vdfd_on_digits_chooses_the_weight_on_training_digits(
    benchmark_module, monkeypatch, capsys
):
    """And with the weight 0 a penalty is none: the walk is that of fine-tuning."""
    module = benchmark_module('digits')
    sets, walk = [], module.walk

    def record(method, weight, seed, epochs, train_set, test_set):
        sets.append((train_set, test_set))
        return walk(method, weight, seed, epochs, train_set, test_set)

    monkeypatch.setattr(module, 'walk', record)
    monkeypatch.setattr(
        sys, 'argv', ['digits', '--weights', '0', '100', '--seeds', '0', '--epochs', '2']
    )
    status = module.main()
    rows = [
        line.split()
        for line in capsys.readouterr().out.splitlines()
        if line.startswith(('finetune', 'dfd', 'vdfd'))
    ]
    held_out, tested = rows[:5], rows[5:]
    assert [row[:2] for row in held_out] == [
        ['finetune', '0'],
        ['dfd', '0'],
        ['dfd', '100'],
        ['vdfd', '0'],
        ['vdfd', '100'],
    ]
    assert held_out[0][2:] == held_out[1][2:] == held_out[3][2:]
    for row, choices in zip(tested[1:], (held_out[1:3], held_out[3:]), strict=True):
        best = max(choices, key=lambda choice: float(choice[4]))
        assert row[:2] == best[:2]
    # A strong penalty keeps the earlier steps, class-incrementally at the cost of the new ones.
    for strong in (held_out[2], held_out[4]):
        assert float(strong[3]) > float(held_out[0][3])
    assert status == (0 if min(float(row[4]) for row in tested[1:]) > float(tested[0][4]) else 1)
    # No test digit was seen where the weight was chosen.
    digits = [
        {tuple(image.flatten().tolist()) for part in pair for image in part.images}
        for pair in (sets[0], sets[-1][1:])
    ]
    test_alone = digits[1] - {tuple(image.flatten().tolist()) for image in sets[-1][0].images}
    assert test_alone and not test_alone & digits[0]


@pytest.mark.slow
@pytest.mark.walk
def test_vdfd_equals_its_plain_form_and_its_cost_is_told(benchmark_module, monkeypatch, capsys):
    monkeypatch.setattr(
        sys,
        'argv',
        [
            'vdfd',
            '--device',
            'cpu',
            '--depth',
            '50',
            '--size',
            '64',
            '--steps',
            '1',
            '--repeats',
            '1',
        ],
    )
    benchmark_module('vdfd').main()
    output = capsys.readouterr().out
    # The figure of docs/vdfd.md for ResNet-50 with 19 classes.
    assert 'a step keeps 88645 floats' in output
    assert output.splitlines()[-1].split()[0] == '1'
