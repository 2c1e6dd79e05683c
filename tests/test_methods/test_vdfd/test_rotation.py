"""Rotation label augmentation in the segmentor."""

import copy

import pytest
import torch
from mmengine.structures import PixelData
from torch.nn import functional

from mmseg_cil.errors import InputError
from mmseg_cil.methods.vdfd.hook import VDFDHook
from mmseg_cil.methods.vdfd.rotation import RotationSelfSupervision
from mmseg_cil.models.plain import plain_state_dict
from mmseg_cil.testing.networks import UNKD, base_step, batch, network, next_step, segmentor

SSL = dict(type='RotationSelfSupervision')


def model_of(rotations='all', **options):
    torch.manual_seed(0)
    model = segmentor(
        network(loss='CrossEntropyLoss', dropout_ratio=0.0, **options),
        [4],
        self_supervision=dict(SSL, rotations=rotations),
    )
    model.init_weights()
    with torch.no_grad():
        for parameter in model.self_supervision.parameters():
            parameter.normal_()
        model.decode_head.conv_seg.weight.normal_()
    return model


def test_images_and_masks_turn_together():
    module = RotationSelfSupervision()
    images, samples = batch(4)
    for image, sample in zip(images, samples, strict=True):
        image[0] = sample.gt_sem_seg.data[0].float()
    turned, labels = module.turn(images, samples)
    assert len(turned) == len(labels) == 8
    for image, sample in zip(turned, labels, strict=True):
        assert torch.equal(image[0], sample.gt_sem_seg.data[0].float())
    for k in range(4):
        assert torch.equal(turned[2 * k], images[0].rot90(k, (1, 2)))
    # The input is unchanged.
    assert torch.equal(images[0, 0], samples[0].gt_sem_seg.data[0].float())


def test_the_loss_is_the_official_one_with_4y_plus_k():
    model = model_of()
    images, samples = batch(4)
    state = copy.deepcopy(model.state_dict())
    losses = model.loss(images, samples)
    model.load_state_dict(state)
    # Batch norm in training mode: one batch of all turns, in the same order.
    turned = torch.cat([images.rot90(k, (2, 3)) for k in range(4)])
    labels = torch.cat([sample.gt_sem_seg.data for sample in samples])
    labels = torch.stack([label.rot90(k, (0, 1)) for k in range(4) for label in labels])
    turns = torch.arange(4).repeat_interleave(2).view(-1, 1, 1)
    official = torch.where(labels == 255, 255, 4 * labels + turns)
    head, rows = model.decode_head, model.self_supervision.rows['decode_head']
    embedding = head._forward_feature(model.extract_feat(turned))
    weight = torch.stack([head.conv_seg.weight, *rows['weight'].split(4)], dim=1).flatten(0, 1)
    bias = torch.stack([head.conv_seg.bias, *rows['bias'].split(4)], dim=1).flatten()
    logits = functional.interpolate(
        functional.conv2d(embedding, weight, bias), (32, 32), mode='bilinear'
    )
    expected = functional.cross_entropy(logits, official, ignore_index=255, reduction='none').mean()
    torch.testing.assert_close(losses['decode.loss_ce'], expected, rtol=1e-5, atol=1e-6)


def test_evaluation_and_the_step_know_turn_0_only():
    """They are those of a plain network with the C rows, whatever the other rows are."""
    model = model_of()
    images, samples = batch(4)
    # As after training: turned batches have gone through.
    model.loss(images, samples)
    state = plain_state_dict(model.state_dict())
    assert all('self_supervision' not in key for key in state)
    plain = segmentor(network(loss='CrossEntropyLoss', dropout_ratio=0.0), [4])
    plain.load_state_dict(state)
    metas = [dict(img_shape=(32, 32))] * 2
    logits = model.eval().encode_decode(images, metas)
    assert logits.shape[1] == 4 and torch.equal(logits, plain.eval().encode_decode(images, metas))
    head = model.decode_head
    embedding = head._forward_feature(model.extract_feat(images))
    own = functional.conv2d(embedding, head.conv_seg.weight, head.conv_seg.bias)
    torch.testing.assert_close(logits, functional.interpolate(own, (32, 32), mode='bilinear'))

    def kept(network):
        data = [dict(inputs=list(images), data_samples=samples)]
        return VDFDHook(rank=None).keep(network, data, ((0,), (1,), (2, 3)))

    assert kept(model).names == kept(plain).names
    assert kept(plain).dense().norm() > 0
    assert torch.equal(kept(model).dense(), kept(plain).dense())
    assert torch.equal(kept(model).projection, kept(plain).projection)


