import json

import numpy as np
import pytest
from synthetic_walks import make_walk
from test_report import Page, _check_page, _percent, _run

from mmseg_cil.errors import InputError
from mmseg_cil.utils.harmonic import with_harmonic
from mmseg_cil.visualization.comparison_figures import sweep_figure
from mmseg_cil.visualization.report import render_comparison
from mmseg_cil.visualization.style import styled
from mmseg_cil.visualization.sweep import CONFIG_COPY, look_up, read_sweep, scale_of
from mmseg_cil.visualization.walk_record import read_walk

KEY = 'method.regularisers.0.loss_weight'


def _walk(folder, weight=None, text='', **kwargs):
    """A walk with the copy of its config; without a weight it has no regulariser."""
    method = kwargs.setdefault('method', 'finetune' if weight is None else 'vdfd')
    made = make_walk(folder, **kwargs)
    part = '' if weight is None else f", regularisers=[dict(type='V', loss_weight={weight})]"
    (folder / CONFIG_COPY).write_text(f"method = dict(name='{method}'{part})\n{text}\n")
    return made


def _sweep(folders, key=KEY):
    notes = []
    walks = [read_walk(folder) for folder in folders]
    return read_sweep(walks, [folder.name for folder in folders], key, notes), notes


def test_the_copy_is_what_a_walk_writes():
    from mmseg_cil.engine import commands

    assert commands.CONFIG_COPY == CONFIG_COPY


def test_the_page_shows_every_run_by_its_value(tmp_path):
    made = {
        name: _walk(tmp_path / name, weight, keep=keep)
        for name, weight, keep in (
            ('a', 100, 0.9), ('b', 1, 0.7), ('c', '1e-2', 0.4), ('ft', None, 0.3),
        )
    }  # fmt: skip
    lines = []
    folders = [folder for folder, _ in made.values()]
    path = render_comparison(folders, vary=KEY, echo=lines.append)
    page = Page(path)
    _check_page(page)
    rows = page.table('mIoU and forgetting (%) after step 2 by the value of ' + KEY)
    assert rows[0] == ['method', 'value', 'old', 'new', 'hIoU', 'all', 'forgetting', 'run']
    assert [row[1] for row in rows[1:]] == ['0.01', '1', '100', '–']
    assert [row[-1] for row in rows[1:]] == ['vdfd (c)', 'vdfd (b)', 'vdfd (a)', 'finetune']
    for row, name in zip(rows[1:], ['c', 'b', 'a', 'ft'], strict=True):
        means = with_harmonic(made[name][1]['steps'][-1]['mIoU'])
        assert row[2:6] == [_percent(means[part]) for part in ('old', 'new', 'hIoU', 'all')]
        assert row[6] == '7.89'
    assert (path.parent / 'comparison_sweep.svg').exists()
    assert 'by the value of' in '\n'.join(lines) and '\n'.join(lines).isascii()
    # Without --vary a curve of an earlier comparison does not stay behind.
    render_comparison(folders, echo=lines.append)
    assert not (path.parent / 'comparison_sweep.svg').exists()


def test_the_figure_draws_a_line_a_method_and_a_level_a_run_without_the_key(tmp_path):
    _walk(tmp_path / 'a', 0, keep=0.2)
    _walk(tmp_path / 'b', 10, keep=0.4)
    _walk(tmp_path / 'c', 10, keep=0.8)
    _walk(tmp_path / 'd', 1000, keep=0.9)
    _walk(tmp_path / 'e', 10, keep=0.5, method='dfd')
    _walk(tmp_path / 'ft')
    _walk(tmp_path / 'mib', method='mib')
    sweep, notes = _sweep([tmp_path / name for name in ('a', 'b', 'c', 'd', 'e', 'ft', 'mib')])
    assert notes == [] and sweep.methods == ['vdfd', 'dfd'] and sweep.values == [0, 10, 1000]
    old = [run.scores['old'] for run in sweep.runs if run.method == 'vdfd']
    # Runs of one value are averaged in the line and drawn one by one.
    line = sweep.line('vdfd', 'old')
    assert line == [(0, old[0]), (10, pytest.approx((old[1] + old[2]) / 2)), (1000, old[3])]
    with styled():
        figure = sweep_figure(sweep)
    assert [axes.get_title('left') for axes in figure.axes] == [
        'mIoU of old', 'mIoU of new', 'mIoU of all', 'forgetting',
    ]  # fmt: skip
    axes = figure.axes[0]
    assert axes.get_xscale() == 'symlog'
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ['0', '10', '1000']
    assert np.allclose(axes.lines[0].get_ydata(), [100 * y for _, y in line])
    assert np.allclose(np.sort(axes.lines[1].get_ydata()), np.sort(100 * np.array(old)))
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ['vdfd', 'dfd', 'ft', 'mib']


@pytest.mark.parametrize(
    ('values', 'scale'),
    [
        ([1, 10], 'linear'), ([1, 11], 'log'), ([0, 1, 2], 'linear'), ([0, 1, 100], 'symlog'),
        ([-1, 100], 'symlog'), ([5], 'linear'), ([0], 'linear'), ([1e-5, 1e-3], 'log'),
    ],
)  # fmt: skip
def test_the_scale_of_the_axis(values, scale):
    assert scale_of(values) == scale


