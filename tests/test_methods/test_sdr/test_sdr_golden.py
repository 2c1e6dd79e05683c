"""Equality with numbers from the official SDR code, and with the right form of its formulas."""

import pytest
import torch
from golden_cases import deviation, files, load

from mmseg_cil.losses.cells import at_cells
from mmseg_cil.losses.pixel_logits import PixelLogits
from mmseg_cil.methods.sdr import reference
from mmseg_cil.methods.sdr.class_sums import NO_CLASS, ClassCells
from mmseg_cil.methods.sdr.distiller import Means, gathered, old_classes
from mmseg_cil.methods.sdr.prototypes import Prototypes
from mmseg_cil.methods.sdr.terms import attraction, class_means, matching, separation, sparsity
from mmseg_cil.utils.step_context import StepContext

TOLERANCE = 1e-5
FORMS = pytest.mark.parametrize('official', [True, False], ids=['official', 'fixed'])


def means_of(features, labels, classes, misplaced):
    return Means.of(ClassCells(features, labels, classes, misplaced))


def check(loss, features, case, name, gradient):
    assert deviation(loss, case[name]) < TOLERANCE
    (found,) = torch.autograd.grad(loss, features)
    assert deviation(found, case[gradient]) < TOLERANCE


@FORMS
@files('sdr_proto')
def test_prototypes_are_cumulative_means(path, official):
    case = load(path)
    labels, classes = case['labels_small'], len(case['prototypes'])
    cut = 'lines' if official else None
    expected = case['prototypes' if official else 'fixed_prototypes']
    means, counts = reference.running_means(
        case['features'], labels, case['prototypes_before'], case['counts_before'], cut
    )
    assert deviation(means, expected) < TOLERANCE and torch.equal(counts, case['counts'])
    found = Prototypes(case['prototypes_before'].clone(), case['counts_before'].clone())
    batch = means_of(case['features'], labels, classes, cut)
    found.add(batch.sums, batch.counts, gathered(batch, torch.arange(classes) > 0, official))
    assert deviation(found.means, expected) < TOLERANCE
    assert torch.equal(found.counts, case['counts'])


@FORMS
@files('sdr_cluster')
def test_attraction_and_separation(path, official):
    case = load(path)
    features, prototypes = case['features'].requires_grad_(), case['prototypes']
    labels, cut = at_cells(case['labels'], features.shape[2:]), 'lines' if official else None
    prefix = '' if official else 'fixed_'
    batch = means_of(features, labels, len(prototypes), cut)
    assert torch.equal(batch.present.nonzero().flatten(), case['present'])
    own = class_means(batch.sums, batch.counts)
    for pulled, apart in (
        (
            attraction(batch.cells, batch.counts, prototypes, batch.present, official),
            separation(own, batch.present),
        ),
        (
            reference.attraction(features, labels, prototypes, cut),
            reference.separation(features, labels, cut),
        ),
    ):
        check(pulled, features, case, f'{prefix}attraction', f'{prefix}grad_attraction')
        check(apart, features, case, f'{prefix}separation', f'{prefix}grad_separation')


@FORMS
@files('sdr_match')
def test_matching(path, official):
    case = load(path)
    features, prototypes = case['features'].requires_grad_(), case['prototypes']
    cut = 'columns' if official else None
    prefix = '' if official else 'fixed_'
    pixels = PixelLogits(features.new_zeros(len(features), 6, 6, 6), case['labels'])
    step = StepContext.of_class_counts([4, 2])
    small = at_cells(case['labels'], features.shape[2:])
    # Teacher logits of the size of the labels, as the official code has them.
    predicted = old_classes(small, pixels, case['teacher_logits'], step)
    assert torch.equal(predicted.masked_fill(predicted == NO_CLASS, 0), case['pseudo_small'])
    batch = means_of(features, predicted, 6, cut)
    loss = matching(class_means(batch.sums, batch.counts), prototypes, batch.present)
    plain = reference.matching(features, case['pseudo_small'], prototypes, cut)
    for found in (loss, plain):
        check(found, features, case, f'{prefix}loss', f'{prefix}grad_features')


@FORMS
def test_sparsity(official):
    case = load('sdr_sparse__a')
    features = case['features'].requires_grad_()
    labels = at_cells(case['labels'], features.shape[2:])
    for found in (sparsity(features, labels, 6, official), reference.sparsity(features, labels)):
        check(found, features, case, 'loss', 'grad_features')
