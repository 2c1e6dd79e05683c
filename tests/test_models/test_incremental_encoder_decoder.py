import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from mmseg_cil.errors import InputError
from mmseg_cil.methods.mib.reference import unbiased_cross_entropy
from mmseg_cil.models.network_output import run_network, tap_classifier
from mmseg_cil.models.plain import plain_state_dict
from mmseg_cil.testing.networks import (
    AUXILIARIES,
    HEADS,
    UNKD,
    base_step,
    batch,
    network,
    next_step,
    segmentor,
    snapshot,
)

every_head = pytest.mark.parametrize('head', list(HEADS))
FIRST = next(iter(HEADS))
#: Every head with the first kind of auxiliary heads, and every kind with the first head; the
#: others on request.
every_pair = pytest.mark.parametrize(
    ('head', 'auxiliary'),
    [
        pytest.param(head, auxiliary, marks=() if head == FIRST or not place else pytest.mark.slow)
        for head in HEADS
        for place, auxiliary in enumerate(AUXILIARIES)
    ],
)


def logits_of(model, images):
    """Low-resolution logits of every head, in evaluation mode."""
    model.eval()
    with torch.no_grad():
        features = model.extract_feat(images)
        return {name: head.forward(features) for name, head in model.heads.items()}


@every_pair
def test_a_network_grows_and_knows_what_it_knew(head, auxiliary, tmp_path):
    config, path = network(head, auxiliary), tmp_path / 'step.pth'
    images = batch(3)[0]
    base = base_step(config, path)
    before = logits_of(base, images)
    assert len(before) == {'none': 1, 'single': 2, 'list': 3}[auxiliary]

    grown = next_step(config, path, classifier_init='random')
    after = logits_of(grown, images)
    for name, old in before.items():
        assert after[name].shape[1] == 5
        # The weights are equal bit by bit; the order of summing follows the number of rows.
        for part in ('weight', 'bias'):
            assert torch.equal(
                getattr(grown.heads[name].conv_seg, part)[:3],
                getattr(base.heads[name].conv_seg, part),
            )
        torch.testing.assert_close(after[name][:, :3], old)

    after = logits_of(next_step(config, path, classifier_init='balanced'), images)
    for name, old in before.items():
        old, new = old.softmax(dim=1), after[name].softmax(dim=1)
        torch.testing.assert_close(new[:, 0] + new[:, 3:].sum(dim=1), old[:, 0])
        torch.testing.assert_close(new[:, 1:3], old[:, 1:])


@every_pair
def test_a_step_trains_the_student_alone(head, auxiliary, tmp_path):
    config, path = network(head, auxiliary), tmp_path / 'step.pth'
    base_step(config, path)
    model = next_step(config, path, classifier_init='balanced').train()
    losses = model.loss(*batch(5))
    names = {'none': [], 'single': ['aux'], 'list': ['aux_0', 'aux_1']}[auxiliary]
    assert {name for name in losses if 'loss' in name} == {
        'decode.loss_unce',
        'distill.loss_unkd',
        *(f'{name}.loss_unce' for name in names),
    }
    total, _ = model.parse_losses(losses)
    total.backward()
    assert torch.isfinite(total)
    unreached = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert unreached == []
    teacher = model.teacher.network
    assert all(weight.grad is None and not weight.requires_grad for weight in teacher.parameters())
    assert not any(module.training for module in teacher.modules())


@every_head
def test_the_tap_sees_what_the_head_returns(head, tmp_path):
    model = base_step(network(head), tmp_path / 'step.pth')
    output = run_network(model, batch(3)[0])
    with torch.no_grad():
        features = model.extract_feat(batch(3)[0])
        expected = model.decode_head.forward(features)
        again = model.decode_head.conv_seg(output.embedding)
    torch.testing.assert_close(output.logits, expected)
    torch.testing.assert_close(again, expected)
    assert len(output.features) == len(features)
    assert not output.logits.requires_grad
    assert not model.decode_head.conv_seg._forward_hooks


