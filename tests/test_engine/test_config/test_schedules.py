"""The learning rate that MMEngine's own schedulers give at every iteration of a stretched step."""

import copy
import math

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS

from mmseg_cil.engine.config.schedules import stretch_schedules
from mmseg_cil.engine.config.step_overrides import apply_overrides

LR = 0.5


def rates(schedules, iterations):
    """The learning rate of every iteration."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)
    built = [
        PARAM_SCHEDULERS.build(dict(schedule, by_epoch=False, optimizer=optimizer))
        for schedule in copy.deepcopy(schedules)
    ]
    values = []
    for _ in range(iterations):
        values.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for scheduler in built:
            scheduler.step()
    return values


def stretched(schedules, before, after):
    """The schedules of a step of another length, as a walk derives them."""
    cfg = Config(
        dict(
            train_cfg=dict(max_iters=before),
            optim_wrapper=dict(optimizer=dict(lr=LR)),
            param_scheduler=[dict(schedule, by_epoch=False) for schedule in schedules],
        )
    )
    assert apply_overrides(cfg, {'max_iters': after}, 100, 1) == after
    return cfg.param_scheduler


def warm_poly(warm, end):
    return [
        dict(type='LinearLR', start_factor=0.05, begin=0, end=warm),
        dict(type='PolyLR', power=0.9, eta_min=0.0, begin=warm, end=end),
    ]


@pytest.mark.parametrize(('after', 'warm'), [(700, 20), (220, 6), (1400, 40), (77, 2)])
def test_warm_up_and_decay_follow_the_closed_form(after, warm):
    found = rates(stretched(warm_poly(20, 700), 700, after), after)
    rise = [LR * (0.05 + 0.95 * t / (warm - 1)) for t in range(warm)]
    length = after - warm
    fall = [LR * (1 - t / (length - 1)) ** 0.9 for t in range(length)]
    assert found == pytest.approx(rise + fall, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize('after', [1, 2, 10, 35, 50])
def test_a_warm_up_of_less_than_two_iterations_is_left_out(after):
    """At 50 of 700 a warm-up of 20 is one iteration long."""
    found = rates(stretched(warm_poly(20, 700), 700, after), after)
    assert found == pytest.approx(
        [LR * (1 - t / max(1, after - 1)) ** 0.9 for t in range(after)], rel=1e-9, abs=1e-12
    )


def test_two_phases_that_vanish_leave_no_gap():
    phases = [
        dict(type='ConstantLR', factor=0.1, begin=0, end=10),
        dict(type='LinearLR', start_factor=0.1, begin=10, end=20),
        dict(type='PolyLR', power=1.0, begin=20, end=1000),
    ]
    found = rates(stretched(phases, 1000, 50), 50)
    assert found == pytest.approx([LR * (1 - t / 49) for t in range(50)], rel=1e-9, abs=1e-12)


SHAPES = {
    'poly': [dict(type='PolyLR', power=0.9, begin=0, end=120)],
    'steps': [dict(type='MultiStepLR', milestones=[60, 90], gamma=0.1, begin=0, end=120)],
    'late steps': [
        dict(type='LinearLR', start_factor=0.1, begin=0, end=30),
        dict(type='MultiStepLR', milestones=[30, 60], gamma=0.1, begin=30, end=120),
    ],
    'step size': [dict(type='StepLR', step_size=30, gamma=0.5)],
    'exponential': [dict(type='ExponentialLR', gamma=0.97)],
    'cosine': [dict(type='CosineAnnealingLR', T_max=120, eta_min=0.01, begin=0, end=120)],
    'late cosine': [
        dict(type='LinearLR', start_factor=0.1, begin=0, end=30),
        dict(type='CosineAnnealingLR', T_max=90, eta_min=0.0, begin=30, end=120),
    ],
    'restarts': [
        dict(type='CosineRestartLR', periods=[30, 90], restart_weights=[1.0, 0.5], eta_min=0.001)
    ],
    'one cycle': [dict(type='OneCycleLR', eta_max=LR, total_steps=120, begin=0, end=120)],
}


@pytest.mark.parametrize('factor', [3, 10])
@pytest.mark.parametrize('shape', SHAPES)
def test_the_shape_is_kept_when_the_step_is_longer(shape, factor):
    """At iteration factor * t the rate is near that of t; jumps come at the same places."""
    before = rates(SHAPES[shape], 120)
    after = rates(stretched(SHAPES[shape], 120, 120 * factor), 120 * factor)
    assert after[::factor] == pytest.approx(before, abs=0.06 * LR)
    assert after != before


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('after', [40, 37])
def test_the_shape_is_kept_when_the_step_is_shorter(shape, after):
    before = rates(SHAPES[shape], 120)
    found = rates(stretched(SHAPES[shape], 120, after), after)
    for t, value in enumerate(found):
        first, last = (t - 2) * 120 / after, (t + 2) * 120 / after
        near = before[max(0, math.floor(first)) : math.ceil(last) + 1]
        assert min(near) - 1e-9 <= value <= max(near) + 1e-9, (t, value, near)


def test_cosine_and_one_cycle_end_with_the_step():
    for shape, key in (('late cosine', 'T_max'), ('one cycle', 'total_steps')):
        for after in range(2, 240, 7):
            last = stretched(SHAPES[shape], 120, after)[-1]
            assert last[key] == last['end'] - last.get('begin', 0) == after - last.get('begin', 0)
    for after in range(4, 240, 7):
        assert sum(stretched(SHAPES['restarts'], 120, after)[0]['periods']) == after


def test_equal_lengths_change_nothing():
    schedules = warm_poly(1, 700)
    stretch_schedules(schedules, 700, 700)
    assert schedules == warm_poly(1, 700)


def test_schedules_of_several_optimizers_are_stretched_each():
    given = dict(
        network=warm_poly(20, 700), graph=dict(type='ConstantLR', begin=0, end=70, factor=0.5)
    )
    for schedule in (*given['network'], given['graph']):
        schedule['by_epoch'] = False
    cfg = Config(dict(train_cfg=dict(max_iters=700), optim_wrapper=dict(), param_scheduler=given))
    apply_overrides(cfg, {'max_iters': 50}, 100, 1)
    found = {
        name: [(schedule.type, schedule.get('begin'), schedule.end) for schedule in group]
        for name, group in cfg.param_scheduler.items()
    }
    assert found == {'network': [('PolyLR', 0, 50)], 'graph': [('ConstantLR', 0, 5)]}
