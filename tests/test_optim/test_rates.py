"""Factors of the learning rate by names of modules."""

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from torch import nn

from mmseg_cil.optim.rates import rate_of, scale_rates

RATES = {'backbone': 0.1, 'backbone.layer1': 0.01, 'head.*.bias': 2.0}


def network():
    torch.manual_seed(0)
    model = nn.Module()
    model.backbone = nn.ModuleDict({'layer1': nn.Linear(2, 2), 'layer2': nn.Linear(2, 2)})
    model.head = nn.ModuleDict({'row': nn.Linear(2, 2), 'map': nn.Linear(2, 2)})
    return model


def learn(model, optimizer):
    for number, weight in enumerate(model.parameters()):
        weight.grad = torch.full_like(weight, number + 1.0)
    optimizer.step()


@pytest.mark.parametrize(
    ('name', 'factor'),
    [
        ('backbone.layer1.weight', 0.01),
        ('backbone.layer2.weight', 0.1),
        ('head.row.bias', 2.0),
        ('head.row.weight', 1.0),
    ],
)
def test_the_longest_pattern_holds(name, factor):
    assert rate_of(name, RATES) == rate_of(name, dict(reversed(RATES.items()))) == factor


def test_each_parameter_moves_by_its_own_rate():
    plain, rated = network(), network()
    start = {name: weight.detach().clone() for name, weight in plain.named_parameters()}
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.25) for model in (plain, rated)]
    scale_rates(optimizers[1], rated.named_parameters(), RATES)
    for model, optimizer in zip((plain, rated), optimizers, strict=True):
        learn(model, optimizer)
    for name, weight in rated.named_parameters():
        expected = start[name] + rate_of(name, RATES) * (plain.get_parameter(name) - start[name])
        torch.testing.assert_close(weight, expected)


def test_options_of_groups_stay_and_names_go_with_their_parameters():
    model = network()
    names, weights = zip(*model.backbone.named_parameters(), strict=True)
    groups = [
        dict(params=list(weights), param_names=list(names), lr=0.5, weight_decay=0.0),
        dict(params=list(model.head.parameters()), param_names=['a', 'b', 'c', 'd']),
    ]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9, weight_decay=0.3)
    scale_rates(optimizer, model.named_parameters(), RATES)
    found = [
        (group['param_names'], round(group['lr'], 6), group['weight_decay'], group['momentum'])
        for group in optimizer.param_groups
    ]
    assert found == [
        (['layer1.weight', 'layer1.bias'], 0.005, 0.0, 0.9),
        (['layer2.weight', 'layer2.bias'], 0.05, 0.0, 0.9),
        (['a', 'c'], 0.1, 0.3, 0.9),
        (['b', 'd'], 0.2, 0.3, 0.9),
    ]


def test_without_a_name_nothing_changes():
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    scale_rates(optimizer, model.named_parameters(), {'decode_head': 3.0})
    assert len(optimizer.param_groups) == 1 and optimizer.param_groups[0]['lr'] == 0.1


def test_a_wrapper_of_a_config_has_them_on_top_of_its_own():
    init_default_scope('mmseg_cil')
    model = network()
    model.rates = RATES
    wrapper = build_optim_wrapper(
        model,
        dict(
            constructor='RegulariserOptimWrapperConstructor',
            optimizer=dict(type='SGD', lr=1.0),
            paramwise_cfg=dict(custom_keys={'layer1': dict(lr_mult=3.0)}),
        ),
    )
    names = {id(weight): name for name, weight in model.named_parameters()}
    for group in wrapper.optimizer.param_groups:
        for weight in group['params']:
            name = names[id(weight)]
            own = 3.0 if 'layer1' in name else 1.0
            assert group['lr'] == pytest.approx(own * rate_of(name, RATES))