def test_a_key_is_found_in_lists_numbers_and_dotted_names():
    config = {'step_overrides': {0: {'lr': 1}, 'later': {'optim_wrapper.optimizer.lr': 2}},
              'method': {'parts': [{'w': 3}, [4]]}}  # fmt: skip
    assert look_up(config, 'step_overrides.0.lr') == 1
    assert look_up(config, 'step_overrides.later.optim_wrapper.optimizer.lr') == 2
    assert look_up(config, 'method.parts.0.w') == 3 and look_up(config, 'method.parts.1.0') == 4
    nothing = look_up({}, 'a')
    for key in ('method.parts.2', 'method.parts.0.v', 'method.parts.0.w.x', 'lr', 'method.parts.w'):
        assert look_up(config, key) is nothing


def test_what_a_method_says_of_its_protocol_counts(tmp_path):
    overrides = "{'toy_3-1': {'regularisers.0.loss_weight': 7}, 'other': {'name': 'x'}}"
    _walk(
        tmp_path / 'a',
        1,
        "method = dict(name='vdfd', regularisers=[dict(type='V', "
        f'loss_weight=1)], protocol_overrides={overrides})',
    )
    _walk(tmp_path / 'b', 2)
    sweep, notes = _sweep([tmp_path / 'a', tmp_path / 'b'])
    assert sweep.values == [2, 7] and notes == []


def test_runs_are_read_after_the_step_that_most_have_reached(tmp_path):
    _walk(tmp_path / 'done', 1)
    _, metrics = _walk(tmp_path / 'half', 10, done=2)
    _walk(tmp_path / 'other', 50, done=2)
    _walk(tmp_path / 'begun', 100, done=1)
    _walk(tmp_path / 'ft', done=2)
    _walk(tmp_path / 'joint', steps=[('background', 'cat', 'dog', 'cow', 'sheep')], method='joint')
    names = ('done', 'half', 'other', 'begun', 'ft', 'joint')
    sweep, notes = _sweep([tmp_path / name for name in names])
    assert sweep.step == 1
    assert [run.label for run in sweep.runs] == ['done', 'half', 'other']
    assert [run.label for run in sweep.levels] == ['ft', 'joint']
    assert notes == ['Left out of the sweep, step 1 not being evaluated: begun.']
    assert sweep.runs[1].scores['all'] == metrics['steps'][1]['mIoU']['all']
    # Forgetting after step 1 of a finished walk is computed: both are the same walk till then.
    ious = [entry['IoU'] for entry in metrics['steps']]
    expected = np.mean([ious[0][name] - ious[1][name] for name in ious[0]])
    assert sweep.runs[0].scores['forgetting'] == pytest.approx(expected)
    assert sweep.levels[1].scores['old'] is None


def test_after_step_0_there_is_neither_old_nor_forgetting(tmp_path):
    for name, weight in (('a', 1), ('b', 2)):
        _, metrics = _walk(tmp_path / name, weight, done=1)
        metrics['continual']['forgetting'] = None
        (tmp_path / name / 'metrics.json').write_text(json.dumps(metrics))
    sweep, _ = _sweep([tmp_path / 'a', tmp_path / 'b'])
    with styled():
        figure = sweep_figure(sweep)
    assert [axes.get_title('left') for axes in figure.axes] == ['mIoU of new', 'mIoU of all']
    assert figure.axes[0].get_xscale() == 'linear'


def test_what_else_differs_is_told(tmp_path):
    _walk(tmp_path / 'a', 1, "train = dict(seed=1); work_dir = 'a'")
    _walk(tmp_path / 'b', 2, "train = dict(seed=2, lr=1); work_dir = 'b'")
    _walk(tmp_path / 'ft', None, 'train = dict(seed=3)')
    _, notes = _sweep([tmp_path / name for name in ('a', 'b', 'ft')])
    assert notes == [f'The runs of vdfd differ in more than {KEY}: train.lr, train.seed.']


def test_what_cannot_be_an_axis_is_refused(tmp_path):
    first, second = tmp_path / 'a', tmp_path / 'b'
    _walk(first, 1)
    _walk(second, 2, "flag = True; word = 'x'; huge = float('inf')")
    both = [first, second]
    with pytest.raises(InputError, match=r'no run has it.*did you mean method\.regularisers\.0\.'):
        _sweep(both, 'method.regularisers.0.weight')
    with pytest.raises(InputError, match=r'no run has it in its config$'):
        _sweep(both, 'nonsense')
    for key, told in (('flag', 'True'), ('word', "'x'"), ('huge', 'inf')):
        with pytest.raises(InputError, match=f'config of .*b it is {told}, but only a finite'):
            _sweep(both, key)
    with pytest.raises(InputError, match=rf'a group of settings.*did you mean {KEY}'):
        _sweep(both, 'method.regularisers')
    (second / CONFIG_COPY).write_text('method = (')
    with pytest.raises(InputError, match=r'walk_config\.py cannot be read: SyntaxError'):
        _sweep(both)
    (second / CONFIG_COPY).unlink()
    with pytest.raises(InputError, match=r'walk_config\.py is missing.*leave the run out'):
        _sweep(both)


@pytest.mark.walk
def test_the_tool_takes_a_key(tmp_path):
    for name, weight in (('a', 1), ('b', 100)):
        _walk(tmp_path / name, weight)
    done = _run(tmp_path / 'a', tmp_path / 'b', '--vary', KEY, '--out', tmp_path / 'out')
    assert done.returncode == 0, done.stderr
    assert (tmp_path / 'out/comparison_sweep.svg').exists()
    wrong = _run(tmp_path / 'a', tmp_path / 'b', '--vary', 'method.regulariser.0.loss_weight')
    assert wrong.returncode == 2 and f'did you mean {KEY}?' in wrong.stderr
    assert 'Traceback' not in wrong.stderr
    alone = _run(tmp_path / 'a', '--vary', KEY)
    assert alone.returncode == 2 and 'at least two' in alone.stderr