def test_the_embedding_is_taken_before_dropout(tmp_path):
    model = base_step(network(dropout_ratio=0.9, concat_input=False), tmp_path / 'step.pth')
    features = model.extract_feat(batch(3)[0])
    model.decode_head.dropout.train()
    with tap_classifier(model.decode_head) as tap:
        model.decode_head.forward(features)
    kept = model.decode_head.convs(features[3])
    torch.testing.assert_close(tap.embedding, kept)
    model = base_step(network(dropout_ratio=0.0), tmp_path / 'step.pth')
    assert model.decode_head.dropout is None
    assert run_network(model, batch(3)[0]).embedding.shape[1] == 12


def test_the_teacher_is_no_part_of_the_student(tmp_path):
    config, path = network(auxiliary='single'), tmp_path / 'step.pth'
    base = base_step(config, path)
    model = next_step(config, path)
    teacher = model.teacher.network
    shared = {id(module) for module in teacher.modules()} & {
        id(module) for module in model.modules()
    }
    assert shared == set()
    assert not {id(parameter) for parameter in teacher.parameters()} & {
        id(parameter) for parameter in model.parameters()
    }
    assert model.state_dict().keys() == base.state_dict().keys()
    assert plain_state_dict(model.state_dict()).keys() == model.state_dict().keys()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    expected = copy.deepcopy(teacher.state_dict())
    model.train()
    model.parse_losses(model.loss(*batch(5)))[0].backward()
    optimizer.step()
    assert all(torch.equal(value, expected[key]) for key, value in teacher.state_dict().items())


def test_before_training_the_student_is_its_teacher(tmp_path):
    config, path = network(), tmp_path / 'step.pth'
    base = base_step(config, path)
    images, samples = batch(5)
    model = next_step(config, path, classifier_init='balanced').eval()
    torch.testing.assert_close(model.teacher(images).logits, logits_of(base, images)['decode_head'])
    old = base.decode_head.predict_by_feat(
        logits_of(base, images)['decode_head'], [dict(img_shape=torch.Size((32, 32)))]
    )
    entropy = -(old.softmax(dim=1) * old.log_softmax(dim=1)).sum(dim=1).mean()
    # 10 is the loss's weight; 3 classes are old.
    loss = model.loss(images, samples)['distill.loss_unkd']
    # Interpolated logits of a balanced classifier are balanced, too.
    torch.testing.assert_close(loss, 10 * entropy / 3)


def test_networks_run_once_a_batch_however_many_distillers_there_are(tmp_path):
    config, path = network(auxiliary='single'), tmp_path / 'step.pth'
    base_step(config, path)
    second = dict(
        UNKD,
        resolution='low',
        loss=dict(type='UnbiasedKnowledgeDistillationLoss', loss_name='loss_low'),
    )
    model = next_step(config, path, distillers=[UNKD, second]).train()
    runs = {'student': 0, 'student head': 0, 'teacher': 0, 'teacher head': 0}

    def count(name, module):
        def hook(*_):
            runs[name] += 1

        module.register_forward_hook(hook)

    count('student', model.backbone)
    count('student head', model.decode_head.conv_seg)
    count('teacher', model.teacher.network.backbone)
    count('teacher head', model.teacher.network.decode_head.conv_seg)
    losses = model.loss(*batch(5))
    assert {'distill.loss_unkd', 'distill.loss_low'} <= set(losses)
    assert set(runs.values()) == {1}


def test_losses_of_one_name_are_summed(tmp_path):
    config, path = network(), tmp_path / 'step.pth'
    base_step(config, path)
    once = next_step(config, path).eval().loss(*batch(5))
    twice = next_step(config, path, distillers=[UNKD, UNKD]).eval().loss(*batch(5))
    torch.testing.assert_close(twice['distill.loss_unkd'], 2 * once['distill.loss_unkd'])


def test_without_distillers_no_teacher_is_loaded(tmp_path):
    config, path = network(), tmp_path / 'step.pth'
    base_step(config, path)
    model = next_step(config, path, distillers=[])
    assert model.teacher is None
    assert not any('distill' in name for name in model.loss(*batch(5)))
    # And without a teacher no distiller is built, as at step 0.
    assert len(segmentor(config, [3], distillers=[UNKD]).distillers) == 0


