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
#: Forms that compute the same but for roundings.
SAME_FORMAT = {
    'fold_norms': dict(fold_norms=True),
    'channels_last': dict(channels_last=True),
    'both': dict(fold_norms=True, channels_last=True),
}
NUMBER_FORMATS = {
    'bfloat16': dict(fold_norms=True, channels_last=True, dtype='bfloat16'),
    'float16': dict(dtype='float16'),
}
#: Greatest relative and absolute difference of a loss in float64; 1e-14 of it was seen at most.
BOUND = dict(rtol=1e-12, atol=1e-12)
#: Methods whose generated images are float32.
IN_FLOAT32 = ('dfgr', 'dfgr_dtid')
BOUND_IN_FLOAT32 = dict(rtol=1e-4, atol=1e-5)
BOUND_OF_NUMBER_FORMATS = dict(rtol=5e-2, atol=1e-5)
#: Their teacher is asked for cells whose old class it is sure of, and the tiny one is of none.
NEVER_SURE = ('star', 'star_m', 'star_paper')
#: PLOP's labels are the teacher's where it is sure; another number format decides some pixels
#: otherwise. The bound is relative to the greatest loss.
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


@pytest.mark.slow
@pytest.mark.walk
@pytest.mark.parametrize('method', METHODS)
def test_fifty_iterations_of_every_method_in_the_same_number_format(
    method, data_root, tmp_path, request
):
    bound = BOUND_IN_FLOAT32
    if method not in IN_FLOAT32:
        request.getfixturevalue('in_float64')
        bound = BOUND
    plain = walk(data_root, method, tmp_path / 'plain')
    assert len(plain['loss']) == 50
    for name, form in SAME_FORMAT.items():
        formed = walk(data_root, method, tmp_path / name, form, str(tmp_path / 'plain'))
        torch.testing.assert_close(formed, plain, **bound)


@pytest.mark.slow
@pytest.mark.walk
@pytest.mark.parametrize('method', METHODS)
def test_fifty_iterations_of_every_method_in_other_number_formats(method, data_root, tmp_path):
    plain = walk(data_root, method, tmp_path / 'plain')
    assert len(plain['loss']) == 50
    for name, form in NUMBER_FORMATS.items():
        formed = walk(data_root, method, tmp_path / name, form, str(tmp_path / 'plain'))
        assert plain.keys() == formed.keys()
        changed = any(not torch.equal(formed[key], values) for key, values in plain.items())
        assert changed != (method in NEVER_SURE)
        for key, values in plain.items():
            if DECIDING in key:
                difference = (formed[key] - values).abs().max()
                assert difference <= BOUND_OF_DECIDING * values.abs().max()
            else:
                torch.testing.assert_close(formed[key], values, **BOUND_OF_NUMBER_FORMATS)
