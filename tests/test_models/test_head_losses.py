"""Losses from shared pixels are those of the heads themselves."""

import pytest
import torch
from mmseg.models.segmentors import EncoderDecoder

from mmseg_cil.models import segmentors
from mmseg_cil.models.plain import plain_model_config
from mmseg_cil.registry import MODELS
from mmseg_cil.testing.networks import HEADS, base_step, batch, network, next_step, segmentor

KD = dict(type='LogitDistiller', loss=dict(type='KnowledgeDistillationLoss'))
UNKD = dict(type='LogitDistiller', loss=dict(type='UnbiasedKnowledgeDistillationLoss'))
SIGMOID = dict(type='LogitDistiller', loss=dict(type='SigmoidDistillationLoss'))
LOSSES = [
    ('UnbiasedCrossEntropyLoss', UNKD),
    ('PixelCrossEntropyLoss', KD),
    ('CrossEntropyLoss', KD),
    ('SigmoidCrossEntropyLoss', SIGMOID),
]


def losses_and_gradients(model, samples):
    torch.manual_seed(0)
    model.zero_grad()
    losses = model.loss(*samples)
    model.parse_losses(losses)[0].backward()
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    return {name: loss.detach().reshape(()) for name, loss in losses.items()}, gradients


@pytest.mark.parametrize(('loss', 'distiller'), LOSSES)
def test_they_are_the_heads_own(loss, distiller, tmp_path, monkeypatch):
    config = network('ASPPHead', 'list', loss)
    base_step(config, tmp_path / 'step.pth')
    model = next_step(config, tmp_path / 'step.pth', distillers=[distiller]).train().double()
    model.teacher.network.double()
    images, samples = batch(5)
    shared = losses_and_gradients(model, (images.double(), samples))
    monkeypatch.setattr(segmentors.step_losses, 'has_own_losses', lambda head: True)
    own = losses_and_gradients(model, (images.double(), samples))
    assert shared[0].keys() == own[0].keys()
    for actual, expected in zip(shared, own, strict=True):
        for name, value in actual.items():
            # The accuracy is float32 in both.
            torch.testing.assert_close(value, expected[name].to(value))


@pytest.mark.parametrize('head', list(HEADS))
def test_a_plain_step_is_mmsegmentations_to_the_last_bit(head, tmp_path):
    config = network(head, 'single', 'CrossEntropyLoss')
    torch.manual_seed(0)
    ours = segmentor(config, [5])
    theirs = MODELS.build(plain_model_config(config, 5))
    assert type(theirs) is EncoderDecoder
    theirs.load_state_dict(ours.state_dict())
    first, second = (losses_and_gradients(model.train(), batch(5)) for model in (ours, theirs))
    assert first[0].keys() == second[0].keys()
    for name, loss in first[0].items():
        if 'acc' in name:
            torch.testing.assert_close(loss, second[0][name])
        else:
            assert torch.equal(loss, second[0][name])
    assert all(torch.equal(value, second[1][name]) for name, value in first[1].items())


def test_several_losses_share_and_those_of_one_name_are_summed(tmp_path):
    config = network(loss='PixelCrossEntropyLoss')
    config['decode_head']['loss_decode'] = [
        dict(type='PixelCrossEntropyLoss'),
        dict(type='PixelCrossEntropyLoss'),
        dict(type='CrossEntropyLoss', loss_name='loss_other'),
    ]
    several = segmentor(config, [5]).eval().loss(*batch(5))
    torch.testing.assert_close(several['decode.loss_ce'], 2 * several['decode.loss_other'])
