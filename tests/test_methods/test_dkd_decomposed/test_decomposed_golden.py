"""Equality of decomposed distillation with numbers from the official code."""

import pytest
import torch
from golden_cases import deviation, load

from mmseg_cil.losses.foreground import sigmoid_agreement
from mmseg_cil.losses.pixel_logits import PixelLogits
from mmseg_cil.methods.dkd_decomposed import AuxiliaryOutputLoss, ForegroundCrossEntropyLoss
from mmseg_cil.methods.dkd_decomposed.distiller import decomposed_logits
from mmseg_cil.methods.dkd_decomposed.reference import (
    auxiliary_cross_entropy,
    distillation,
    foreground_cross_entropy,
    predicted,
)
from mmseg_cil.methods.dkd_decomposed.reference import decomposed_logits as plain_parts
from mmseg_cil.utils.step_context import StepContext

TOLERANCE = 1e-5
CASE = 'dkd_baek__15-5'


def gradients_of(case, loss, leaves):
    for name, gradient in zip(leaves, torch.autograd.grad(loss, leaves.values()), strict=True):
        assert deviation(gradient, case[f'grad_{name}']) < TOLERANCE, name


def test_every_term_of_the_plain_form_is_the_official_one():
    case = load(CASE)
    names = ('student_logits', 'student_pos', 'student_neg')
    leaves = {name: case[name].requires_grad_() for name in names}
    old, student = case['n_old_fg'], case['student_logits']
    terms = dict(
        mbce=foreground_cross_entropy(
            student, case['labels'], old + 1, case['pos_weight'], void='background'
        ),
        kd=distillation(student[:, 1 : old + 1], case['teacher_logits'][:, 1:]),
        ac=auxiliary_cross_entropy(student[:, 0])[None],
        dkd_pos=distillation(case['student_pos'][:, :old], case['teacher_pos']),
        dkd_neg=distillation(case['student_neg'][:, :old], case['teacher_neg']),
    )
    for name, term in terms.items():
        assert deviation(term, case[f'term_{name}']) < TOLERANCE, name
    loss = sum(case[f'w_{name}'] * term.sum() for name, term in terms.items())
    assert deviation(loss, case['loss']) < TOLERANCE
    gradients_of(case, loss, leaves)


def test_the_form_of_training_is_the_official_loss():
    case = load(CASE)
    names = ('student_logits', 'student_pos', 'student_neg')
    leaves = {name: case[name].requires_grad_() for name in names}
    old, student = case['n_old_fg'], case['student_logits']
    pixels = PixelLogits(student, case['labels'])
    loss = 0.0
    for part in (
        ForegroundCrossEntropyLoss(case['w_mbce'], case['pos_weight'], void='background'),
        AuxiliaryOutputLoss(case['w_ac'], void='background'),
    ):
        part.set_step(StepContext.of_class_counts([old + 1, case['n_new']]))
        loss = loss + part.of_pixels(pixels)
    for weight, own, target in (
        ('w_kd', student[:, 1 : old + 1], case['teacher_logits'][:, 1:]),
        ('w_dkd_pos', case['student_pos'][:, :old], case['teacher_pos']),
        ('w_dkd_neg', case['student_neg'][:, :old], case['teacher_neg']),
    ):
        loss = loss + case[weight] * sigmoid_agreement(own, target)
    assert deviation(loss, case['loss']) < TOLERANCE
    gradients_of(case, loss, leaves)


@pytest.mark.parametrize('form', [decomposed_logits, plain_parts])
def test_positive_and_negative_parts_are_the_official_ones(form):
    case = load('dkd_split__a')
    # Row 0, the auxiliary one, is not decomposed.
    rows = torch.cat([case['weight_1'], case['weight_2']])
    for part, name in zip(form(case['features'], rows), ('pos', 'neg'), strict=True):
        assert deviation(part, case[name]) < TOLERANCE


def test_a_zero_background_predicts_what_the_threshold_predicts():
    case = load('fg_predict__c5')
    logits = case['fg_logits']
    with_background = torch.cat([torch.zeros_like(logits[:, :1]), logits], dim=1)
    assert torch.equal(with_background.argmax(dim=1), case['prediction'])
    assert torch.equal(predicted(logits), case['prediction'])
    # A sigmoid of exactly 0.5 is background in both.
    assert not torch.zeros(1, 4, 2, 2).argmax(dim=1).any() and not predicted(logits * 0).any()


@pytest.mark.parametrize('form', [decomposed_logits, plain_parts])
def test_the_parts_and_the_bias_make_the_logits(form):
    case = load('dkd_split__a')
    rows, bias = torch.cat([case['weight_1'], case['weight_2']]), torch.linspace(-1, 1, 7)
    logits = torch.nn.functional.conv2d(case['features'], rows[:, :, None, None], bias)
    assert deviation(sum(form(case['features'], rows)) + bias.view(-1, 1, 1), logits) < TOLERANCE
