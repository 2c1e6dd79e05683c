"""Equality of STAR's parts with numbers from the official code."""

import pytest
import torch
from golden_cases import deviation, files, load
from torch import nn
from torch.nn import functional

from mmseg_cil.contracts import NetworkOutput
from mmseg_cil.losses.pixel_logits import PixelLogits
from mmseg_cil.methods.star import ReplayedCrossEntropyLoss, reference
from mmseg_cil.methods.star import loss as star_loss
from mmseg_cil.methods.star.distiller import contrast, old_class_features
from mmseg_cil.methods.star.replay import Replay, teacher_classes
from mmseg_cil.methods.star.statistics import moments, statistics_of
from mmseg_cil.utils.step_context import StepContext

TOLERANCE = 1e-5


def sums_of(case):
    first = case['n_old_fg'] + 1
    classes = range(first, first + case['n_new'])
    return sum(
        moments(case[f'embedding_{k}'], case[f'labels_sampled_{k}'], classes) for k in range(2)
    )


@files('star_proto')
@pytest.mark.parametrize('official', [False, True])
def test_statistics_are_the_official_ones(path, official):
    case = load(path)
    found = statistics_of(sums_of(case), 0.0, case['prev_prototypes'] if official else None)
    for name in ('prototypes', 'norm_mean', 'norm_std'):
        assert deviation(getattr(found, name), case[name]) < TOLERANCE, name
    assert deviation(found.noise, case['noise' if official else 'fixed_noise']) < TOLERANCE


@files('star_proto')
def test_the_plain_statistics_are_those_of_the_fixed_form(path):
    case = load(path)
    embedding = torch.cat([case['embedding_0'], case['embedding_1']]).movedim(1, -1).flatten(0, 2)
    labels = torch.cat([case['labels_sampled_0'], case['labels_sampled_1']]).flatten()
    for place in range(case['n_new']):
        own = embedding[labels == case['n_old_fg'] + 1 + place]
        found = reference.prototype_and_noise(functional.normalize(own, dim=1), own.norm(dim=1))
        names = ('prototypes', 'fixed_noise', 'norm_mean', 'norm_std')
        for value, name in zip(found, names, strict=True):
            assert deviation(value, case[name][place]) < TOLERANCE, name


@pytest.fixture
def replayed():
    """The case, its leaves, and the logits with a background of zero."""
    case = load('star_replay__3-2')
    leaves = {name: case[name].requires_grad_() for name in ('weight', 'bias', 'embedding')}
    return case, leaves


def replay_of_case(case):
    index = torch.arange(len(case['counts'])).repeat_interleave(case['counts'])
    tables = (case[name] for name in ('prototypes', 'noise', 'norm_mean', 'norm_std'))
    return Replay(*tables, index, case['extra_bg_ratio'])


def drawn(case):
    return replay_of_case(case).made_of(
        *(case[name][0, :, :, 0].T for name in ('draw_noise', 'draw_norm'))
    )


def gradients_of(case, loss, leaves):
    for name, gradient in zip(leaves, torch.autograd.grad(loss, leaves.values()), strict=True):
        assert deviation(gradient, case[f'grad_{name}']) < TOLERANCE, name


def test_drawn_embeddings_are_the_official_ones():
    case = load('star_replay__3-2')
    assert deviation(drawn(case), case['fake_features'][0, :, :, 0].T) < TOLERANCE


def test_the_plain_loss_is_the_official_one(replayed):
    case, leaves = replayed
    old, embedding = case['n_old_fg'], case['embedding']

    def new(cells):
        return functional.linear(cells, case['weight'][old:], case['bias'][old:])

    logits = functional.interpolate(
        new(embedding.movedim(1, -1)).movedim(-1, 1), case['labels'].shape[1:], mode='bilinear'
    )
    labels = case['labels'].unsqueeze(1)
    classes = torch.arange(old + 1, old + 1 + case['n_new']).view(1, -1, 1, 1)
    data = functional.binary_cross_entropy_with_logits(
        logits,
        (labels == classes).float(),
        pos_weight=torch.tensor(case['pos_weight']),
        reduction='none',
    ).mean(dim=(0, 2, 3))
    assert deviation(data, case['term_data']) < TOLERANCE
    cells = case['background_cells']
    loss = reference.replayed_cross_entropy(
        data,
        new(drawn(case)),
        new(embedding.movedim(1, -1)[cells]),
        case['extra_bg_ratio'],
        cells.numel(),
    )
    assert deviation(loss, case['loss']) < TOLERANCE
    gradients_of(case, loss, leaves)


