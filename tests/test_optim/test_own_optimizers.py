"""Several optimizers in one wrapper."""

import copy

import pytest
import torch
from mmengine.optim import DefaultOptimWrapperConstructor, build_optim_wrapper
from mmengine.optim.scheduler import PolyLR
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_CONSTRUCTORS
from mmengine.registry import init_default_scope
from torch import nn

from mmseg_cil.contracts import Regulariser
from mmseg_cil.optim.own_optimizers import JointOptimizer


class Scale(Regulariser):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(2))
        self.optimizer = dict(type='Adam', lr=0.1, weight_decay=0.01)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = nn.Linear(3, 2)
        self.regularisers = nn.ModuleList([Scale()])

    def loss(self):
        outputs = self.network(torch.arange(6.0).reshape(2, 3)) * self.regularisers[0].scale
        return (outputs - 1.0).square().mean()


def build(model, **changes):
    init_default_scope('mmseg_cil')
    return build_optim_wrapper(
        model,
        dict(
            constructor='RegulariserOptimWrapperConstructor',
            optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-4),
            **changes,
        ),
    )


def model_of(seed=0):
    torch.manual_seed(seed)
    return Model()


def test_each_part_learns_by_its_own_optimizer():
    ours, theirs = model_of(), model_of()
    wrapper = build(ours)
    sgd = torch.optim.SGD(theirs.network.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    adam = torch.optim.Adam(theirs.regularisers.parameters(), lr=0.1, weight_decay=0.01)
    for _ in range(4):
        wrapper.update_params(ours.loss())
        for optimizer in (sgd, adam):
            optimizer.zero_grad()
        theirs.loss().backward()
        for optimizer in (sgd, adam):
            optimizer.step()
    for our, their in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(our, their)


def test_its_state_is_saved_and_loaded():
    unbroken = model_of()
    wrapper = build(unbroken)
    for _ in range(2):
        wrapper.update_params(unbroken.loss())
    saved = copy.deepcopy((unbroken.state_dict(), wrapper.state_dict()))
    for _ in range(2):
        wrapper.update_params(unbroken.loss())
    resumed = model_of(1)
    other = build(resumed)
    resumed.load_state_dict(saved[0])
    other.load_state_dict(saved[1])
    for _ in range(2):
        other.update_params(resumed.loss())
    for kept, loaded in zip(unbroken.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(kept, loaded)


def test_schedules_reach_every_part():
    wrapper = build(model_of())
    schedule = PolyLR(wrapper, power=1.0, eta_min=0.0, begin=0, end=10, by_epoch=False)
    for _ in range(5):
        schedule.step()
    assert wrapper.get_lr()['lr'] == pytest.approx([0.01 * 4 / 9, 0.1 * 4 / 9])
    assert [part.param_groups[0]['lr'] for part in wrapper.optimizer.parts] == pytest.approx(
        [0.01 * 4 / 9, 0.1 * 4 / 9]
    )


def test_options_by_parameter_are_the_networks():
    model = model_of()
    wrapper = build(model, paramwise_cfg=dict(bias_lr_mult=2.0))
    groups = wrapper.optimizer.param_groups
    assert [group['lr'] for group in groups] == [0.01, 0.02, 0.1]
    assert groups[2]['params'] == [model.regularisers[0].scale]
    assert isinstance(model.regularisers[0], Regulariser)


def test_without_own_parts_it_is_the_networks_optimizer():
    model = model_of()
    model.regularisers[0].optimizer = None
    wrapper = build(model)
    assert type(wrapper.optimizer) is torch.optim.SGD
    assert len(wrapper.optimizer.param_groups[0]['params']) == 3


def test_parts_share_groups_and_state():
    parts = [
        torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0, momentum=0.5)
        for _ in range(2)
    ]
    joint = JointOptimizer(parts)
    joint.load_state_dict(joint.state_dict())
    for index, part in enumerate(parts):
        assert part.state is joint.state
        assert part.param_groups[0] is joint.param_groups[index]


@MMENGINE_CONSTRUCTORS.register_module()
class NamedGroups(DefaultOptimWrapperConstructor):
    """Names what is in a group, as MMSegmentation's LayerDecayOptimizerConstructor does."""

    def add_params(self, params, module, **kwargs):
        for name, parameter in module.named_parameters():
            params.append(dict(params=[parameter], param_names=[name], lr=0.5))


def test_own_parts_stand_beside_groups_with_names():
    model = model_of()
    wrapper = build(
        model, network_constructor='NamedGroups', paramwise_cfg={'norm_decay_mult': 1.0}
    )
    assert [group['param_names'] for group in wrapper.optimizer.param_groups] == [
        ['network.weight'],
        ['network.bias'],
        ['scale'],
    ]
    before = copy.deepcopy(model.state_dict())
    wrapper.update_params(model.loss())
    assert all((model.state_dict()[name] != value).any() for name, value in before.items())
    other = build(
        model_of(1), network_constructor='NamedGroups', paramwise_cfg={'norm_decay_mult': 1.0}
    )
    other.load_state_dict(wrapper.state_dict())
    assert other.get_lr() == wrapper.get_lr()