def test_training_without_the_teacher_that_was_asked_for_fails(tmp_path):
    old = snapshot(tmp_path / 'step.pth', 3)
    model = segmentor(network(), [3, 2], previous=old, teacher=old, distillers=[UNKD])
    with pytest.raises(RuntimeError, match='init_weights'):
        model.loss(*batch(5))


def test_losses_learn_which_classes_hide(tmp_path):
    config, path = network(auxiliary='list'), tmp_path / 'step.pth'
    base_step(config, path)
    model = next_step(config, path)
    hidden = [head.loss_decode._num_hidden for head in model.heads.values()]
    assert hidden == [3, 3, 3]


def test_under_autocast_losses_are_float32_and_near_those_without(tmp_path):
    config, path = network('ASPPHead', 'single'), tmp_path / 'step.pth'
    base_step(config, path)
    model = next_step(config, path, classifier_init='balanced').eval()
    expected = model.loss(*batch(5))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses = model.loss(*batch(5))
    model.parse_losses(losses)[0].backward()
    for name in ('decode.loss_unce', 'aux.loss_unce', 'distill.loss_unkd'):
        assert losses[name].dtype == torch.float32
        torch.testing.assert_close(losses[name], expected[name], rtol=0.02, atol=0)
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


def test_hard_pixels_are_chosen_by_the_unbiased_loss(tmp_path):
    kept = 100
    sampler = dict(type='OHEMPixelSampler', min_kept=kept)
    config, path = network(sampler=sampler), tmp_path / 'step.pth'
    base_step(config, path)
    model = next_step(config, path, classifier_init='balanced').eval()
    images, samples = batch(5)
    logits = functional.interpolate(
        logits_of(model, images)['decode_head'], (32, 32), mode='bilinear'
    )
    labels = torch.cat([sample.gt_sem_seg.data for sample in samples])
    hardest = unbiased_cross_entropy(logits, labels, num_hidden=3).flatten().topk(2 * kept).values
    torch.testing.assert_close(
        model.loss(images, samples)['decode.loss_unce'], hardest.sum() / labels.numel()
    )


def test_one_class_is_predicted_everywhere():
    model = segmentor(network(), [1])
    model.init_weights()
    with torch.no_grad():
        model.decode_head.conv_seg.bias.fill_(5.0)
    images, samples = batch(1)
    for result in (model.eval().predict(images, samples), model.predict(images)):
        for sample in result:
            assert sample.pred_sem_seg.data.shape == (1, 32, 32)
            assert sample.pred_sem_seg.data.dtype == torch.int64
            assert (sample.pred_sem_seg.data == 0).all()


def test_background_alone_can_grow(tmp_path):
    config, path = network(), tmp_path / 'step.pth'
    base_step(config, path, count=1)
    model = next_step(config, path, counts=(1, 1), classifier_init='balanced')
    probability = logits_of(model, batch(1)[0])['decode_head'].softmax(dim=1)
    torch.testing.assert_close(probability, torch.full_like(probability, 0.5))
    loss = model.loss(*batch(2))['distill.loss_unkd']
    torch.testing.assert_close(loss, torch.zeros_like(loss), atol=1e-5, rtol=0)


@pytest.mark.parametrize('classifier_init', ['random', 'balanced', 'imprinted'])
def test_a_step_of_a_domain_walk_has_no_new_classes(tmp_path, classifier_init):
    config, path = network(), tmp_path / 'step.pth'
    images, samples = batch(3)
    base = base_step(config, path, has_background=False)
    old = snapshot(path, 3)
    model = segmentor(
        config,
        [3],
        has_background=False,
        index=2,
        previous=old,
        teacher=old,
        distillers=[UNKD],
        classifier_init=classifier_init,
    )
    model.init_weights()
    torch.testing.assert_close(logits_of(model, images), logits_of(base, images))
    losses = model.train().loss(images, samples)
    model.parse_losses(losses)[0].backward()
    assert losses['distill.loss_unkd'] > 0


