"""Mixed precision on a CPU, and what --amp makes of a config."""

from __future__ import annotations

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from mmseg_cil.engine.config.compose import compose
from mmseg_cil.engine.config.mixed_precision import BFloat16OptimWrapper, use_mixed_precision
from mmseg_cil.errors import InputError
from mmseg_cil.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS


class Recorder(nn.Module):
    """One linear layer that remembers the format of its output."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        self.output = self.layer(inputs)
        return self.output.float().square().mean()


def one_step(kind: str) -> Recorder:
    network = Recorder()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    wrapper = OPTIM_WRAPPERS.build(dict(type=kind, optimizer=optimizer))
    with wrapper.optim_context(network):
        loss = network(torch.linspace(-1, 1, 8).view(2, 4))
    wrapper.update_params(loss)
    return network


def test_the_forward_pass_is_bfloat16_and_the_weights_stay_float32():
    network, plain = one_step('BFloat16OptimWrapper'), one_step('OptimWrapper')
    assert network.output.dtype == torch.bfloat16
    assert plain.output.dtype == torch.float32
    weight, expected = network.layer.weight, plain.layer.weight
    assert weight.dtype == torch.float32
    assert not torch.equal(weight, expected)
    torch.testing.assert_close(weight, expected, rtol=0, atol=2e-3)


def test_amp_names_the_wrapper_that_the_machine_can_use():
    cfg = Config(dict(optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1))))
    cpu, gpu = Config(cfg.to_dict()), Config(cfg.to_dict())
    use_mixed_precision(cpu, accelerator=False)
    use_mixed_precision(gpu, accelerator=True)
    assert cpu.optim_wrapper.type == 'BFloat16OptimWrapper'
    assert gpu.optim_wrapper.type == 'AmpOptimWrapper'
    assert gpu.optim_wrapper.loss_scale == 'dynamic'
    assert 'loss_scale' not in cpu.optim_wrapper


def test_a_method_with_its_own_optimizers_keeps_the_wrapper():
    constructor = OPTIM_WRAPPER_CONSTRUCTORS.build(
        dict(
            type='RegulariserOptimWrapperConstructor',
            optim_wrapper_cfg=dict(type='BFloat16OptimWrapper', optimizer=dict(type='SGD', lr=0.1)),
        )
    )
    with DefaultScope.overwrite_default_scope('mmseg_cil'):
        assert isinstance(constructor(nn.Linear(2, 2)), BFloat16OptimWrapper)


def test_amp_refuses_a_wrapper_of_another_kind():
    cfg = Config(dict(optim_wrapper=dict(type='ApexOptimWrapper')))
    with pytest.raises(InputError, match='ApexOptimWrapper'):
        use_mixed_precision(cfg, accelerator=False)


def test_amp_twice_is_amp():
    cfg = compose(dict(method='mib', protocol='embedded_11-5'))
    use_mixed_precision(cfg, accelerator=False)
    use_mixed_precision(cfg, accelerator=False)
    assert cfg.optim_wrapper.type == 'BFloat16OptimWrapper'
