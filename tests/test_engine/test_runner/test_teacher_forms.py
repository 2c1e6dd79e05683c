"""Walks whose teachers have a cheaper form learn what those with the plain teacher learn."""

import json
from pathlib import Path

import pytest
import torch

from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.testing.tiny import tiny_config

ROOT = Path(__file__).resolve().parents[3]
#: Methods that run no network beside the student.
WITHOUT_TEACHER = (
    'dfd',
    'dft_star',
    'finetune',
    'joint',
    'vdfd',
    'vdfd_official',
    'vdfd_plain',
    'vdfd_ssl',
    'vdfd_step_ce',
    'vdfd_unce',
    'vdfd_ewf',
)
METHODS = sorted(
    path.stem
    for path in ROOT.glob('configs/_base_/methods/*.py')
    if path.stem not in WITHOUT_TEACHER
)
#: So small that training does not magnify what rounding does: at 1e-3, two students that differ
#: by 1e-6 differ by a tenth of the loss after 50 iterations.
LR = 1e-5
FOLDED = dict(fold_norms=True, channels_last=True)
NUMBER_FORMATS = {
    'bfloat16': dict(fold_norms=True, channels_last=True, dtype='bfloat16'),
    'float16': dict(dtype='float16'),
}
#: Greatest difference of a loss, relative to its greatest value in the fifty iterations. In
#: float64 1e-14 was seen at most.
BOUND = 1e-12
#: Methods whose generated images are float32.
IN_FLOAT32 = ('dfgr', 'dfgr_dtid')
BOUND_IN_FLOAT32 = 1e-4
BOUND_OF_NUMBER_FORMATS = 5e-2
#: Their teacher is asked for cells whose old class it is sure of, and the tiny one is of none.
NEVER_SURE = ('star', 'star_m', 'star_paper')
#: PLOP's labels are the teacher's where it is sure; another number format decides some pixels
#: otherwise.
DECIDING = 'loss_plop'
BOUND_OF_DECIDING = 0.1


def walk(data_root, method, folder, form=None, start_from=None):
    """Walk two steps, the second with fifty iterations, and return its losses by name."""
    changes = {'step_overrides.later.max_iters': 50, 'step_overrides.later.lr': LR}
    cfg = tiny_config(data_root, method, **changes)
    cfg.model.backbone.strides = (1, 1, 1, 1)
    if form:
        cfg.method.teacher_form = form
    options = dict(start_from=start_from, accept_changes=True) if start_from else {}
    WalkRunner(cfg, folder, steps='0-1', **options).run()
    (path,) = (folder / 'step_01').glob('*/vis_data/scalars.json')
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows = [row for row in rows if 'loss' in row]
    return {key: torch.tensor([row[key] for row in rows]) for key in rows[0] if 'loss' in key}


def greatest_differences(plain, formed):
    """Return the greatest difference of each loss, relative to its greatest value."""
    assert plain.keys() == formed.keys()
    assert all(len(values) == 50 for values in plain.values())
    return {
        key: ((formed[key] - values).abs().max() / values.abs().max().clamp(min=1e-12)).item()
        for key, values in plain.items()
    }


@pytest.mark.slow
@pytest.mark.walk
@pytest.mark.parametrize('method', METHODS)
def test_fifty_iterations_of_every_method_with_a_folded_teacher(
    method, data_root, tmp_path, request
):
    bound = BOUND_IN_FLOAT32
    if method not in IN_FLOAT32:
        request.getfixturevalue('in_float64')
        bound = BOUND
    plain = walk(data_root, method, tmp_path / 'plain')
    formed = walk(data_root, method, tmp_path / 'formed', FOLDED, str(tmp_path / 'plain'))
    for key, difference in greatest_differences(plain, formed).items():
        assert difference <= bound, key


@pytest.mark.slow
@pytest.mark.walk
@pytest.mark.parametrize('method', METHODS)
def test_fifty_iterations_of_every_method_in_other_number_formats(method, data_root, tmp_path):
    plain = walk(data_root, method, tmp_path / 'plain')
    for name, form in NUMBER_FORMATS.items():
        formed = walk(data_root, method, tmp_path / name, form, str(tmp_path / 'plain'))
        differences = greatest_differences(plain, formed)
        changed = any(difference > 0 for difference in differences.values())
        assert changed != (method in NEVER_SURE)
        for key, difference in differences.items():
            bound = BOUND_OF_DECIDING if DECIDING in key else BOUND_OF_NUMBER_FORMATS
            assert difference <= bound, (name, key)
