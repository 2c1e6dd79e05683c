"""Walks whose updates gather the gradients of several iterations, killed in between."""

import pytest
import torch
from tiny import tiny_config
from walks import assert_same_weights, at, killed

from mmseg_cil.engine.scheduler import TaskScheduler
from mmseg_cil.hooks.step_checkpoint_hook import RESUME_NAME


@pytest.mark.parametrize(('method', 'kind', 'kill', 'saved'), [
    pytest.param('finetune', 'OptimWrapper', 5, 3, marks=pytest.mark.slow),
    # Its Adam is an optimizer beside the network's; the last update gathers one iteration only.
    ('vdfd', 'BFloat16OptimWrapper', 6, 6),
])
def test_a_walk_killed_between_two_updates_resumes_to_the_same_weights(
        data_root, tmp_path, method, kind, kill, saved):
    cfg = tiny_config(data_root, method, **{'default_hooks.checkpoint.interval': 1})
    cfg.step_overrides[0] = dict(max_iters=7)
    cfg.optim_wrapper.update(type=kind, accumulative_counts=3)
    TaskScheduler(cfg, tmp_path / 'unbroken', steps='0').run()
    with killed(at(step=0, iteration=kill)):
        TaskScheduler(cfg, tmp_path / 'broken', steps='0').run()
    state = torch.load(tmp_path / 'broken/step_00' / RESUME_NAME, weights_only=False)
    assert state['meta']['iter'] == saved
    TaskScheduler(cfg, tmp_path / 'broken', resume=True, steps='0').run()
    assert_same_weights(tmp_path / 'unbroken', tmp_path / 'broken', 0)
