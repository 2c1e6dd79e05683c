"""Grids that are walked: workers, failures, kills and clusters change nothing in the table."""

import csv
import json
import os
import shutil
import signal
import time

import pytest
from grid_processes import Fork, Forks

from mmseg_cil.errors import InputError
from mmseg_cil.grid import cluster, command
from mmseg_cil.grid.asked import asked_of
from mmseg_cil.grid.run import walk_grid
from mmseg_cil.testing.processes import ended, start_script
from mmseg_cil.testing.tiny import ROOT, tiny_config
from mmseg_cil.utils.stopping import Stopped, ended_by_signals


@pytest.fixture(scope='module')
def config(data_root, tmp_path_factory):
    """The file of a grid: two methods, one that diverges after step 0, and the references."""
    cfg = tiny_config(data_root)
    diverging = dict(name='diverging', method='mib', options={'step_overrides.later.lr': 1e30})
    cfg.grid = dict(
        methods=['finetune', 'mib', diverging],
        seeds=[1],
        baseline='finetune',
        references=dict(joint={}, nothing_learnt={}),
    )
    path = tmp_path_factory.mktemp('config') / 'tiny.py'
    path.write_text(cfg.pretty_text)
    return path


def asked(config, work_dir, *arguments):
    return asked_of(
        command.parse_args([str(config), '--work-dir', str(work_dir), *map(str, arguments)])
    )


def results(work_dir):
    names = ('rows.csv', 'cells.csv', 'table.md')
    # A walk that has diverged says where its state is.
    return {name: (work_dir / name).read_text().replace(str(work_dir), 'DIR') for name in names}


