"""The learning rate of the papers, iteration by iteration, and its stretching to a step."""

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmseg_cil.engine.config.step_overrides import apply_overrides
from mmseg_cil.registry import PARAM_SCHEDULERS


def rates(length, **options):
    init_default_scope('mmseg_cil')
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.01)
    schedule = PARAM_SCHEDULERS.build(
        dict(optimizer=optimizer, by_epoch=False, power=0.9, end=length, **options)
    )
    found = []
    for _ in range(length):
        found.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        schedule.step()
    return found


@pytest.mark.parametrize('length', [1, 2, 30, 500])
def test_the_last_iteration_still_learns(length):
    expected = [0.01 * (1 - i / length) ** 0.9 for i in range(length)]
    assert rates(length, type='PaperPolyLR') == pytest.approx(expected, rel=1e-9)


def test_mmengines_own_ends_at_zero():
    assert rates(30, type='PolyLR')[-1] == 0
    assert rates(30, type='PolyLR')[1:-1] < rates(30, type='PaperPolyLR')[1:-1]


def test_it_ends_at_its_least_rate_where_one_is_given():
    expected = [1e-3 + 9e-3 * (1 - i / 20) ** 0.9 for i in range(20)]
    assert rates(20, type='PaperPolyLR', eta_min=1e-3) == pytest.approx(expected, rel=1e-9)


def test_it_is_stretched_to_the_step():
    cfg = Config(
        dict(
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
            train_cfg=dict(max_iters=100),
            param_scheduler=[dict(type='PaperPolyLR', begin=0, end=100, by_epoch=False)],
        )
    )
    assert apply_overrides(cfg, dict(max_epochs=30), images=50, global_batch=24) == 60
    assert cfg.param_scheduler[0].end == 60
