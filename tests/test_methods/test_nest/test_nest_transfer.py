"""NeST's formulas against the official numbers, the plain forms and their limits."""

import pytest
import torch
from golden_cases import deviation, load

from mmseg_cil.methods.nest.classifier import PreTunedClassifier
from mmseg_cil.methods.nest.reference import importance, new_row, scaled
from mmseg_cil.methods.nest.transfer import (
    finished_rows,
    importance_sums,
    mean_importance,
    mixing_of,
    new_rows,
)


def golden():
    """The stored case: rows of the old classes, what was pre-tuned, and the official result."""
    case = load('nest_init__3-2')
    old = case['weight_0'].flatten(1), case['bias_0']
    return case, *old


def test_the_mixing_is_the_official_one():
    case = load('nest_init__3-2')
    assert deviation(mixing_of(case['importance']), case['mixing']) < 1e-5
    assert deviation(mixing_of(case['importance']).sum(1), torch.ones(2)) < 1e-6


def test_rows_and_their_scaling_are_the_official_ones():
    case, weight, bias = golden()
    background = case['background_mixing'] * case['background_scale'] * weight[:1]
    rows = new_rows(case['mixing'], case['importance'], weight)
    found = finished_rows(weight, bias, background[0], rows, case['new_bias'], 'sum')
    after = (
        torch.cat([case[f'{key}_after_0'].flatten(1 if key == 'weight' else 0),
                   case[f'{key}_after_1'].flatten(1 if key == 'weight' else 0)])
        for key in ('weight', 'bias')
    )  # fmt: skip
    for value, expected in zip(found, after, strict=True):
        assert deviation(value, expected) < 1e-5
    # The plain form gives the same.
    plain = [
        new_row(*pair, weight) for pair in zip(case['mixing'], case['importance'], strict=True)
    ]
    (first,) = scaled([background[0]], to=[weight[0]])
    old = [first, *weight[1:]]
    expected = torch.stack([*old, *scaled(plain, to=old)])
    assert deviation(found[0], expected) < 1e-5
    assert torch.equal(found[1][:4], bias)


def test_the_classifier_computes_the_official_rows():
    case, weight, bias = golden()
    conv = torch.nn.Conv2d(6, 6, 1)
    with torch.no_grad():
        conv.weight[:4, :, 0, 0], conv.bias[:4] = weight, bias
    classifier = PreTunedClassifier(conv, num_old=4)
    with torch.no_grad():
        classifier.importance.copy_(case['importance'])
        classifier.mixing.copy_(case['mixing'])
        classifier.new_bias.copy_(case['new_bias'])
        classifier.background_scale.copy_(case['background_scale'][0])
        classifier.background_mixing.copy_(case['background_mixing'][0])
    embedding = torch.randn(2, 6, 3, 3)
    logits = classifier(embedding)
    rows = torch.cat([
        classifier.background_row()[None], weight[1:],
        new_rows(case['mixing'], case['importance'], weight),
    ])  # fmt: skip
    expected = torch.einsum('cd,ndhw->nchw', rows, embedding)
    expected += torch.cat([bias, case['new_bias']])[:, None, None]
    assert deviation(logits, expected.detach()) < 1e-5
    plain = classifier.finish('sum')
    assert plain is conv
    expected = torch.cat([case['weight_after_0'], case['weight_after_1']])
    assert deviation(plain.weight, expected) < 1e-5
    assert deviation(plain.bias, torch.cat([case['bias_after_0'], case['bias_after_1']])) < 1e-5


def test_biases_are_scaled_each_or_as_a_whole():
    weight, rows = torch.randn(9, 4), torch.randn(1, 4)
    bias, new_bias = torch.full((9,), 0.3), torch.tensor([-2.0])
    each, whole = (
        finished_rows(weight, bias, weight[0], rows, new_bias, scale)[1][9:]
        for scale in ('each', 'sum')
    )
    # One new class: a bias as large as an old one, or as all nine together.
    assert each.item() == pytest.approx(-0.3) and whole.item() == pytest.approx(-0.9)


def test_scaling_never_divides_by_zero():
    weight, bias = torch.zeros(3, 4), torch.zeros(3)
    found = finished_rows(weight, bias, weight[0], torch.zeros(2, 4), torch.zeros(2))
    assert all(torch.equal(value, torch.zeros_like(value)) for value in found)
    weight[1] = 1.0
    found, none = finished_rows(weight, None, weight[0], torch.zeros(2, 4), None)
    assert none is None and torch.isfinite(found).all() and torch.equal(found[:3], weight)


def cells(seed=0):
    generator = torch.Generator().manual_seed(seed)
    embedding = torch.randn(2, 5, 4, 4, generator=generator)
    probabilities = torch.randn(2, 3, 4, 4, generator=generator).softmax(1)
    labels = torch.randint(0, 5, (2, 4, 4), generator=generator)
    labels[0, 0] = 255
    weight = torch.randn(3, 5, generator=generator)
    weight[1, 2] = 0.0
    return embedding, probabilities, labels, weight


def test_the_fast_form_is_the_plain_one():
    embedding, probabilities, labels, weight = cells()
    sums, counts = importance_sums(embedding, probabilities, labels, weight, num_new=2)
    assert counts.tolist() == [(labels == 3).sum(), (labels == 4).sum()]
    found = mean_importance(sums, counts)
    flat = [values.movedim(1, -1).flatten(0, 2) for values in (embedding, probabilities)]
    for place in range(2):
        expected = importance(*flat, labels.flatten(), weight, 3 + place)
        assert deviation(found[place], expected) < 1e-5
    # A weight of 0 helps nobody, and no importance is above that of a class that is certain.
    assert not found[:, 1, 2].any() and found.max() <= 1
    # The split into batches does not matter.
    parts = [
        importance_sums(e[None], p[None], y[None], weight, 2)
        for e, p, y in zip(embedding, probabilities, labels, strict=True)
    ]
    assert deviation(parts[0][0] + parts[1][0], sums) < 1e-12


def test_a_channel_that_helps_wherever_the_class_is_gets_the_whole_probability():
    embedding, probabilities, labels, weight = cells()
    weight = weight.abs() + 0.1
    sums, counts = importance_sums(embedding.abs(), probabilities, labels, weight, num_new=2)
    shares = probabilities.movedim(1, -1)[labels == 4].mean(0)
    expected = shares[:, None].expand(-1, 5)
    assert deviation(mean_importance(sums, counts)[1], expected) < 1e-5


def test_a_class_without_a_cell_begins_as_the_background():
    embedding, probabilities, labels, weight = cells()
    labels[labels == 4] = 255
    found = mean_importance(*importance_sums(embedding, probabilities, labels, weight, 2))
    rows = new_rows(mixing_of(found), found, weight)
    # The mixing keeps, of 5 channels, e^5 / (e^5 + 2) for the background.
    share = torch.tensor([5.0, 0.0, 0.0]).softmax(0)[0]
    assert deviation(rows[1], share * weight[0]) < 1e-6
    everything_void = torch.full_like(labels, 255)
    sums, counts = importance_sums(embedding, probabilities, everything_void, weight, 2)
    assert not sums.any() and torch.isfinite(mean_importance(sums, counts)).all()
