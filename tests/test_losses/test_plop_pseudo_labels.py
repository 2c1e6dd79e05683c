"""Pseudo-labels of PLOP: the official numbers, and what the official code gets wrong."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mmseg_cil.errors import InputError
from mmseg_cil.losses.plop_pseudo_labels import (
    pseudo_label_cross_entropy,
    pseudo_labels,
    scaled_entropy,
    thresholds_from_histograms,
    uncertainty,
    uncertainty_histograms,
)

GOLDEN = Path(__file__).parents[1] / 'golden'


def files(kind):
    paths = sorted(GOLDEN.glob(f'{kind}__*.npz'))
    assert len(paths) >= 2
    return pytest.mark.parametrize('path', paths, ids=[path.stem for path in paths])


def load(path):
    return {key: torch.from_numpy(value) if value.ndim else value.item()
            for key, value in np.load(path).items()}


def deviation(actual, expected):
    actual, expected = actual.detach().double(), torch.as_tensor(expected, dtype=torch.float64)
    assert actual.shape == expected.shape
    return float((actual - expected).abs().max() / expected.abs().max())


@files('plop_entropy')
def test_the_entropy_is_the_official_one(path):
    case = load(path)
    assert deviation(scaled_entropy(case['teacher_logits']), case['entropy']) < 1e-5


@files('plop_median')
def test_official_thresholds_are_met(path):
    case = load(path)
    assert case['mode'] == 0
    total = sum(uncertainty_histograms(logits, labels, case['n_current'])
                for logits, labels in zip(case['teacher_logits'], case['labels'], strict=True))
    thresholds = thresholds_from_histograms(total, case['base_threshold'], 'official')
    assert deviation(thresholds, case['thresholds']) < 1e-6


@files('plop_pseudo')
def test_labels_factor_and_loss_are_the_official_ones(path):
    case = load(path)
    entropy = uncertainty(case['teacher_logits'], case['n_current'])
    assert deviation(entropy, case['normalized_entropy']) < 1e-5
    labels, factor = pseudo_labels(
        case['labels'], case['teacher_logits'], case['thresholds'], case['n_current'],
        factor_without_background=0.0, min_factor=case['min_factor'])
    assert torch.equal(labels, case['pseudo_labels'])
    assert deviation(factor, case['factor']) < 1e-6
    logits = case['student_logits'].requires_grad_()
    loss = pseudo_label_cross_entropy(logits, labels, factor)
    loss.mean().backward()
    assert deviation(loss, case['ce_none'] * case['factor']) < 1e-5
    assert deviation(loss.mean(), case['loss']) < 1e-5
    assert deviation(logits.grad, case['grad_student_logits']) < 1e-5


def test_the_true_median_is_the_median_of_the_pixels():
    torch.manual_seed(0)
    logits = 3 * torch.randn(8, 3, 40, 40)
    labels = torch.randint(0, 2, (8, 40, 40))
    thresholds = thresholds_from_histograms(uncertainty_histograms(logits, labels, 5))
    values, classes = uncertainty(logits, 5), logits.argmax(dim=1)
    for c in range(3):
        median = values[(labels == 0) & (classes == c)].median()
        assert thresholds[c] == pytest.approx(median.item(), abs=0.005)
    assert thresholds[3:].tolist() == pytest.approx([0.001, 0.001])


def test_the_true_median_by_hand():
    histogram = torch.tensor([[0, 2, 0, 2], [4, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 1]])
    thresholds = thresholds_from_histograms(histogram, base=0.2)
    # Half of the pixels: at the end of bin 1; in the middle of bin 0 (below base).
    assert thresholds.tolist() == pytest.approx([0.5, 0.2, 0.2, 0.25])
    with pytest.raises(InputError, match='median'):
        thresholds_from_histograms(histogram, median='mean')


def test_an_image_without_background_keeps_labels_and_weight():
    labels = torch.tensor([[[3, 3], [255, 4]]])
    logits = torch.randn(1, 3, 2, 2)
    result, factor = pseudo_labels(labels, logits, torch.ones(5), 5)
    assert torch.equal(result, labels) and factor.item() == 1.0
    loss = pseudo_label_cross_entropy(torch.randn(1, 5, 2, 2), result, factor)
    assert torch.isfinite(loss).all() and loss[0, 1, 0] == 0


def test_nothing_sure_leaves_no_loss_from_the_background():
    labels = torch.tensor([[[0, 3]]])
    result, factor = pseudo_labels(labels, torch.zeros(1, 3, 1, 2), torch.zeros(4), 4)
    assert result.tolist() == [[[255, 3]]] and factor.item() == 0.0
    assert pseudo_labels(labels, torch.zeros(1, 3, 1, 2), torch.zeros(4), 4,
                         min_factor=0.5)[1].item() == 0.5


def test_certainty_and_a_single_class_have_no_uncertainty():
    sure = torch.tensor([[0.0, -1e9]]).view(1, 2, 1, 1)
    assert scaled_entropy(sure).item() == 0.0
    assert scaled_entropy(torch.tensor([[0.0, -float('inf')]]).view(1, 2, 1, 1)).item() == 0.0
    assert scaled_entropy(torch.randn(1, 1, 2, 2)).abs().max() == 0.0
