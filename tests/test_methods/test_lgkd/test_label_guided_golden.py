"""Equality with numbers from the official LGKD code, and from MBS, whose distillation it equals."""

import pytest
import torch
from golden_cases import deviation, files, load

from mmseg_cil.contracts import Batch, NetworkOutput
from mmseg_cil.losses.pixel_logits import PixelLogits
from mmseg_cil.methods.lgkd.distiller import LabelGuidedDistiller
from mmseg_cil.methods.lgkd.label_guided import shared_label_guided_distillation
from mmseg_cil.methods.lgkd.reference import label_guided_distillation

TOLERANCE = 1e-5


def record(logits):
    return NetworkOutput((), logits, logits)


def enlarged(labels, factor):
    """Labels of pixels in which every cell's first pixel has its label, and others have others."""
    large = labels.roll(1, 0).repeat_interleave(factor, 1).repeat_interleave(factor, 2)
    large[:, ::factor, ::factor] = labels
    return large


@files('lgkd')
def test_the_plain_form_is_the_official_one(path):
    case = load(path)
    student, labels = case['student_logits'].requires_grad_(), case['labels_small']
    cells = label_guided_distillation(
        student, case['teacher_logits'], labels, case['prev_kd'], case['novel_kd']
    )
    assert (cells[labels == 255] == 0).all()
    loss = cells.sum() / (labels != 255).sum()
    loss.backward()
    assert deviation(loss, case['loss']) < TOLERANCE
    assert deviation(student.grad, case['grad_student_logits']) < TOLERANCE


@files('lgkd')
@pytest.mark.parametrize('factor', [1, 16])
def test_the_distiller_is_the_official_loss_on_labels_of_any_size(path, factor):
    case = load(path)
    student = case['student_logits'].requires_grad_()
    pixels = PixelLogits(student, enlarged(case['labels_small'], factor))
    distiller = LabelGuidedDistiller(case['prev_kd'], case['novel_kd'])
    losses = distiller(Batch(record(student), pixels, record(case['teacher_logits'])))
    assert set(losses) == {'loss_lgkd'}
    losses['loss_lgkd'].backward()
    assert deviation(losses['loss_lgkd'], case['loss']) < TOLERANCE
    assert deviation(student.grad, case['grad_student_logits']) < TOLERANCE


@pytest.mark.parametrize('resolution', ['low', 'full'])
def test_with_equal_weights_and_without_void_it_is_the_distillation_of_mbs_times_its_classes(
    resolution,
):
    # MBS averages over classes, too. In the stored numbers, void counts as background there.
    case = load('mbs_od__3-2')
    student, count = case['student_logits'].requires_grad_(), case['student_logits'].shape[1]
    labels = case['labels'].masked_fill(case['labels'] == 255, 0)
    pixels = PixelLogits(student, labels, cuts=(1,))
    batch = Batch(record(student), pixels, record(case['teacher_logits']))
    loss = LabelGuidedDistiller(resolution=resolution)(batch)['loss_lgkd'] / count
    loss.backward()
    assert deviation(loss, case['loss']) < TOLERANCE
    assert deviation(student.grad, case['grad_student_logits']) < TOLERANCE


def test_without_a_new_label_and_with_new_classes_ruled_out_it_is_the_ordinary_distillation():
    case = load('kd__a1_c6')
    teacher, old = case['teacher_logits'], case['n_old']
    student = case['student_logits'].clone()
    student[:, old:] = -torch.inf
    labels = torch.zeros(len(student), *student.shape[2:], dtype=torch.long)
    pixels = PixelLogits(student, labels, cuts=(1,))
    loss = shared_label_guided_distillation(pixels, teacher, old_weight=5.0)
    # The official ordinary distillation is a mean over the O old classes.
    assert deviation(loss / (5.0 * old), case['loss']) < TOLERANCE
    plain = label_guided_distillation(student, teacher, labels, old_weight=5.0)
    assert deviation(plain / (5.0 * old), case['loss_none']) < TOLERANCE
