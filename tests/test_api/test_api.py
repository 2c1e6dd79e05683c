"""The Python API: a walk leaves its process as it was, and two are like two processes."""

import json
import os
import random
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer

import mmseg_cil
from mmseg_cil.errors import InputError
from mmseg_cil.testing.processes import Program, ended
from mmseg_cil.testing.tiny import tiny_config
from mmseg_cil.testing.walks import assert_same_weights

METHODS = ('mib', 'finetune')


def config(data_root, method):
    cfg = tiny_config(data_root, method)
    # One asks cuDNN for speed, the other for sameness; the second counts its threads.
    cfg.env_cfg = dict(cudnn_benchmark=method == 'mib')
    return cfg


def walk_tiny(data_root, method, work_dir):
    mmseg_cil.walk(config(data_root, method), work_dir, report=False, progress=False)


def state():
    """Return all state of the process that a walk might change."""
    return dict(
        python=random.getstate(),
        numpy=np.random.get_state()[1].tolist(),
        torch=torch.get_rng_state().tolist(),
        flags=(torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic),
        threads=(torch.get_num_threads(), cv2.getNumThreads()),
        variables=dict(os.environ),
        signals=[signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)],
        filters=list(warnings.filters),
        instances=[
            dict(kind._instance_dict) for kind in (MMLogger, MessageHub, Visualizer, DefaultScope)
        ],
        files=open_files(),
    )


def open_files():
    """Paths of the files that this process has open, where the system tells."""
    links = Path('/proc/self/fd')
    paths = [os.path.realpath(link) for link in links.iterdir()] if links.is_dir() else []
    # Matplotlib keeps those of its fonts.
    return sorted(path for path in paths if os.path.isfile(path) and not path.endswith('.ttf'))


@pytest.fixture(scope='module')
def results(data_root, tmp_path_factory):
    """Two walks one after the other in this process, and what it was before and after them."""
    folder = tmp_path_factory.mktemp('walks')
    walk_tiny(data_root, METHODS[1], folder / 'warm')  # imports and first uses keep files open
    before = state()
    found = [
        mmseg_cil.walk(config(data_root, method), folder / method, progress=False)
        for method in METHODS
    ]
    return found, before, state()


@pytest.mark.walk
def test_a_walk_leaves_the_process_as_it_was(results):
    _, before, after = results
    for name, value in before.items():
        assert after[name] == value, name


@pytest.mark.walk
@pytest.mark.parametrize('index', [pytest.param(0, marks=pytest.mark.slow), 1])
def test_two_walks_in_a_process_are_those_of_two_processes(results, data_root, tmp_path, index):
    here = results[0][index]
    arguments = (data_root, METHODS[index], tmp_path / 'own')
    with ended([Program(walk_tiny, arguments, tmp_path / 'log')]) as (program,):
        assert program.wait(300) == 0, program.output
    assert_same_weights(here.work_dir, tmp_path / 'own', 0, 1, 2)
    own = mmseg_cil.load_walk(tmp_path / 'own')
    assert own.table() == here.table()


@pytest.mark.walk
def test_the_result_holds_scores_files_and_tables(results):
    result = results[0][0]
    metrics = json.loads((result.work_dir / 'metrics.json').read_text())
    assert result.finished and result.method == 'mib' and result.report.is_file()
    assert [path.parent.name for path in result.checkpoints] == ['step_00', 'step_01', 'step_02']
    last = [row for row in result.table() if row['step'] == 2]
    assert {row['class']: row['IoU'] for row in last} == metrics['steps'][2]['IoU']
    assert [row['class'] for row in last if row['new']] == ['grey']
    total = f'{100 * metrics["steps"][2]["mIoU"]["all"]:.2f}'
    assert total in str(result).splitlines()[-1] and f'<td>{total}</td>' in result._repr_html_()


@pytest.mark.walk
def test_evaluating_gives_the_scores_again(results):
    result = results[0][0]
    before = (result.work_dir / 'metrics.json').read_bytes()
    again = mmseg_cil.evaluate(result, step=1, keep=False, progress=False)
    assert [step.iou for step in again.steps] == [result.steps[1].iou]
    assert (result.work_dir / 'metrics.json').read_bytes() == before


@pytest.mark.walk
def test_what_is_wrong_is_an_exception_and_leaves_nothing(results, data_root, tmp_path):
    before = state()
    with pytest.raises(InputError, match='already holds a walk'):
        mmseg_cil.walk(config(data_root, 'mib'), results[0][0].work_dir, progress=False)
    with pytest.raises(InputError, match='work_dir is missing'):
        mmseg_cil.walk(config(data_root, 'mib'))
    with pytest.raises(InputError, match='--method is missing'):
        mmseg_cil.walk(work_dir=tmp_path / 'none')
    with pytest.raises(InputError, match='not 3'):
        mmseg_cil.walk(3, tmp_path / 'none')
    with pytest.raises(InputError):
        mmseg_cil.load_walk(tmp_path)
    assert state() == before and not (tmp_path / 'none').exists()


@pytest.mark.walk
def test_names_come_when_they_are_used():
    script = (
        'import sys, mmseg_cil\n'
        'assert "walk" in dir(mmseg_cil) and "torch" not in sys.modules\n'
        'from mmseg_cil import walk, evaluate, load_walk, WalkResult\n'
        'assert not hasattr(mmseg_cil, "nothing")\n'
    )
    subprocess.run([sys.executable, '-c', script], check=True)
