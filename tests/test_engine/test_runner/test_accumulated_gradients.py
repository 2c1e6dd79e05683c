"""Walks whose updates gather the gradients of several iterations, killed in between."""

import functools

import pytest
import torch
from mmengine.optim.optimizer import amp_optimizer_wrapper as amp

from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.hooks.step_checkpoint_hook import RESUME_NAME
from mmseg_cil.testing.tiny import tiny_config
from mmseg_cil.testing.walks import assert_same_weights, at, killed


@pytest.mark.parametrize(
    ('method', 'kind', 'kill', 'saved'),
    [
        pytest.param('finetune', 'OptimWrapper', 5, 3, marks=pytest.mark.slow),
        pytest.param('finetune', 'AmpOptimWrapper', 4, 3, marks=pytest.mark.slow),
        # Its Adam is an optimizer beside the network's; the last update gathers one iteration only.
        ('vdfd_plain', 'BFloat16OptimWrapper', 6, 6),
    ],
)
def test_a_walk_killed_between_two_updates_resumes_to_the_same_weights(
    data_root, tmp_path, monkeypatch, method, kind, kill, saved
):
    # Here it scales on the CPU.
    monkeypatch.setattr(amp, 'is_cuda_available', lambda: True)
    monkeypatch.setattr(amp, 'GradScaler', functools.partial(torch.amp.GradScaler, 'cpu'))
    cfg = tiny_config(data_root, method, **{'default_hooks.checkpoint.interval': 1})
    cfg.step_overrides[0] = dict(max_iters=7)
    cfg.optim_wrapper.update(type=kind, accumulative_counts=3)
    WalkRunner(cfg, tmp_path / 'unbroken', steps='0').run()
    with killed(at(step=0, iteration=kill)):
        WalkRunner(cfg, tmp_path / 'broken', steps='0').run()
    state = torch.load(tmp_path / 'broken/step_00' / RESUME_NAME, weights_only=False)
    assert state['meta']['iter'] == saved
    WalkRunner(cfg, tmp_path / 'broken', resume=True, steps='0').run()
    assert_same_weights(tmp_path / 'unbroken', tmp_path / 'broken', 0)
