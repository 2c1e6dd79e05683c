"""Averaged weights: what is evaluated is what is exported."""

import json

import pytest
import torch
from mmengine.hooks import Hook

from mmseg_cil.engine import evaluate
from mmseg_cil.engine.record.journal import Journal
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.registry import HOOKS
from mmseg_cil.testing.tiny import tiny_config, weights
from mmseg_cil.testing.walks import assert_same_weights, at, killed

MOMENTUM = 0.3


class Averages(Hook):
    """Averages the weights of training once more, by the formula."""

    priority = 'VERY_LOW'

    def __init__(self, average):
        self.average = average

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        for key, value in runner.model.named_parameters():
            value = value.detach().double()
            before = self.average.get(key, value)
            # MMEngine takes the first weights as they are.
            self.average[key] = before + MOMENTUM * (value - before)


@pytest.fixture
def averages(monkeypatch):
    average = {}
    monkeypatch.setitem(HOOKS.module_dict, 'Averages', lambda: Averages(average))
    return average


@pytest.mark.parametrize('update_buffers', [False, True])
def test_the_averaged_weights_are_evaluated_and_exported(
    data_root, tmp_path, averages, update_buffers
):
    cfg = tiny_config(data_root)
    cfg.custom_hooks = [
        dict(type='EMAHook', momentum=MOMENTUM, update_buffers=update_buffers),
        dict(type='Averages'),
    ]
    WalkRunner(cfg, tmp_path, steps='0').run()
    found = weights(tmp_path, 0)
    for key, value in averages.items():
        torch.testing.assert_close(found[key], value.float(), rtol=1e-5, atol=1e-6)
    journal = Journal.load(tmp_path)
    walk = evaluate.open_walk(cfg, tmp_path, journal)
    again = evaluate.evaluate_step(walk, journal, 0, 'none', keep=False)
    assert again == json.loads((tmp_path / 'step_00/metrics.json').read_text())


def test_averages_go_on_after_a_stop(data_root, tmp_path):
    cfg = tiny_config(data_root)
    cfg.custom_hooks = [dict(type='EMAHook', momentum=MOMENTUM, update_buffers=True)]
    WalkRunner(cfg, tmp_path / 'unbroken', steps='0').run()
    with killed(at(step=0, iteration=3)):
        WalkRunner(cfg, tmp_path / 'broken', steps='0').run()
    assert (tmp_path / 'broken/step_00/resume.pth').is_file()
    WalkRunner(cfg, tmp_path / 'broken', resume=True, steps='0').run()
    assert_same_weights(tmp_path / 'unbroken', tmp_path / 'broken', 0)
