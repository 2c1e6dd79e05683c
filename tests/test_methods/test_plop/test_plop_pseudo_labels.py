"""Pseudo-labels of PLOP: the official numbers, and what the official code gets wrong."""

import pytest
import torch
from golden_cases import deviation, files, load

from mmseg_cil.errors import InputError
from mmseg_cil.losses.pixel_statistics import Grid
from mmseg_cil.methods.plop.pseudo_labels import (
    official_scale,
    predicted_with_uncertainty,
    pseudo_labels,
    thresholds_from_histograms,
    uncertainty_histograms,
)
from mmseg_cil.methods.plop.reference import pseudo_label_cross_entropy, uncertainty


@files('plop_entropy')
def test_the_entropy_is_the_official_one(path):
    """But for their mean over the classes, which is a sum here."""
    case = load(path)
    logits, num_old = case['teacher_logits'], case['teacher_logits'].shape[1]
    assert deviation(logits.softmax(dim=1), case['probabilities']) < 1e-6
    assert deviation(uncertainty(logits) / num_old, case['entropy']) < 1e-5
    _, shared = predicted_with_uncertainty(logits, Grid(logits.shape[2:]))
    assert deviation(shared / num_old, case['entropy']) < 1e-5


@files('plop_median')
def test_official_thresholds_are_met(path):
    case = load(path)
    assert case['mode'] == 0
    num_old, current = case['teacher_logits'].shape[2], case['n_current']
    assert official_scale(num_old, current) == pytest.approx(num_old * case['max_value'])
    total = sum(
        uncertainty_histograms(logits, labels, current, 'official')
        for logits, labels in zip(case['teacher_logits'], case['labels'], strict=True)
    )
    thresholds = thresholds_from_histograms(total, num_old, case['base_threshold'], 'official')
    assert deviation(thresholds / official_scale(num_old, current), case['thresholds']) < 1e-6


@files('plop_pseudo')
def test_labels_factor_and_loss_are_the_official_ones(path):
    case = load(path)
    teacher, scale = case['teacher_logits'], official_scale(case['n_old'], case['n_current'])
    predicted, unsure = predicted_with_uncertainty(teacher, Grid(teacher.shape[2:]))
    assert torch.equal(predicted, case['teacher_argmax'])
    assert deviation(unsure / scale, case['normalized_entropy']) < 1e-5
    assert scale == pytest.approx(case['n_old'] * case['max_entropy'])
    thresholds = case['thresholds'] * scale
    assert torch.equal(unsure < thresholds[predicted], case['valid'])
    labels, factor = pseudo_labels(
        case['labels'],
        teacher,
        thresholds,
        factor_without_background=0.0,
        min_factor=case['min_factor'],
    )
    assert torch.equal(labels, case['pseudo_labels'])
    assert deviation(factor, case['factor']) < 1e-6
    logits = case['student_logits'].requires_grad_()
    loss = pseudo_label_cross_entropy(logits, labels, factor)
    loss.mean().backward()
    assert deviation(loss, case['ce_none'] * case['factor']) < 1e-5
    assert deviation(loss.mean(), case['loss']) < 1e-5
    assert deviation(logits.grad, case['grad_student_logits']) < 1e-5


@pytest.mark.parametrize(('num_old', 'num_classes'), [(3, 5), (16, 17), (101, 151)])
@pytest.mark.parametrize('sureness', [1.0, 3.0])
def test_the_true_median_is_the_median_of_the_pixels(num_old, num_classes, sureness):
    """However many classes and however sure: half of a class's pixels are accepted."""
    torch.manual_seed(0)
    logits = sureness * torch.randn(8, num_old, 40, 40)
    # Three classes get most pixels, so that their shares are fine enough.
    logits[:, :3] += sureness * 4
    labels = torch.randint(0, 2, (8, 40, 40))
    thresholds = thresholds_from_histograms(
        uncertainty_histograms(logits, labels, num_classes), num_old
    )
    values, classes = uncertainty(logits), logits.argmax(dim=1)
    for c in range(3):
        own = values[(labels == 0) & (classes == c)]
        assert len(own) > 500 and own.median() > 0.001
        assert float((own < thresholds[c]).double().mean()) == pytest.approx(0.5, abs=0.01)
    assert thresholds[num_old:].tolist() == pytest.approx([0.001] * (num_classes - num_old))


def test_official_thresholds_reject_nothing_where_classes_are_many():
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 101, 20, 20), torch.zeros(2, 20, 20, dtype=torch.long)
    accepted = {}
    for median in ('true', 'official'):
        thresholds = thresholds_from_histograms(
            uncertainty_histograms(logits, labels, 151, median), 101, median=median
        )
        completed, factor = pseudo_labels(labels, logits, thresholds)
        accepted[median] = float((completed != 255).double().mean())
        assert factor.mean().item() == pytest.approx(accepted[median], abs=1e-5)
    assert accepted['official'] == 1.0 and accepted['true'] < 0.6


def test_the_true_median_by_hand():
    histogram = torch.tensor([[0, 2, 0, 2], [4, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 1]])
    thresholds = thresholds_from_histograms(histogram, 2, base=0.02)
    # Half of the pixels, of the fourth root: at the end of bin 1; in the middle of bin 0, at its
    # end (both below base).
    assert thresholds.tolist() == pytest.approx([0.5**4, 0.02, 0.02, 0.02])
    assert thresholds_from_histograms(histogram, 2, base=0.0).tolist() == pytest.approx(
        [0.5**4, 0.125**4, 0.0, 0.25**4]
    )
    with pytest.raises(InputError, match='median'):
        thresholds_from_histograms(histogram, 2, median='mean')


def test_an_image_without_background_keeps_labels_and_weight():
    labels = torch.tensor([[[3, 3], [255, 4]]])
    logits = torch.randn(1, 3, 2, 2)
    result, factor = pseudo_labels(labels, logits, torch.ones(5))
    assert torch.equal(result, labels) and factor.item() == 1.0
    loss = pseudo_label_cross_entropy(torch.randn(1, 5, 2, 2), result, factor)
    assert torch.isfinite(loss).all() and loss[0, 1, 0] == 0


def test_nothing_sure_leaves_no_loss_from_the_background():
    labels = torch.tensor([[[0, 3]]])
    result, factor = pseudo_labels(labels, torch.zeros(1, 3, 1, 2), torch.zeros(4))
    assert result.tolist() == [[[255, 3]]] and factor.item() == 0.0
    assert (
        pseudo_labels(labels, torch.zeros(1, 3, 1, 2), torch.zeros(4), min_factor=0.5)[1].item()
        == 0.5
    )


def test_certainty_and_a_single_class_have_no_uncertainty():
    sure = torch.tensor([[0.0, -1e9]]).view(1, 2, 1, 1)
    assert uncertainty(sure).item() == 0.0
    assert uncertainty(torch.tensor([[0.0, -float('inf')]]).view(1, 2, 1, 1)).item() == 0.0
    assert uncertainty(torch.randn(1, 1, 2, 2)).abs().max() == 0.0
