"""EWF against the official numbers, its limits, and what it leaves alone."""

import copy
import logging
import math
from types import SimpleNamespace

import pytest
import torch
from golden_cases import deviation, files, load
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from mmseg_cil.contracts import StepHook
from mmseg_cil.engine.runner.step_runner import after_step
from mmseg_cil.errors import InputError
from mmseg_cil.methods.ewf.hook import EWFHook, fuse_into
from mmseg_cil.methods.ewf.reference import change_threshold, fuse, fusion_factor
from mmseg_cil.models.plain import plain_state_dict
from mmseg_cil.testing.networks import base_step, network, next_step, segmentor, snapshot


def parts_of(case, kind):
    return {key.removeprefix(kind): value for key, value in case.items() if key.startswith(kind)}


@files('ewf_merge')
def test_fusion_is_the_official_one(path):
    case = load(path)
    old, new, merged = (parts_of(case, kind) for kind in ('old__', 'new__', 'merged__'))
    factor = fusion_factor(case['n_old'], case['n_new'])
    assert factor == pytest.approx(case['merge_weight'], rel=1e-12)
    threshold = None
    if case['threshold_choice']:
        threshold = change_threshold(old, new)
        assert threshold == pytest.approx(case['merge_threshold'], rel=1e-6)
    result = fuse(old, new, factor, threshold)
    in_place = {key: value.clone() for key, value in new.items()}
    fuse_into(in_place, old, factor, bool(case['threshold_choice']))
    for key, expected in merged.items():
        assert deviation(result[key], expected) < 1e-6, key
        assert deviation(in_place[key], expected) < 1e-6, key


def test_the_limits_are_the_old_and_the_new_weights():
    assert fusion_factor(16, 1) == pytest.approx(math.sqrt(1 / 17))
    assert fusion_factor(16, 0) == 0
    generator = torch.Generator().manual_seed(0)
    start = {'rows': torch.randn(2, 3, generator=generator), 'count': torch.tensor(3)}
    end = {'rows': torch.randn(4, 3, generator=generator), 'count': torch.tensor(7)}
    for factor, expected in ((0.0, start), (1.0, end)):
        fused = {key: value.clone() for key, value in end.items()}
        fuse_into(fused, start, factor)
        assert torch.equal(fused['rows'][:2], expected['rows'][:2])
        # New rows stay, and counters are no weights.
        assert torch.equal(fused['rows'][2:], end['rows'][2:]) and fused['count'] == 7


@pytest.fixture
def step(tmp_path):
    """A segmentor at step 1 of 3 + 2 classes that has moved, and the last step's weights."""
    old = base_step(network('PSPHead', 'single'), tmp_path / 'base.pth')
    model = next_step(
        network('PSPHead', 'single'), tmp_path / 'base.pth', classifier_init='balanced'
    )
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for value in model.state_dict().values():
            if value.is_floating_point():
                value.add_(torch.rand(value.shape, generator=generator))
            else:
                value.add_(5)
    return model, plain_state_dict(old.state_dict())


def runner_of(model, *hooks):
    return SimpleNamespace(model=model, hooks=list(hooks), logger=logging.getLogger())


@pytest.mark.parametrize('start', ['grown', 'official'])
def test_what_training_began_with_and_what_it_ended_with_are_mixed(step, start):
    model, old = step
    end = {key: value.clone() for key, value in plain_state_dict(model.state_dict()).items()}
    EWFHook(start=start).change_weights(runner_of(model))
    a = math.sqrt(2 / 5)
    for key, value in plain_state_dict(model.state_dict()).items():
        if not value.is_floating_point():
            assert torch.equal(value, end[key]), key
            continue
        before, after = old[key].clone(), end[key]
        known = len(before) if before.dim() else None
        if start == 'grown' and key.endswith('conv_seg.bias'):
            before[0] -= math.log(3)
        expected = (1 - a) * before + a * after[:known] if known else after
        torch.testing.assert_close(value[:known], expected, msg=key)
        assert torch.equal(value[known:], after[known:]), key
    # Auxiliary heads and statistics were among them.
    assert 'auxiliary_head.conv_seg.weight' in old and 'backbone.bn1.running_var' in old


def test_the_beginning_of_a_step_is_told_again_from_the_last_one(tmp_path):
    base_step(network('PSPHead', 'single'), tmp_path / 'base.pth')
    state = torch.get_rng_state()
    for name in ('balanced', 'random', 'conv_default', dict(type='lowered_background')):
        model = next_step(network('PSPHead', 'single'), tmp_path / 'base.pth', classifier_init=name)
        found = plain_state_dict(model.state_dict())
        torch.set_rng_state(state)
        begun = model.begun_state()
        assert torch.equal(torch.get_rng_state(), state)
        assert begun.keys() == found.keys()
        for key, value in begun.items():
            rows = found[key][: len(value)] if value.dim() else found[key]
            assert torch.equal(value, rows), (name, key)
        assert len(begun['decode_head.conv_seg.bias']) == 3