def test_every_row_learns_and_outputs_return_to_c():
    model = model_of()
    losses = model.loss(*batch(4))
    sum(value for key, value in losses.items() if 'loss' in key).backward()
    assert all(
        parameter.grad is not None and parameter.grad.abs().sum() > 0
        for parameter in model.self_supervision.parameters()
    )
    features = model.extract_feat(batch(4)[0])
    assert model.decode_head.forward(features).shape[1] == 4


def test_random_turns_keep_the_batch():
    module = RotationSelfSupervision('random')
    torch.manual_seed(0)
    seen = set()
    for _ in range(8):
        images, _ = module.turn(*batch(4))
        assert len(images) == 2
        seen.update(module._turns.tolist())
    assert seen == {0, 1, 2, 3}


def test_turns_share_the_probability_of_their_class_at_first():
    torch.manual_seed(0)
    model = segmentor(network(auxiliary='list'), [4], self_supervision=SSL)
    model.init_weights()
    module = model.self_supervision
    assert set(module.rows) == {'decode_head', 'auxiliary_head_0', 'auxiliary_head_1'}
    module.turn(*batch(4))
    embedding = torch.randn(8, 12, 5, 5)
    logits = model.decode_head.conv_seg(embedding)
    assert logits.shape == (8, 16, 5, 5)
    for first in (4, 8, 12):
        torch.testing.assert_close(logits[:, first : first + 4], logits[:, :4])


def test_distillers_see_the_image_own_turn(tmp_path):
    config = network(dropout_ratio=0.0)
    base_step(config, tmp_path / 'base.pth')
    model = next_step(config, tmp_path / 'base.pth', distillers=(UNKD,), self_supervision=SSL)
    losses = model.loss(*batch(5))
    assert torch.isfinite(losses['distill.loss_unkd'])
    plain = next_step(config, tmp_path / 'base.pth', distillers=(UNKD,))
    images = batch(5)[0]
    turned = torch.cat([images.rot90(k, (2, 3)) for k in range(4)])
    samples = batch(5)[1] * 4
    # The teacher's own distillation on the turned batch does not depend on labels.
    torch.testing.assert_close(
        losses['distill.loss_unkd'], plain.loss(turned, samples)['distill.loss_unkd']
    )


@pytest.mark.parametrize('rotations', ['all', 'random'])
def test_cross_entropy_of_the_step_s_classes_leaves_old_ones_alone(tmp_path, rotations):
    """Their outputs of the other turns too: nothing lowers an old class."""
    config = network(loss='StepClassesCrossEntropyLoss', auxiliary='single')
    base_step(config, tmp_path / 'base.pth')
    model = next_step(
        config,
        tmp_path / 'base.pth',
        distillers=(),
        self_supervision=dict(SSL, rotations=rotations),
    )
    losses = model.loss(*batch(5))
    (losses['decode.loss_step_ce'] + losses['aux.loss_step_ce']).backward()
    for name, head in model.heads.items():
        others = model.self_supervision.rows[name]['weight'].grad.unflatten(0, (3, 5))
        every = torch.cat([head.conv_seg.weight.grad.unsqueeze(0), others]).flatten(2)
        assert not every[:, 1:3].any()
        assert (every[:, [0, 3, 4]].abs().sum(dim=2) > 0).all()


def test_what_cannot_be_turned_is_refused():
    with pytest.raises(InputError, match='rotations must be one of'):
        RotationSelfSupervision('some')
    with pytest.raises(InputError, match='must be square'):
        RotationSelfSupervision().turn(torch.zeros(1, 3, 4, 6), [None])


def test_edges_turn_with_the_image():
    images, samples = batch(3, count=1)
    for sample in samples:
        sample.gt_edge_map = PixelData(data=(sample.gt_sem_seg.data == 1).to(torch.uint8))
    module = RotationSelfSupervision()
    _, turned = module.turn(images, samples)
    for sample in turned:
        assert torch.equal(sample.gt_edge_map.data, (sample.gt_sem_seg.data == 1).to(torch.uint8))
    assert not torch.equal(turned[1].gt_edge_map.data, samples[0].gt_edge_map.data)
