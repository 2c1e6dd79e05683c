"""Parallel branches in whole networks: what learns, what is frozen, and the merge."""

import copy

import pytest
import torch
from mmseg.models.segmentors import EncoderDecoder
from torch.nn.modules.batchnorm import _BatchNorm

from mmseg_cil.errors import InputError
from mmseg_cil.methods.rcil.parallel_branches import find_places
from mmseg_cil.methods.rcil.parallel_conv import ParallelConv
from mmseg_cil.models.network_change import CHANGE_NAME
from mmseg_cil.models.plain import plain_model_config, plain_state_dict
from mmseg_cil.registry import MODELS
from mmseg_cil.testing.networks import base_step, batch, network, segmentor, snapshot

BRANCHES = dict(type='ParallelBranches')
UNKD = dict(type='LogitDistiller', loss=dict(type='UnbiasedKnowledgeDistillationLoss'))


def thin(depth=18, head='ASPPHead', kind='ResNet', **backbone):
    config = network(head)
    config['backbone'].update(type=kind, depth=depth, **backbone)
    if depth == 50:
        config['backbone']['base_channels'] = 4
        config['decode_head']['in_channels'] = 128
        if head == 'DepthwiseSeparableASPPHead':
            config['decode_head']['c1_in_channels'] = 16
    return config


def enliven(model, seed=0):
    """Norms as after training: every statistic and every factor differs, some are negative."""
    generator = torch.Generator().manual_seed(seed)

    def normal(tensor):
        return torch.randn(tensor.shape, generator=generator)

    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.weight.copy_(1 + 0.3 * normal(module.weight))
                module.bias.copy_(0.2 * normal(module.bias))
                module.running_mean.copy_(0.3 * normal(module.running_mean))
                module.running_var.copy_(0.5 + normal(module.running_var).abs())


def save(model, folder, kept=None):
    """Write the files that a step leaves behind, and return their entry for the next step."""
    folder.mkdir()
    torch.save(
        dict(state_dict=plain_state_dict(model.state_dict()), meta={}), folder / 'checkpoint.pth'
    )
    if kept:
        torch.save(kept, folder / CHANGE_NAME)
    return snapshot(folder / 'checkpoint.pth', model.step.num_seen)


def next_model(config, previous, counts, change=BRANCHES, **arguments):
    model = segmentor(
        config,
        counts,
        previous=previous,
        teacher=previous,
        distillers=[UNKD],
        network_change=change,
        **arguments,
    )
    model.init_weights()
    return model