def test_terms_and_weights_of_what_is_replayed_are_the_official_ones(replayed):
    case, _ = replayed
    rows, bias, cells = case['weight'], case['bias'], case['background_cells']
    new = slice(case['n_old_fg'], None)
    embeddings = dict(fake=drawn(case), background=case['embedding'].movedim(1, -1)[cells])
    ratios = dict(fake=1.0, background=case['extra_bg_ratio'])
    for name, embedding in embeddings.items():
        weight = ratios[name] * len(embedding) / cells.numel()
        assert weight == pytest.approx(case[f'weight_{name}'])
        logits = embedding @ rows[new].T + bias[new]
        for output, expected in enumerate(case[f'term_{name}']):
            column, nothing = logits[:, output : output + 1], logits[:0, :1]
            pair = (column, nothing) if name == 'fake' else (nothing, column)
            loss = reference.replayed_cross_entropy(
                torch.zeros(1), *pair, case['extra_bg_ratio'], cells.numel()
            )
            assert deviation(loss * (1 + weight) / weight, expected) < TOLERANCE


def test_the_loss_of_training_is_the_official_one(replayed, monkeypatch):
    case, leaves = replayed
    old = case['n_old_fg']
    # Row 0 is the background's.
    weight = torch.cat([torch.zeros_like(case['weight'][:1]), case['weight']])
    bias = torch.cat([torch.zeros(1), case['bias']])
    classifier = nn.Conv2d(6, len(weight), 1)
    for name, value in (('weight', weight[:, :, None, None]), ('bias', bias)):
        del classifier._parameters[name]
        setattr(classifier, name, value)
    cells = case['background_cells']
    monkeypatch.setattr(star_loss, 'cells_of', lambda labels, size: torch.zeros_like(cells).long())
    monkeypatch.setattr(Replay, 'draw', lambda self, seed: drawn(case))
    loss = ReplayedCrossEntropyLoss(pos_weight=case['pos_weight'], void='background')
    loss.set_step(StepContext.of_class_counts([old + 1, case['n_new']]))
    loss.set_replay(replay_of_case(case), classifier)
    teacher = torch.full((len(cells), old + 1, *cells.shape[1:]), -2.0)
    teacher[:, 0] = 0.0
    teacher[:, 1] = torch.where(cells, -1.0, 1.0)
    loss.receive_teacher(NetworkOutput((), teacher, teacher))
    logits = functional.conv2d(case['embedding'], classifier.weight, classifier.bias)
    found = loss.of_pixels(PixelLogits(logits, case['labels']))
    assert deviation(found, case['loss']) < TOLERANCE
    gradients_of(case, found, leaves)


@pytest.mark.parametrize('form', ['plain', 'training'])
def test_the_comparison_with_the_teacher_is_the_official_one(form):
    case = load('star_pkd__a')
    student, region = case['student_embedding'].requires_grad_(), case['region']
    if form == 'plain':
        loss = reference.old_class_features(student, case['teacher_embedding'], region)
    else:
        loss = old_class_features(student, case['teacher_embedding'], region[:, 0])
    assert deviation(loss, case['loss']) < TOLERANCE
    (gradient,) = torch.autograd.grad(loss, student)
    assert deviation(gradient, case['grad_student_embedding']) < TOLERANCE


@pytest.mark.parametrize('form', ['plain', 'training'])
def test_the_contrast_is_the_official_one(form):
    case = load('star_cont__3-2')
    embedding, first = case['embedding'].requires_grad_(), case['n_old_fg'] + 1
    old, count = case['prev_prototypes'], case['n_new']
    if form == 'plain':
        loss = reference.contrast(embedding, case['labels'], first, count, old)
    else:
        loss = contrast(embedding, case['labels'], range(first, first + count), old, True)
    assert deviation(loss, case['loss']) < TOLERANCE
    (gradient,) = torch.autograd.grad(loss, embedding)
    assert deviation(gradient, case['grad_embedding']) < TOLERANCE


@pytest.mark.parametrize(
    ('form', 'expected'), [('fixed', 'prediction'), ('official', 'star_teacher_label')]
)
def test_the_teachers_classes_are_those_of_either_threshold(form, expected):
    case = load('fg_predict__c5')
    logits = torch.cat([torch.zeros_like(case['fg_logits'][:, :1]), case['fg_logits']], dim=1)
    assert torch.equal(teacher_classes(logits, form), case[expected])
    # A background that is not zero counts, too.
    assert torch.equal(teacher_classes(logits + 3.0, 'fixed'), case['prediction'])