def test_three_steps_in_a_row(tmp_path):
    config = network()
    base_step(config, tmp_path / '0.pth')
    model = next_step(config, tmp_path / '0.pth', classifier_init='balanced')
    torch.save(dict(state_dict=model.state_dict()), tmp_path / '1.pth')
    last = next_step(config, tmp_path / '1.pth', counts=(3, 2, 1), classifier_init='balanced')
    assert last.teacher.num_classes == 5
    assert last.decode_head.conv_seg.bias[0].item() == pytest.approx(
        model.decode_head.conv_seg.bias[0].item() - math.log(2)
    )


# Wrong input.


def test_a_head_without_conv_seg_is_refused():
    config = network()
    config['decode_head'] = dict(
        type='SegmenterMaskTransformerHead',
        in_channels=64,
        channels=12,
        num_classes=19,
        num_layers=1,
        num_heads=1,
        embed_dims=12,
        loss_decode=dict(type='UnbiasedCrossEntropyLoss'),
    )
    with pytest.raises(InputError, match=r'decode_head \(SegmenterMaskTransformerHead\).*conv_seg'):
        segmentor(config, [3])


def test_a_head_of_another_class_count_is_refused():
    config = network()
    with pytest.raises(InputError, match=r'1 outputs.*step 0 has 2'):
        config['decode_head'].update(out_channels=1)
        segmentor(config, [2])


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(previous=snapshot('x', 5)), 'starts from 3 classes'),
        (dict(previous=snapshot('x', 2)), 'starts from 3 classes'),
        (dict(teacher=snapshot('x', 5), distillers=[UNKD]), 'its teacher knows 5'),
        (dict(classifier_init='zero'), 'unknown classifier_init'),
    ],
)
def test_contradictory_arguments_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        segmentor(network(), [3, 2], **changes)


def test_balanced_rows_need_a_background():
    with pytest.raises(InputError, match='background'):
        segmentor(
            network(),
            [3, 2],
            has_background=False,
            previous=snapshot('x', 3),
            classifier_init='balanced',
        )


def broken_checkpoint(path, kind):
    config = network(auxiliary='single')
    if kind == 'other class count':
        base_step(config, path, count=4)
    elif kind == 'other architecture':
        base_step(network('PSPHead', 'single'), path)
    elif kind == 'other width':
        base_step(network(auxiliary='single', channels=16, num_convs=2), path)
    elif kind == 'no auxiliary head':
        base_step(network(), path)
    elif kind == 'further auxiliary heads':
        base_step(network(auxiliary='list'), path)
    elif kind == 'no network':
        torch.save(dict(state_dict=nn.Linear(2, 2).state_dict()), path)
    elif kind == 'no mapping':
        torch.save([torch.zeros(3)], path)
    elif kind == 'truncated':
        base_step(config, path)
        path.write_bytes(path.read_bytes()[:-2000])
    elif kind == 'text':
        path.write_text('no checkpoint')
    return config


@pytest.mark.parametrize(
    ('kind', 'message'),
    [
        ('missing', 'does not exist'),
        ('text', 'cannot be read'),
        ('truncated', 'cannot be read'),
        ('no mapping', 'no decode_head.conv_seg'),
        ('no network', 'no decode_head.conv_seg'),
        ('other class count', '4 classes.*3'),
        ('other architecture', 'do not fit'),
        ('other width', 'do not fit'),
        ('no auxiliary head', 'do not fit.*missing'),
        ('further auxiliary heads', 'do not fit.*superfluous'),
    ],
)
@pytest.mark.parametrize('role', ['previous', 'teacher'])
def test_a_checkpoint_that_does_not_fit_is_refused(kind, message, role, tmp_path):
    good, bad = tmp_path / 'good.pth', tmp_path / 'bad.pth'
    config = broken_checkpoint(bad, kind)
    base_step(config, good)
    paths = dict(previous=good, teacher=good)
    paths[role] = bad
    model = segmentor(
        config,
        [3, 2],
        distillers=[UNKD],
        **{name: snapshot(path, 3) for name, path in paths.items()},
    )
    with pytest.raises(InputError, match=message) as caught:
        model.init_weights()
    assert 'bad.pth' in str(caught.value)