def train(model, iterations=3, seed=0):
    optimizer = torch.optim.SGD(
        [parameter for parameter in model.parameters() if parameter.requires_grad],
        lr=0.02,
        momentum=0.9,
        weight_decay=1e-4,
    )
    model.train()
    for i in range(iterations):
        torch.manual_seed(100 * seed + i)
        loss, _ = model.parse_losses(model.loss(*batch(model.step.num_seen, seed=seed + i)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


@torch.no_grad()
def outputs(model, images=None):
    model.eval()
    images = batch(3, seed=99)[0] if images is None else images
    features = model.extract_feat(images)
    return [*features, model.decode_head.forward(features)]


def assert_equal_outputs(actual, expected, tolerance=1e-5):
    for found, wanted in zip(actual, expected, strict=True):
        assert float((found - wanted).abs().max()) <= tolerance * float(wanted.abs().max())


@pytest.fixture(
    params=[
        dict(depth=18),
        pytest.param(dict(depth=50), marks=pytest.mark.slow),
        pytest.param(dict(depth=50, style='caffe', norm_eval=True), marks=pytest.mark.slow),
        dict(depth=18, kind='ResNetV1c', stem_channels=8, head='DepthwiseSeparableASPPHead'),
        pytest.param(dict(depth=50, with_cp=True, head='FCNHead'), marks=pytest.mark.slow),
    ],
    ids=['r18', 'r50', 'r50-norm-eval', 'r18v1c-separable', 'r50-checkpointed-fcn'],
)
def config(request):
    return thin(**request.param)


def test_a_merged_network_is_the_two_branch_network_step_after_step(config, tmp_path):
    base_step(config, tmp_path / 'base.pth')
    torch.manual_seed(0)
    first = segmentor(config, [3], network_change=BRANCHES)
    first.init_weights()
    enliven(first)
    model, previous = train(first), None
    for step, counts in enumerate(([3], [3, 2], [3, 2, 1])):
        if step:
            torch.manual_seed(step)
            model = train(next_model(config, previous, counts), seed=10 * step)
        two_branches = outputs(model)
        with torch.no_grad():
            kernels = [
                module.second.conv.weight.clone()
                for module in model.modules()
                if isinstance(module, ParallelConv)
            ]
        assert kernels
        kept = model.make_plain()
        assert not any(isinstance(module, ParallelConv) for module in model.modules())
        assert sum(key.endswith('conv.weight') for key in kept) == len(kernels)
        previous = save(model, tmp_path / str(step), kept)

        plain = MODELS.build(plain_model_config(dict(config), model.step.num_seen))
        assert type(plain) is EncoderDecoder
        plain.load_state_dict(torch.load(previous['checkpoint'])['state_dict'])
        assert_equal_outputs(outputs(plain), two_branches)
        assert_equal_outputs(outputs(model), two_branches)


def test_the_first_step_branches_as_officially(tmp_path):
    model = segmentor(thin(50), [3], network_change=BRANCHES)
    model.init_weights()
    branched = {
        name: module for name, module in model.named_modules() if isinstance(module, ParallelConv)
    }
    for name, module in branched.items():
        same = torch.equal(module.first.conv.weight, module.second.conv.weight)
        assert same == name.startswith('backbone')
        assert not module.frozen
    before = copy.deepcopy(model.state_dict())
    train(model, 1)
    for name in branched:
        for branch in ('first', 'second'):
            key = f'{name}.{branch}.conv.weight'
            assert not torch.equal(before[key], model.state_dict()[key])
    plain = segmentor(thin(50), [3], network_change=dict(BRANCHES, first_step=False))
    assert not any(isinstance(module, ParallelConv) for module in plain.modules())


@pytest.mark.parametrize('norm_eval', [False, True])
def test_the_frozen_branch_is_frozen_and_the_other_learns(norm_eval, tmp_path):
    config = thin(50, norm_eval=norm_eval)
    base = base_step(config, tmp_path / 'base.pth')
    enliven(base)
    model = next_model(config, save(base, tmp_path / '0'), [3, 2])
    before = copy.deepcopy(model.state_dict())
    train(model, 2)
    after = model.state_dict()
    places = [name for name, module in model.named_modules() if isinstance(module, ParallelConv)]
    assert len(places) == 16 + 2
    for name in places:
        first = [key for key in after if key.startswith(f'{name}.first.')]
        assert len(first) == 6
        assert all(torch.equal(after[key], before[key]) for key in first)
        assert not torch.equal(
            after[f'{name}.second.conv.weight'], before[f'{name}.second.conv.weight']
        )
        fixed = norm_eval and name.startswith('backbone')
        for key in ('running_mean', 'running_var', 'num_batches_tracked'):
            assert (
                torch.equal(after[f'{name}.second.norm.{key}'], before[f'{name}.second.norm.{key}'])
                == fixed
            )
    without = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert without and all('.first.' in name for name in without)


def test_without_inheritance_a_step_begins_as_its_teacher(tmp_path):
    config = thin(18)
    base = base_step(config, tmp_path / 'base.pth')
    enliven(base)
    branched = segmentor(config, [3], network_change=BRANCHES)
    branched.init_weights()
    train(branched)
    previous = save(branched, tmp_path / '0', branched.make_plain())
    expected = outputs(branched)
    for change, equal in ((dict(BRANCHES, inherit=False), True), (BRANCHES, False)):
        model = next_model(config, previous, [3, 2], change)
        actual = outputs(model)
        largest = float((actual[0] - expected[0]).abs().max() / expected[0].abs().max())
        assert (largest < 1e-5) == equal
    # Nothing to inherit: the last step was another method's.
    (tmp_path / '0' / CHANGE_NAME).unlink()
    assert_equal_outputs(outputs(next_model(config, previous, [3, 2]))[:4], expected[:4])


def test_the_second_branch_goes_on_where_it_was(tmp_path):
    config = thin(18)
    model = segmentor(config, [3], network_change=BRANCHES)
    model.init_weights()
    train(model)
    second = {
        name: copy.deepcopy(module.second.state_dict())
        for name, module in model.named_modules()
        if isinstance(module, ParallelConv)
    }
    previous = save(model, tmp_path / '0', model.make_plain())
    merged = model.state_dict()
    model = next_model(config, previous, [3, 2])
    for name, state in second.items():
        found = model.get_submodule(name)
        assert found.frozen
        assert torch.equal(found.first.conv.weight, merged[f'{name}.weight'])
        for key, value in state.items():
            assert torch.equal(found.second.state_dict()[key], value)


def test_damaged_branches_are_told(tmp_path):
    config = thin(18)
    model = segmentor(config, [3], network_change=BRANCHES)
    model.init_weights()
    model.make_plain()
    previous = save(model, tmp_path / '0', {'backbone.nothing': torch.zeros(1)})
    with pytest.raises(InputError, match=f'{CHANGE_NAME}.*run that step again'):
        next_model(config, previous, [3, 2])
    (tmp_path / '0' / CHANGE_NAME).write_bytes(b'nonsense')
    with pytest.raises(InputError, match='cannot be read'):
        next_model(config, previous, [3, 2])


@pytest.mark.parametrize('trained', [False, True], ids=['stored statistics', 'batch statistics'])
@pytest.mark.parametrize('frozen', [False, True])
def test_both_ways_of_computing_are_the_two_branches(frozen, trained):
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(4, 8, 3, padding=2, dilation=2, stride=2, groups=2, bias=False)
    module = ParallelConv(conv, torch.nn.BatchNorm2d(8), frozen)
    with torch.no_grad():
        for branch in (module.first, module.second):
            branch.conv.weight.normal_()
            branch.norm.running_mean.normal_()
            branch.norm.weight.normal_()
    module.train()
    if not trained:
        module.first.norm.eval()
        module.second.norm.eval()
    images = torch.randn(3, 4, 9, 9, requires_grad=True)
    reference = copy.deepcopy(module)
    torch.manual_seed(5)
    output = module(images)
    torch.manual_seed(5)
    draws = torch.rand(8)[:, None, None]
    first, second = reference.first(images), reference.second(images)
    expected = torch.where(
        draws < 0.33, first, torch.where(draws < 0.66, second, 0.5 * (first + second))
    )
    torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-5)
    upstream = torch.randn_like(output)
    watched = [parameter for parameter in module.parameters() if parameter.requires_grad]
    theirs = [parameter for parameter in reference.parameters() if parameter.requires_grad]
    assert len(watched) == (3 if frozen else 6)
    for found, wanted in zip(
        torch.autograd.grad(output, [images, *watched], upstream),
        torch.autograd.grad(expected, [images, *theirs], upstream),
        strict=True,
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    module.eval()
    reference.eval()
    torch.testing.assert_close(
        module(images),
        0.5 * (reference.first(images) + reference.second(images)),
        rtol=1e-5,
        atol=1e-5,
    )


def test_places_are_those_of_the_paper():
    def names(config, **arguments):
        model = segmentor(config, [3])
        return [place.name for place in find_places(model, **arguments)]

    bottleneck = names(thin(50))
    assert len(bottleneck) == 3 + 4 + 6 + 3 + 2
    assert all(name.endswith('conv2') for name in bottleneck[:16])
    assert bottleneck[16:] == [f'decode_head.aspp_modules.{i}.conv' for i in range(2)]
    basic = names(thin(18), parts=('backbone',))
    assert len(basic) == 16 and {name[-5:] for name in basic} == {'conv1', 'conv2'}
    assert names(thin(18, 'DepthwiseSeparableASPPHead'), parts=('decode_head',)) == [
        'decode_head.aspp_modules.0.conv',
        'decode_head.aspp_modules.1.depthwise_conv.conv',
        'decode_head.aspp_modules.1.pointwise_conv.conv',
    ]
    # Stem and first stage do not learn, so there is nothing to branch.
    assert len(names(thin(50, frozen_stages=1))) == len(bottleneck) - 3


def test_a_network_without_a_place_is_refused():
    with pytest.raises(InputError, match='ResNet-like'):
        segmentor(network('SegformerHead'), [3], network_change=BRANCHES)
    with pytest.raises(InputError, match='ResNet-like'):
        segmentor(network('FCNHead'), [3], network_change=dict(BRANCHES, parts=('decode_head',)))
    with pytest.raises(InputError, match='parts'):
        segmentor(network('FCNHead'), [3], network_change=dict(BRANCHES, parts=('neck',)))


def test_half_precision_trains(tmp_path):
    config = thin(50)
    base = base_step(config, tmp_path / 'base.pth')
    model = next_model(config, save(base, tmp_path / '0'), [3, 2]).train()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss, _ = model.parse_losses(model.loss(*batch(5)))
    loss.backward()
    assert torch.isfinite(loss)
    assert all(
        torch.isfinite(parameter.grad).all()
        for parameter in model.parameters()
        if parameter.requires_grad
    )


@pytest.mark.parametrize('frozen', [True, False])
def test_a_merged_branch_can_have_the_official_eps_once_more(frozen):
    """Officially a merged branch, weight 1 and variance 1, is merged with InPlace-ABN's eps."""
    eps = 1e-2  # large enough to be seen in single precision
    torch.manual_seed(0)
    conv, norm = torch.nn.Conv2d(3, 4, 3, bias=False), torch.nn.BatchNorm2d(4)
    pair = ParallelConv(conv, norm, frozen)
    for branch in (pair.first, pair.second):
        enliven(branch)
    torch.nn.init.normal_(pair.second.conv.weight)
    pair.eval()
    images = torch.randn(2, 3, 6, 6)
    first, second = pair.first(images), pair.second(images)
    scale = (1 + eps) / (1 + eps) ** 0.5 if frozen else 1.0
    pair.merge(eps)
    torch.testing.assert_close(
        pair.first(images), (scale * first + second) / 2, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize('eps', [-1e-5, 0.5, float('nan')])
def test_an_eps_that_is_none_is_refused(eps):
    with pytest.raises(InputError, match='eps_again'):
        MODELS.build(dict(BRANCHES, eps_again=eps))


def drawn_in_training(pair, images):
    """Return how much of the first branch each channel takes: 0, 0.5 or 1; shape (C,)."""
    first, second = pair.first(images), pair.second(images)
    share = (pair(images) - second) / (first - second)
    return (share.mean((0, 2, 3)) * 2).round() / 2


def pairs_of_branches(number, channels=64):
    torch.manual_seed(0)
    pair = ParallelConv(
        torch.nn.Conv2d(3, channels, 1), torch.nn.BatchNorm2d(channels), True, number=number
    )
    torch.nn.init.normal_(pair.second.conv.weight)
    return pair.train()


def test_branches_are_drawn_by_iteration_and_place_alone():
    images = torch.randn(2, 3, 4, 4)
    pair, same, other = (pairs_of_branches(number) for number in (0, 0, 1))
    for module in (pair, same, other):
        module.set_iteration_seed(7)
    torch.manual_seed(1)
    first = drawn_in_training(pair, images)
    torch.manual_seed(2)  # as on another process
    assert torch.equal(drawn_in_training(same, images), first)
    assert torch.equal(drawn_in_training(pair, images), first)  # as in a repeated forward pass
    assert not torch.equal(drawn_in_training(other, images), first)
    pair.set_iteration_seed(8)
    assert not torch.equal(drawn_in_training(pair, images), first)
    assert set(first.tolist()) == {0.0, 0.5, 1.0}


def test_each_process_draws_its_own_branches_where_that_is_asked_for():
    model = segmentor(thin(50), [3], network_change=dict(BRANCHES, draws='process'))
    pairs = [module for module in model.modules() if isinstance(module, ParallelConv)]
    assert pairs and all(pair.number is None for pair in pairs)
    images = torch.randn(2, 3, 4, 4)
    pair = pairs_of_branches(None)
    drawn = []
    for process in (1, 2, 1):
        pair.set_iteration_seed(7)
        torch.manual_seed(process)
        drawn.append(drawn_in_training(pair, images))
    assert torch.equal(drawn[0], drawn[2]) and not torch.equal(drawn[0], drawn[1])


def test_places_have_different_numbers():
    model = segmentor(thin(50), [3], network_change=BRANCHES)
    numbers = [module.number for module in model.modules() if isinstance(module, ParallelConv)]
    assert sorted(numbers) == list(range(len(numbers)))


def test_unknown_draws_are_refused():
    with pytest.raises(InputError, match='draws'):
        MODELS.build(dict(BRANCHES, draws='rank'))