@pytest.fixture(scope='module')
def unbroken(config, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('unbroken')
    forks = Forks(1)
    # A cell has failed.
    assert walk_grid(asked(config, work_dir), forks) == 1
    begun = [name for name, _ in forks.started]
    assert begun == [
        'step_0/tiny/finetune/seed_1',
        *(f'tiny/{name}/seed_1' for name in ('finetune', 'mib', 'diverging')),
        'tiny/joint/seed_1',
        'tiny/nothing_learnt/seed_1',
    ]
    return work_dir


def scores(work_dir):
    with open(work_dir / 'rows.csv', newline='') as file:
        return {(row['method'], int(row['step'])): row for row in csv.DictReader(file)}


def test_step_0_is_one_and_later_steps_are_the_methods_own(unbroken):
    found = scores(unbroken)
    for method in ('mib', 'diverging', 'nothing_learnt'):
        shared = {**found[method, 0], 'method': 'finetune'}
        assert shared == found['finetune', 0]
        journal = json.loads((unbroken / f'cells/tiny/{method}/seed_1/journal.json').read_text())
        assert journal['steps'][0]['taken_from']['work_dir'].endswith('step_0/tiny/finetune/seed_1')
    assert found['mib', 2] != {**found['finetune', 2], 'method': 'mib'}


def test_what_learns_nothing_keeps_its_classes_and_has_no_new_ones(unbroken):
    found = scores(unbroken)
    assert float(found['nothing_learnt', 1]['new']) == float(found['nothing_learnt', 2]['new']) == 0
    assert float(found['nothing_learnt', 2]['later']) == 0
    assert float(found['nothing_learnt', 2]['base']) > 0
    # Joint training is one step, which stands beside the last.
    assert ('joint', 2) in found and ('joint', 0) not in found
    assert float(found['joint', 2]['all']) > 0 and found['joint', 2]['old']


def test_a_failed_cell_is_shown_with_its_last_line_beside_the_others(unbroken):
    found = scores(unbroken)
    assert ('diverging', 0) in found and ('diverging', 2) not in found
    table = (unbroken / 'table.md').read_text()
    assert '| diverging | failed | failed | failed | failed | 0 of 1 |' in table
    assert 'seed 1 failed: error: step 1: training has diverged' in table
    page = (unbroken / 'index.html').read_text()
    assert 'training has diverged' in page and (unbroken / 'curves_tiny.svg').is_file()


def test_tables_are_made_again_of_the_rows_alone(unbroken, tmp_path, capsys):
    for name in ('rows.csv', 'cells.csv'):
        shutil.copy(unbroken / name, tmp_path)
    assert command.main(['--tables', str(tmp_path), '--baseline', 'finetune']) == 0
    assert 'diverging' in capsys.readouterr().out
    again = {**results(unbroken), 'cells.csv': (unbroken / 'cells.csv').read_text()}
    assert results(tmp_path) == again
    before = results(unbroken)
    assert command.main(['--tables', str(unbroken)]) == 0
    assert results(unbroken) == before


def test_two_workers_that_are_ended_midway_come_to_the_same_table(config, unbroken, tmp_path):
    sent = []

    def watch():
        """End the grid while two cells are in training."""
        if not sent and len(list(tmp_path.glob('cells/tiny/*/seed_1/step_01/2*/vis_data'))) >= 2:
            sent.append(os.kill(os.getpid(), signal.SIGTERM))

    forks = Forks(2, watch)
    with pytest.raises(Stopped), ended_by_signals():
        walk_grid(asked(config, tmp_path), forks)
    assert sent and all(fork.poll() is not None for _, fork in forks.started)
    assert results(tmp_path) != results(unbroken)
    more = Forks(2)
    assert walk_grid(asked(config, tmp_path), more) == 1
    assert not any(name.startswith('step_0') for name, _ in more.started)
    assert results(tmp_path) == results(unbroken)


def test_a_finished_grid_is_walked_no_more_and_grows(config, unbroken, tmp_path):
    work_dir = tmp_path / 'grid'
    shutil.copytree(unbroken, work_dir)
    before, forks = results(work_dir), Forks(2)
    done = ['--methods', 'finetune', 'mib', '--references', 'joint']
    assert walk_grid(asked(config, work_dir, *done), forks) == 0 and not forks.started
    # Results of walks that were not asked for this time stay.
    assert results(work_dir) == before
    assert walk_grid(asked(config, work_dir, '--methods', 'lwf'), forks) == 0
    assert [name for name, _ in forks.started] == ['tiny/lwf/seed_1']
    assert scores(work_dir)['lwf', 0]['all'] == scores(unbroken)['mib', 0]['all']


def test_another_grid_is_refused_in_its_folder(config, unbroken):
    before = results(unbroken)
    with pytest.raises(InputError, match=r'another config.*differ in optim_wrapper\.optimizer\.lr'):
        command.main(
            [
                str(config),
                '--work-dir',
                str(unbroken),
                '--cfg-options',
                'optim_wrapper.optimizer.lr=9',
            ]
        )
    assert results(unbroken) == before


@pytest.mark.parametrize(
    ('arguments', 'told'),
    [
        (['--methods', 'finetune', 'mibb'], '--method mibb: there is no'),
        (['--protocols', 'nonsense'], '--protocol nonsense'),
        (['--seeds', '-1'], 'whole numbers, 0 or more'),
        (['--seeds', '1', '1'], 'seed 1 is in the grid twice'),
        (['--set', 'optim_wrap.lr=1'], "did you mean 'optim_wrapper'"),
        (['--set', 'mib:method.distillers.0.loss.loss_wieght=1'], 'loss_wieght'),
        (['--baseline', 'plop'], '--baseline plop'),
        (['--workers', '0'], '--workers 0'),
        (['--gpus', '0,'], '--gpus 0,'),
        (['--cluster-options', 'a=1'], '--cluster, which is missing'),
        (['--cluster', 'slurm', '--gpus', '0'], '--gpus is for workers of this machine'),
        (['--references', 'best'], 'invalid choice'),
    ],
)
def test_bad_input_is_told_before_anything_runs(config, tmp_path, arguments, told):
    work_dir = tmp_path / 'grid'
    with pytest.raises(InputError, match=told):
        command.main([str(config), '--work-dir', str(work_dir), *arguments])
    assert not (work_dir / 'cells').exists()


def test_what_is_refused_for_a_method_may_be_left_to_the_others(config, tmp_path, capsys):
    arguments = ['--methods', 'mib', '--references', 'joint', '--baseline', 'joint']
    arguments += ['--set', 'mib:method.distillers.0.loss.nonsense=1']
    with pytest.raises(InputError, match=r'mib@.*nonsense.*--allow-refused'):
        walk_grid(asked(config, tmp_path, *arguments), Forks())
    assert walk_grid(asked(config, tmp_path, *arguments, '--allow-refused'), Forks(2)) == 1
    row = 'mib@method.distillers.0.loss.nonsense=1'
    assert f'refused: {row} on tiny' in capsys.readouterr().out
    table = (tmp_path / 'table.md').read_text()
    assert f'| {row} | failed |' in table and '| joint | ' in table


def test_the_jobs_of_a_cluster_come_to_the_same_scores(config, unbroken, tmp_path, monkeypatch):
    class Waited(Fork):
        def wait(self):
            return self.program.wait(300)

    # Its job runs in this process, as submitit's debug cluster has it, and the walk in a fork.
    monkeypatch.setattr(cluster, 'begin', lambda job, arguments, variables: Waited(job))
    arguments = [
        str(config), '--work-dir', str(tmp_path), '--methods', 'mib', '--references', 'joint',
        '--baseline', 'mib', '--cluster', 'debug', '--cluster-options', 'timeout_min=5',
    ]  # fmt: skip
    assert command.main(arguments) == 0
    expected, found = scores(unbroken), scores(tmp_path)
    assert {key for key in found} == {('joint', 2), *(('mib', step) for step in range(3))}
    assert found['mib', 2] == expected['mib', 2]


@pytest.mark.slow
def test_walks_end_with_the_command_that_is_killed_and_go_on(config, unbroken, tmp_path):
    work_dir = tmp_path / 'grid'
    begin = [
        ROOT / 'tools/grid.py', config, '--methods', 'mib', '--references', 'joint',
        '--baseline', 'mib', '--work-dir', work_dir,
    ]  # fmt: skip
    program = start_script(begin, tmp_path / 'log')
    with ended([program]):
        deadline = time.monotonic() + 300
        while not list(work_dir.glob('cells/*/*/seed_1/step_01/2*/vis_data')):
            assert time.monotonic() < deadline and program.poll() is None, program.output
            time.sleep(0.05)
        program.kill()
    program = start_script(begin, tmp_path / 'log')
    with ended([program]):
        assert program.wait(600) == 0, program.output[-3000:]
    found, expected = scores(work_dir), scores(unbroken)
    assert found == {key: expected[key] for key in found} and ('mib', 2) in found
    assert 'ended by SIGTERM' in (work_dir / 'cells/tiny/mib/seed_1.log').read_text()