def test_nothing_is_fused_before_anything_was_learnt():
    first = segmentor(network(), [3])
    state = copy.deepcopy(first.state_dict())
    EWFHook().change_weights(runner_of(first))
    for key, value in first.state_dict().items():
        assert torch.equal(value, state[key]), key


def test_a_step_without_new_classes_needs_a_factor(tmp_path):
    base_step(network(), tmp_path / 'base.pth')
    model = segmentor(
        network(), [3, 0], class_steps=[0, 0, 0], previous=snapshot(tmp_path / 'base.pth', 3)
    )
    with pytest.raises(InputError, match=r'undo the step: give a factor'):
        EWFHook().check_network(model)
    EWFHook(factor=0.5).check_network(model)
    EWFHook().check_network(segmentor(network(), [3]))


@pytest.mark.parametrize(
    ('options', 'message'),
    [(dict(factor=1.5), 'factor must be a number'), (dict(start='begun'), 'start must be one of')],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        EWFHook(**options)


def test_branches_that_were_merged_are_fused_with_a_beginning_that_is_folded_alike(tmp_path):
    """Else kernels with norms of their own would be mixed with kernels that hold theirs."""
    config = network('ASPPHead')
    old = base_step(config, tmp_path / 'base.pth')
    for module in old.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.uniform_(0.2, 3.0)
            module.running_mean.normal_()
            nn.init.uniform_(module.weight, 0.5, 2.0)
    torch.save(dict(state_dict=plain_state_dict(old.state_dict()), meta={}), tmp_path / 'base.pth')
    model = next_step(
        config,
        tmp_path / 'base.pth',
        distillers=(),
        classifier_init='random',
        network_change=dict(type='ParallelBranches'),
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if '.second.' in name:
                parameter.mul_(1.1)
    model.make_plain()
    model.eval()
    # The beginning, folded, computes what it computed before.
    folded = next_step(
        config, tmp_path / 'base.pth', distillers=(), classifier_init='random'
    ).eval()
    state = folded.state_dict()
    before = folded.backbone(torch.ones(1, 3, 32, 32))[-1]
    start = model.in_finished_form(model.begun_state())
    backbone = {key: value for key, value in start.items() if key.startswith('backbone')}
    folded.load_state_dict({**state, **backbone})
    torch.testing.assert_close(
        folded.backbone(torch.ones(1, 3, 32, 32))[-1], before, rtol=1e-4, atol=1e-4
    )
    key = 'backbone.layer1.0.conv1.weight'
    assert not torch.allclose(start[key], model.begun_state()[key], rtol=0.1)
    after = model.state_dict()[key].clone()
    EWFHook(factor=0.5).change_weights(runner_of(model))
    torch.testing.assert_close(model.state_dict()[key], (start[key] + after) / 2)
    # A norm after a folded kernel only shifts; so it does after the fusion, nearly.
    norm = model.backbone.layer1[0].bn1
    factors = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    torch.testing.assert_close(factors, torch.ones_like(factors), rtol=0.02, atol=0)


class Keeper(StepHook):
    """Notes the weights that it could keep something of."""

    def after_step(self, runner):
        self.seen = runner.model.conv.weight.detach().clone()


class Doubler(StepHook):
    """Doubles the weights."""

    def change_weights(self, runner):
        with torch.no_grad():
            runner.model.conv.weight.mul_(2)


@pytest.mark.parametrize('priorities', [('VERY_HIGH', 'VERY_LOW'), ('VERY_LOW', 'VERY_HIGH')])
def test_weights_change_before_anything_is_kept_whatever_the_order_of_hooks(priorities):
    keeper, doubler = Keeper(), Doubler()
    runner = SimpleNamespace(_hooks=[], model=nn.ModuleDict(dict(conv=nn.Conv2d(1, 1, 1))))
    runner.model.conv = runner.model['conv']
    before = runner.model.conv.weight.detach().clone()
    for hook, priority in zip((keeper, doubler), priorities, strict=True):
        Runner.register_hook(runner, hook, priority)
    runner.hooks = [*runner._hooks, Hook()]
    assert [type(registered) for registered in runner.hooks[:2]].index(Keeper) == (
        priorities[0] == 'VERY_LOW'
    )
    after_step(runner)
    assert torch.equal(keeper.seen, 2 * before)
