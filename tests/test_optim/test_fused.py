"""Fused optimizers take the steps of the plain ones, whatever a method makes of its parameters."""

import functools

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.optim import build_optim_wrapper
from mmengine.optim.optimizer import amp_optimizer_wrapper as amp
from torch import nn

from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.optim import JointOptimizer
from mmseg_cil.testing.networks import UNKD, base_step, batch, network, next_step
from mmseg_cil.testing.tiny import tiny_config
from mmseg_cil.testing.walks import assert_same_weights, at, killed

KINDS = {
    'SGD': dict(type='SGD', lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3),
    # Epsilon is above the roundings of gradients that are zero, whose signs say nothing.
    'AdamW': dict(type='AdamW', lr=1e-3, weight_decay=1e-2, eps=1e-3),
}


@pytest.fixture
def scaling_on_a_cpu(monkeypatch):
    monkeypatch.setattr(amp, 'is_cuda_available', lambda: True)
    monkeypatch.setattr(amp, 'GradScaler', functools.partial(torch.amp.GradScaler, 'cpu'))


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('wrapper', ['OptimWrapper', 'AmpOptimWrapper'])
@pytest.mark.parametrize('form', ['fused', 'foreach'])
def test_groups_frozen_weights_and_scaled_losses_train_alike(
    kind, wrapper, form, tmp_path, scaling_on_a_cpu
):
    path = tmp_path / 'step.pth'
    base_step(network(), path)

    def trained(**options):
        model = next_step(network(), path, distillers=[UNKD]).train()
        model.backbone.layer1.requires_grad_(False)
        settings = dict(
            type=wrapper,
            optimizer=dict(KINDS[kind], **options),
            clip_grad=dict(max_norm=1.0),
            paramwise_cfg=dict(custom_keys={'decode_head': dict(lr_mult=10.0, decay_mult=0.0)}),
            **(dict(loss_scale='dynamic', dtype='bfloat16') if 'Amp' in wrapper else {}),
        )
        optimizer = build_optim_wrapper(model, ConfigDict(settings))
        for iteration in range(3):
            torch.manual_seed(iteration)
            with optimizer.optim_context(model):
                loss, _ = model.parse_losses(model.loss(*batch(5, seed=iteration)))
            optimizer.update_params(loss)
        return model.state_dict()

    plain, own = trained(), trained(**{form: True})
    for key, value in own.items():
        torch.testing.assert_close(value, plain[key], rtol=1e-3, atol=1e-5)


def test_a_joint_optimizer_of_fused_parts_scales_and_resumes(scaling_on_a_cpu):
    def stepped(fused, again):
        torch.manual_seed(0)
        layers = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])

        def joint():
            kinds = (functools.partial(torch.optim.SGD, momentum=0.9), torch.optim.AdamW)
            return JointOptimizer(
                [
                    kind(layer.parameters(), lr=0.1, fused=fused)
                    for kind, layer in zip(kinds, layers, strict=True)
                ]
            )

        wrapper = amp.AmpOptimWrapper(optimizer=joint(), loss_scale=512.0, dtype='bfloat16')
        for step in range(4):
            if again and step == 2:
                state = wrapper.state_dict()
                wrapper = amp.AmpOptimWrapper(optimizer=joint(), loss_scale=512.0, dtype='bfloat16')
                wrapper.load_state_dict(state)
            inputs = torch.full((2, 3), float(step + 1))
            wrapper.update_params(layers[1](layers[0](inputs)).square().mean())
        return nn.utils.parameters_to_vector(layers.parameters()).detach()

    plain = stepped(False, False)
    torch.testing.assert_close(stepped(True, False), plain)
    assert torch.equal(stepped(True, True), stepped(True, False))


def test_a_killed_walk_in_every_form_resumes_to_the_same_weights(data_root, tmp_path):
    changes = {
        'channels_last': True,
        'optim_wrapper.optimizer.fused': True,
        'activation_checkpointing': ['backbone'],
        'default_hooks.checkpoint.interval': 2,
    }
    cfg = tiny_config(data_root, 'finetune', **changes)
    WalkRunner(cfg, tmp_path / 'unbroken', steps='0').run()
    with killed(at(step=0, iteration=5)):
        WalkRunner(cfg, tmp_path / 'broken', steps='0').run()
    WalkRunner(cfg, tmp_path / 'broken', resume=True, steps='0').run()
    assert_same_weights(tmp_path / 'unbroken', tmp_path / 'broken', 0)
