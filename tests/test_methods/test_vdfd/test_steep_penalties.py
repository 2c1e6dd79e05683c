"""The messages of the hook on steep penalties, and the steps that penalties are damped for."""

import logging
from types import SimpleNamespace

import pytest
import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import nn

from mmseg_cil.methods.vdfd.files import save_gradients
from mmseg_cil.methods.vdfd.hook import VDFDHook
from mmseg_cil.methods.vdfd.step_sizes import stable_step_size
from mmseg_cil.optim.own_optimizers import JointOptimizer
from mmseg_cil.testing.networks import base_step, batch, network, next_step


def test_steep_penalties_are_damped_for_sgd_alone():
    weights, own = nn.Linear(2, 2), nn.Linear(2, 2)

    def sgd(rate, *groups):
        return torch.optim.SGD(groups or weights.parameters(), lr=rate, momentum=0.9)

    def size(optimizer):
        return stable_step_size(OptimWrapper(optimizer))

    assert size(sgd(0.01)) == pytest.approx(0.02)
    assert size(torch.optim.AdamW(weights.parameters(), lr=0.01)) == 0
    # The largest of the groups; of a schedule, what it begins with.
    warmed = sgd(0.01, dict(params=[weights.weight]), dict(params=[weights.bias], lr=0.1))
    assert size(warmed) == pytest.approx(0.2)
    torch.optim.lr_scheduler.LinearLR(warmed, start_factor=0.001)
    assert warmed.param_groups[1]['lr'] < 0.001 and size(warmed) == pytest.approx(0.2)
    adam = torch.optim.Adam(own.parameters(), lr=0.5)
    assert size(JointOptimizer([sgd(0.01), adam])) == pytest.approx(0.02)
    assert size(JointOptimizer([adam, sgd(0.01)])) == 0
    assert stable_step_size(
        OptimWrapperDict(network=OptimWrapper(sgd(0.01)), graph=OptimWrapper(adam))
    ) == pytest.approx(0.02)


class Records(logging.Handler):
    """Keeps what is logged."""

    def __init__(self):
        super().__init__()
        self.told = []

    def emit(self, record):
        self.told.append((record.levelname, record.getMessage()))


@pytest.fixture
def told_before_a_step(tmp_path):
    """Return the messages of the hook before step 1, by level; the default optimizer is SGD."""
    old = base_step(network(), tmp_path / 'base.pth')
    images, samples = batch(5, count=4, seed=0)
    hook = VDFDHook()
    (tmp_path / 'step_00').mkdir()
    save_gradients(
        tmp_path / 'step_00' / 'vdfd.pth',
        hook.keep(old, [dict(inputs=images, data_samples=samples)], ((0,), (1,), (2,))),
        hook.settings(),
    )

    def told(optimizer=torch.optim.SGD, lr=1.0, **options):
        model = next_step(
            network(),
            tmp_path / 'base.pth',
            distillers=(),
            regularisers=[dict(dict(type='DFDRegulariser', loss_weight=100.0), **options)],
        )
        more = dict(momentum=0.9, nesterov=True) if optimizer is torch.optim.SGD else {}
        handler, logger = Records(), logging.Logger('hook')
        logger.addHandler(handler)
        hook.before_train(
            SimpleNamespace(
                model=model,
                work_dir=str(tmp_path / 'step_01'),
                logger=logger,
                optim_wrapper=OptimWrapper(optimizer(model.parameters(), lr=lr, **more)),
            )
        )
        return {
            level: [text for logged, text in handler.told if logged == level]
            for level in ('INFO', 'WARNING')
        }

    return told


def test_sgd_on_a_steep_penalty_without_damping_is_warned_of_once(told_before_a_step):
    undamped = told_before_a_step(damping=0.0)
    (warning,) = undamped['WARNING']
    assert 'DFDRegulariser: SGD with a learning rate of 1 is likely to diverge' in warning
    # The limit that the log states, of Nesterov's momentum, is where it begins.
    limit = float(undamped['INFO'][0].partition('learning rate of ')[2].split()[0])
    assert limit < 1 and f'from {limit:.3g} on' in warning
    assert not told_before_a_step(damping=0.0, lr=0.98 * limit)['WARNING']
    assert told_before_a_step(damping=0.0, lr=1.02 * limit)['WARNING']


def test_damped_penalties_and_other_optimizers_need_no_warning(told_before_a_step):
    told = told_before_a_step(loss_weight=1.0)
    assert not told['WARNING'] and told['INFO'][0].endswith('it is damped for steps of 2')
    assert not told_before_a_step(torch.optim.Adam, damping=0.0)['WARNING']
    assert not told_before_a_step(damping=0.0, loss_weight=1e-9)['WARNING']
    # Damping for steps that are much smaller than those of the optimizer prevents little.
    assert told_before_a_step(damping=1e-6)['WARNING']


def test_a_penalty_far_steeper_than_its_damping_is_warned_of(told_before_a_step):
    (warning,) = told_before_a_step(loss_weight=100.0)['WARNING']
    assert 'far above the other losses' in warning and 'lower its loss_weight' in warning


def test_a_weight_relative_to_the_curvature_is_told(told_before_a_step):
    told = told_before_a_step(torch.optim.AdamW, curvature=1e3)['INFO'][0]
    assert 'curvature of up to 1e+03 undamped' in told
    chosen = float(told.rpartition('lambda is ')[2])
    # One earlier step reaches the limit exactly: the plain weight gives the same message.
    plain = told_before_a_step(torch.optim.AdamW, loss_weight=chosen)['INFO'][0]
    assert 'curvature of up to 1e+03 undamped' in plain and 'lambda' not in plain
    (warning,) = told_before_a_step(curvature=1e5)['WARNING']
    assert warning.endswith('lower its curvature')
