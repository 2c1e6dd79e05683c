"""The loss is watched without waiting for it, and told with all that a person needs."""

from collections import OrderedDict
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from mmseg_cil.errors import InputError
from mmseg_cil.hooks import FiniteLossHook
from mmseg_cil.hooks import finite_loss_hook as module

NAN, INF = float('nan'), float('inf')


def runner_of(iterations=100):
    wrapper = SimpleNamespace(get_lr=lambda: dict(lr=[0.1 / (runner.iter + 1), 5.0]))
    runner = SimpleNamespace(
        model=nn.Linear(2, 1),
        iter=0,
        max_iters=iterations,
        optim_wrapper=wrapper,
        work_dir='w/step_01',
        hooks=[],
    )
    return runner


def losses(**parts):
    total = sum(value for name, value in parts.items() if 'loss' in name)
    return OrderedDict(
        (name.replace('__', '.'), torch.tensor(value))
        for name, value in {'loss': total, **parts}.items()
    )


def train(hook, runner, each, start=0):
    """Iterations with the losses given, from one on."""
    for runner.iter, parts in enumerate(each, start):
        hook.before_train_iter(runner, runner.iter)
        hook.after_train_iter(runner, runner.iter, None, parts)


@pytest.mark.parametrize(
    ('parts', 'told'),
    [
        (dict(decode__loss_ce=1.0, aux__loss_ce=NAN), 'nan (aux.loss_ce nan, decode.loss_ce 1)'),
        (dict(decode__loss_ce=INF, aux__loss_ce=2.0), 'inf (decode.loss_ce inf, aux.loss_ce 2)'),
        (dict(a__loss=INF, b__loss=-INF), 'nan (a.loss inf, b.loss -inf)'),
        # It trains a part of the method, though not the network.
        (dict(loss_a=1.0, apart_b=-INF), '1 (apart_b -inf, loss_a 1)'),
    ],
)
def test_iteration_parts_and_learning_rate_are_told(parts, told):
    runner = runner_of()
    fine = losses(**dict.fromkeys(parts, 1.0))
    with pytest.raises(InputError) as caught:
        train(FiniteLossHook(1), runner, [fine, fine, losses(**parts), fine])
    text = str(caught.value)
    # At once on the CPU: the fourth iteration is not reached.
    assert runner.iter == 2
    assert 'step 1: training has diverged. At iteration 3 of 100 the loss is ' + told in text
    assert 'learning rate 0.0333333.' in text and 'w/step_01/resume.pth' in text
    for word in ('clip_grad', 'LinearLR', '--amp', '--resume'):
        assert word in text


def test_what_is_only_logged_may_be_anything():
    values = losses(decode__loss_ce=1.0, decode__acc_seg=NAN, distill__variance=INF)
    train(FiniteLossHook(0), runner_of(), [values] * 3)
    train(FiniteLossHook(0), runner_of(), [None, {}, dict(loss=1.0)])


class Reads(TorchDispatchMode):
    """Counts how often the content of a tensor is asked for."""

    count = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        name = function.overloadpacket.__name__
        self.count += name in ('_local_scalar_dense', 'nonzero', 'is_nonzero', 'equal')
        return function(*arguments, **(keywords or {}))


def test_it_is_looked_at_where_that_is_due_and_the_first_iteration_is_told(monkeypatch):
    """As on a device, or with several processes: no iteration waits."""
    monkeypatch.setattr(module, 'get_world_size', lambda: 2)
    fine, bad = losses(loss_a=1.0), losses(loss_a=NAN)
    # Not in every iteration are there the same losses.
    other = losses(loss_a=1.0, loss_b=1.0)
    hook, runner = FiniteLossHook(2, interval=10), runner_of()
    with Reads() as reads:
        train(hook, runner, [fine, other, fine, bad, bad, other, losses(loss_a=1.0, loss_b=NAN)])
    assert reads.count == 0
    with pytest.raises(
        InputError,
        match=r'At iteration 4 of 100 the loss is nan .loss_a nan., '
        'the learning rate 0.025',
    ):
        train(hook, runner, [fine] * 3, start=7)
    assert runner.iter == 9
    # The last iteration is looked at, whatever the interval.
    with pytest.raises(InputError, match='At iteration 3 of 3'):
        train(FiniteLossHook(2, interval=50), runner_of(3), [fine, fine, bad])


def test_a_state_is_looked_at_before_it_is_saved(monkeypatch):
    monkeypatch.setattr(module, 'get_world_size', lambda: 2)
    hook, runner = FiniteLossHook(0), runner_of()
    train(hook, runner, [losses(loss_a=1.0)] * 2)
    hook.check_state(runner)
    with torch.no_grad():
        runner.model.weight[0, 1] = INF
    with pytest.raises(
        InputError,
        match=r'At iteration 2 of 100 the loss is 1 \(loss_a 1\), the '
        'learning rate 0.05, and of the weights after it: weight',
    ):
        hook.check_state(runner)
    with torch.no_grad():
        runner.model.weight.zero_()
    train(hook, runner, [losses(loss_a=NAN)], start=2)
    with pytest.raises(InputError, match='At iteration 3 of 100 the loss is nan'):
        hook.check_state(runner)


def test_weights_to_begin_with_are_looked_at():
    runner = runner_of()
    FiniteLossHook(1, name='generator').before_train(runner)
    runner.model.bias.data.fill_(NAN)
    with pytest.raises(InputError, match=r'step 1, sub-step generator begins with weights.*bias'):
        FiniteLossHook(1, name='generator').before_train(runner)
