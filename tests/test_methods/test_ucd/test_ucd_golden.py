"""Equality with numbers from the official UCD code."""

import pytest
import torch
from golden_cases import deviation, load
from torch.nn.functional import normalize

from mmseg_cil.contracts import Batch, NetworkOutput
from mmseg_cil.losses.pixel_logits import PixelLogits
from mmseg_cil.methods.ucd.cells import cell_labels, cells_of
from mmseg_cil.methods.ucd.distiller import PixelContrastDistiller
from mmseg_cil.methods.ucd.pairs import LEFT_OUT, Cells, Pairing, contrast_sum
from mmseg_cil.methods.ucd.reference import attended, contrast, official_labels, pair_weights
from mmseg_cil.utils.step_context import StepContext

TOLERANCE = 1e-5
STEP = StepContext.of_class_counts([16, 5])


@pytest.fixture
def case():
    return load('ucd_contrast__15-5')


def batch(case, student):
    teacher = NetworkOutput((), case['teacher_embedding'], case['teacher_logits'])
    logits = torch.zeros(len(student), 21, *student.shape[2:])
    record = NetworkOutput((), student, logits)
    return Batch(record, PixelLogits(logits, case['labels']), teacher)


def cells(case):
    """Anchors and all cells of the official form, those that are left out included."""
    given = batch(case, case['student_embedding'])
    labels = cell_labels(given.pixels, given.teacher.logits, STEP, 'official')
    anchors, others = cells_of(given.student, given.teacher, labels)
    return anchors, Cells(*(torch.cat(parts) for parts in zip(anchors, others, strict=True)))


def kept(cells):
    return Cells(*(part[cells.labels != LEFT_OUT] for part in cells))


def test_attention_is_the_official_one():
    case = load('ucd_attention__a')
    x = case['x'].requires_grad_()
    found = attended(x)
    (gradient,) = torch.autograd.grad((found * case['weight']).sum(), x)
    assert deviation(found, case['attended']) < TOLERANCE
    assert deviation(gradient, case['grad_x']) < TOLERANCE


def test_attention_changes_no_vector_of_length_1_and_no_gradient_of_it():
    case = load('ucd_attention__a')
    gradients = []
    for form in (attended, lambda x: x):
        x = case['x'].double().requires_grad_()
        unit = normalize(form(x), dim=1)
        gradients.append((unit, torch.autograd.grad((unit * case['weight']).sum(), x)[0]))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_labels_of_cells_are_the_official_ones(case):
    size = case['student_embedding'].shape[2:]
    small = official_labels(case['labels'], size)
    assert torch.equal(small, case['labels_small'].view_as(small))
    anchors, everything = cells(case)
    assert torch.equal(kept(anchors).labels, case['anchor_labels'])
    assert torch.equal(kept(everything).labels, case['contrast_labels'])


def test_weights_of_pairs_are_the_official_ones(case):
    anchors, everything = map(kept, cells(case))
    found = pair_weights(
        anchors.probabilities, everything.probabilities, anchors.sure, everything.sure
    )
    assert deviation(found, case['pair_weight']) < TOLERANCE
    assert (found == 1).any() and (found < 1).any()


@pytest.mark.parametrize('form', ['plain', 'chunks'])
@pytest.mark.parametrize('weighted', [True, False])
def test_the_loss_is_the_official_one(case, form, weighted):
    anchors, everything = cells(case)
    if not weighted:
        anchors, everything = (
            side._replace(sure=torch.ones_like(side.sure)) for side in (anchors, everything)
        )
    if form == 'chunks':
        pairing = Pairing(case['temperature'], 'official', most_pairs=700)
        total, number = contrast_sum(anchors, everything, pairing)
        loss = total / number
    else:
        anchors, everything = kept(anchors), kept(everything)
        weights = pair_weights(
            anchors.probabilities, everything.probabilities, anchors.sure, everything.sure
        )
        loss = contrast(
            anchors.vectors,
            everything.vectors,
            anchors.labels,
            everything.labels,
            weights,
            case['temperature'],
            'official',
        ).mean()
    expected = case['loss' if weighted else 'loss_without_weight']
    assert deviation(loss, expected) < TOLERANCE


@pytest.mark.parametrize('most_pairs', [None, 1, 700])
def test_the_distiller_has_the_official_loss_and_gradient(case, most_pairs):
    student = case['student_embedding'].requires_grad_()
    distiller = PixelContrastDistiller(
        case['temperature'], 1.0, 'official', 'official', False, most_pairs
    )
    distiller.set_step(STEP)
    losses = distiller(batch(case, student))
    assert set(losses) == {'loss_ucd'}
    losses['loss_ucd'].backward()
    assert deviation(losses['loss_ucd'], case['loss']) < TOLERANCE
    assert deviation(student.grad, case['grad_student_embedding']) < TOLERANCE
