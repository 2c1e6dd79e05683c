"""The pre-tuning's network: what it learns, what it leaves alone, and its pass over images."""

import pytest
import torch
from golden_cases import deviation
from torch.nn import functional

from mmseg_cil.errors import InputError
from mmseg_cil.methods.nest.classifier import (
    ClassifierPreTuning,
    PreTunedClassifier,
    classifying_heads,
    layer_name,
)
from mmseg_cil.methods.nest.reference import importance
from mmseg_cil.methods.nest.rows import PreTunedRows, read_rows
from mmseg_cil.methods.nest.selection import ChannelSelectionHook, class_importance
from mmseg_cil.methods.nest.sub_step import PreTuneClassifier
from mmseg_cil.methods.nest.transfer import mean_importance
from mmseg_cil.models.network_output import run_heads
from mmseg_cil.models.segmentors import IncrementalEncoderDecoder
from mmseg_cil.testing.networks import base_step, batch, network, next_step

CONFIG = network('FCNHead', 'single')
OWN = ('importance', 'mixing', 'background_scale', 'background_mixing', 'new_bias')


@pytest.fixture
def step(tmp_path):
    """The network of the pre-tuning at step 1 of 3 + 2 classes."""
    base_step(CONFIG, tmp_path / 'base.pth')
    return next_step(
        CONFIG,
        tmp_path / 'base.pth',
        distillers=(),
        network_change=dict(type='ClassifierPreTuning'),
        freezing=dict(norm_statistics=['backbone', 'decode_head', 'auxiliary_head']),
    )


def batches(count=2):
    for seed in range(count):
        images, samples = batch(5, count=1, seed=seed)
        yield dict(inputs=[images[0]], data_samples=samples)


def test_only_the_transfer_learns_and_statistics_stand_still(step):
    step.train()
    learns = {name for name, value in step.named_parameters() if value.requires_grad}
    heads = ('decode_head', 'auxiliary_head')
    assert learns == {f'{head}.conv_seg.{name}' for head in heads for name in OWN}
    before = {key: value.clone() for key, value in step.state_dict().items()}
    loss, _ = step.parse_losses(step.loss(*batch(5)))
    loss.backward()
    assert all(
        (value.grad is not None) == (name in learns) for name, value in step.named_parameters()
    )
    assert all(torch.equal(value, before[key]) for key, value in step.state_dict().items())
    assert all(step.get_parameter(name).grad.abs().sum() > 0 for name in learns)


def test_the_gradients_are_those_of_the_plain_form(step):
    classifier = step.decode_head.conv_seg
    old, embedding = classifier.old_rows.double(), torch.randn(2, 12, 3, 3).double()
    named = {name: classifier.get_parameter(name).detach().double() for name in OWN}
    leaves = [value.requires_grad_() for value in named.values()]
    rows = [
        sum(named['mixing'][k, o] * named['importance'][k, o] * old[o] for o in range(3))
        for k in range(2)
    ]
    first = named['background_mixing'] * named['background_scale'] * old[0]
    weight = torch.stack([first, *old[1:], *rows])
    bias = torch.cat([classifier.conv.bias[:3].double(), named['new_bias']])
    logits = torch.einsum('cd,ndhw->nchw', weight, embedding) + bias[:, None, None]
    expected = torch.autograd.grad(functional.softplus(logits).sum(), leaves)
    functional.softplus(classifier(embedding.float())).sum().backward()
    for name, value in zip(OWN, expected, strict=True):
        assert deviation(classifier.get_parameter(name).grad, value) < 1e-5, name


def test_new_biases_begin_as_the_background_or_are_drawn(step, tmp_path):
    for head in classifying_heads(step).values():
        classifier = head.conv_seg
        assert torch.equal(classifier.new_bias, classifier.conv.bias[:1].expand(2))
        classifier.begin('drawn')
        first, other = classifier.new_bias.tolist()
        assert first == other != classifier.conv.bias[0].item()
        assert abs(first) <= classifier.conv.in_channels**-0.5


def test_plain_form_and_end_have_the_names_of_a_plain_network(step, tmp_path):
    plain = set(torch.load(tmp_path / 'base.pth')['state_dict'])
    own = {key for key in step.state_dict() if key.startswith(('decode_head', 'auxiliary'))}
    assert not own <= plain
    with step._change.plain_form(step):
        assert set(step.state_dict()) == plain
    assert isinstance(step.decode_head.conv_seg, PreTunedClassifier)
    before = step.decode_head.conv_seg.old_rows.clone()
    assert step.make_plain() == {}
    assert set(step.state_dict()) == plain
    weight = step.decode_head.conv_seg.weight.flatten(1)
    assert deviation(weight[:3], before) < 1e-6
    assert weight[3:].norm(dim=1).mean() == pytest.approx(weight[:3].norm(dim=1).mean().item())


