"""Pre-activations of the stages: what they are, and that watching changes nothing."""

import copy

import pytest
import torch
from mmengine.registry import init_default_scope

from mmseg_cil.models.network_output import last_activations, run_network, tap_stages
from mmseg_cil.registry import MODELS
from mmseg_cil.testing.networks import MIT, RESNET, base_step, batch, network, next_step

POD = dict(type='LocalPODDistiller')


def backbone(config, **changes):
    init_default_scope('mmseg_cil')
    torch.manual_seed(0)
    model = MODELS.build({**copy.deepcopy(config), **changes})
    model.eval()
    return model


@pytest.mark.parametrize('depth', [18, 50])
def test_stages_are_kept_before_their_activation(depth):
    model = backbone(RESNET, depth=depth)
    images = batch(3)[0]
    expected = model(images)
    with tap_stages(model) as maps:
        features = model(images)
    assert len(maps) == 4
    for before, after, plain in zip(maps, features, expected, strict=True):
        assert (before < 0).any()
        assert torch.equal(before.relu(), after) and torch.equal(after, plain)
    assert all(activation.inplace for activation in last_activations(model))
    assert not any(activation._forward_pre_hooks for activation in last_activations(model))


def test_gradients_pass_through_what_is_kept():
    model = backbone(RESNET)
    with tap_stages(model) as maps:
        model(batch(3)[0])
    maps[-1].square().mean().backward()
    assert model.conv1.weight.grad.abs().sum() > 0


def test_a_transformer_has_none():
    model = backbone(MIT)
    with tap_stages(model) as maps:
        model(batch(3)[0])
    assert maps == [] and last_activations(model) == []


@pytest.mark.parametrize('head', ['FCNHead', 'SegformerHead'])
def test_student_and_teacher_are_compared_and_nobody_runs_twice(head, tmp_path):
    config, path = network(head), tmp_path / 'step.pth'
    base_step(config, path)
    model = next_step(config, path, distillers=[POD], classifier_init='balanced').train()
    calls = []
    for tapped in (model.backbone, model.teacher.network.backbone):
        tapped.register_forward_pre_hook(lambda module, inputs: calls.append(module))
    losses = model.loss(*batch(5))
    losses['distill.loss_pod'].backward()
    assert losses['distill.loss_pod'] > 0
    assert len(calls) == 2
    kept = run_network(model.teacher.network, batch(5)[0], True).pre_activations
    assert len(kept) == (4 if head == 'FCNHead' else 0)
    assert run_network(model.teacher.network, batch(5)[0]).pre_activations == ()


def test_a_student_equal_to_its_teacher_has_no_loss(tmp_path):
    config, path = network(), tmp_path / 'step.pth'
    base_step(config, path)
    # Equal but for the classifier: without growth the logits are equal too.
    model = next_step(config, path, counts=(3, 2), distillers=[POD])
    model.eval()
    with torch.no_grad():
        model.decode_head.conv_seg.weight[3:] = 0
        model.decode_head.conv_seg.bias[3:] = 0
    assert model.loss(*batch(5))['distill.loss_pod'].item() == pytest.approx(0, abs=1e-5)
