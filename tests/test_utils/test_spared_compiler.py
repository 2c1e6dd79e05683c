"""Optimizers do the same with and without PyTorch's compiler."""

import sys

import pytest
import torch
from torch.optim import Optimizer

from mmseg_cil.utils.spared_compiler import spare_compiler

COMPILER = 'torch._dynamo'


@pytest.fixture
def without_compiler(monkeypatch):
    """The compiler is not imported, as far as anyone can see."""
    spare_compiler()
    monkeypatch.setattr(torch, '_dynamo', None, raising=False)
    monkeypatch.delitem(sys.modules, COMPILER, raising=False)


def trained(kind, **options):
    weight = torch.nn.Parameter(torch.linspace(-1, 1, 6))
    optimizer = kind([weight], lr=0.1, **options)
    for _ in range(3):
        optimizer.zero_grad()
        weight.square().sum().backward()
        optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
    assert torch.is_grad_enabled()
    return weight.detach()


@pytest.mark.parametrize(
    ('kind', 'options'),
    [
        (torch.optim.SGD, dict(momentum=0.9, nesterov=True, weight_decay=1e-4)),
        (torch.optim.AdamW, {}),
        (torch.optim.Adam, dict(amsgrad=True)),
        (torch.optim.RMSprop, {}),
    ],
)
def test_steps_are_the_same(kind, options, request):
    plain = trained(kind, **options)
    request.getfixturevalue('without_compiler')
    assert torch.equal(trained(kind, **options), plain)
    # A process that compiles nothing has not imported the compiler.
    assert COMPILER not in sys.modules


def test_methods_are_those_of_pytorch_once_the_compiler_is_there():
    import torch._dynamo

    spare_compiler()
    trained(torch.optim.SGD)
    function = Optimizer.zero_grad.__wrapped__
    assert vars(function)['__dynamo_disable'].__module__.startswith('torch._dynamo')