def test_the_pass_is_that_of_the_plain_form(step):
    found = class_importance(step, batches(), grid=8)
    old = step.previous_network().network
    images, samples = zip(*(batch(5, count=1, seed=seed) for seed in range(2)), strict=True)
    labels = torch.cat([each[0].gt_sem_seg.data for each in samples])[:, None]
    labels = functional.interpolate(labels.float(), (8, 8), mode='nearest').long().flatten()
    with torch.no_grad():
        taps = run_heads(old, old.extract_feat(torch.cat(images)))
    for name, tap in taps.items():
        embedding, logits = (
            functional.interpolate(value, (8, 8), mode='bilinear', align_corners=False)
            for value in (tap.embedding, tap.logits)
        )
        flat = [value.movedim(1, -1).flatten(0, 2) for value in (embedding, logits.softmax(1))]
        weight = getattr(old, name).conv_seg.weight.flatten(1)
        values = mean_importance(*found[name])
        for place in range(2):
            expected = importance(*flat, labels, weight, 3 + place)
            assert deviation(values[place], expected) < 1e-5, name


def test_a_pass_without_batches_is_finite(step):
    for sums, counts in class_importance(step, [], grid=4).values():
        assert torch.isfinite(mean_importance(sums, counts)).all() and not counts.any()


def test_another_kernel_is_refused(tmp_path):
    model = next_step_plain(tmp_path)
    model.decode_head.conv_seg = torch.nn.Conv2d(12, 5, 3)
    with pytest.raises(InputError, match=r'decode_head\.conv_seg has a kernel of \(3, 3\)'):
        ClassifierPreTuning().install(model, learnt=True)


def next_step_plain(tmp_path) -> IncrementalEncoderDecoder:
    base_step(CONFIG, tmp_path / 'base.pth')
    return next_step(CONFIG, tmp_path / 'base.pth', distillers=())


def rows_of(model):
    return {
        layer_name(name, head): dict(
            weight=torch.randn(5, head.conv_seg.in_channels), bias=torch.randn(5)
        )
        for name, head in classifying_heads(model).items()
    }


def test_a_step_begins_with_the_rows_of_each_head(tmp_path):
    layers = rows_of(next_step_plain(tmp_path))
    torch.save(dict(layers=layers), tmp_path / 'rows.pth')
    init = dict(type='pre_tuned', rows=str(tmp_path / 'rows.pth'), otherwise='balanced')
    model = next_step(CONFIG, tmp_path / 'base.pth', distillers=(), classifier_init=init)
    for name, layer in layers.items():
        for key, value in layer.items():
            found = model.get_parameter(f'{name}.{key}').detach()
            assert torch.equal(found.flatten(1) if key == 'weight' else found, value)
    # Parts that anchor the old rows (EWF, VDFD) are told the background's, which has moved.
    begun = model.begun_state()
    for name, layer in layers.items():
        assert torch.equal(begun[f'{name}.weight'].flatten(1), layer['weight'][:3])
    # Layers that the file does not have begin as the method says.
    del layers['auxiliary_head.conv_seg']
    torch.save(dict(layers=layers), tmp_path / 'rows.pth')
    model = next_step(CONFIG, tmp_path / 'base.pth', distillers=(), classifier_init=init)
    aux = model.auxiliary_head.conv_seg
    assert torch.equal(aux.weight[3:], aux.weight[:1].expand_as(aux.weight[3:]))


def test_rows_that_do_not_fit_or_cannot_be_read_are_refused(tmp_path):
    layers = rows_of(next_step_plain(tmp_path))
    path = tmp_path / 'rows.pth'
    init = dict(type='pre_tuned', rows=str(path))
    for content, message in (
        (None, 'cannot be read'),
        (dict(rows=layers), 'cannot be read'),
        ({'layers': {k: dict(weight=v['weight'] / 0) for k, v in layers.items()}}, 'not finite'),
        ({'layers': {k: dict(weight=v['weight'][1:]) for k, v in layers.items()}}, 'do not fit'),
    ):
        if content:
            torch.save(content, path)
        with pytest.raises(InputError, match=message):
            next_step(CONFIG, tmp_path / 'base.pth', distillers=(), classifier_init=init)
    with pytest.raises(InputError, match='cannot be read'):
        read_rows(tmp_path / 'none.pth')
    with pytest.raises(InputError, match='is set by the sub-step'):
        PreTunedRows()


@pytest.mark.parametrize(
    'option',
    [
        dict(epochs=0),
        dict(max_iters=0),
        dict(lr_factor=0.0),
        dict(norm_statistics='still'),
        dict(name='pre tuning'),
    ],
)
def test_options_out_of_range_are_refused(option):
    with pytest.raises(InputError, match=next(iter(option))):
        PreTuneClassifier(**option)


def test_options_of_its_parts_are_refused_too():
    for build, options in (
        (ClassifierPreTuning, dict(bias='none')),
        (ClassifierPreTuning, dict(bias_scale='mean')),
        (ChannelSelectionHook, dict(grid=0)),
        (ChannelSelectionHook, dict(max_images=0)),
    ):
        with pytest.raises(InputError, match=next(iter(options))):
            build(**options)
