"""Equality with numbers from the official MiB code."""

import pytest
from golden_cases import deviation, files, load

from mmseg_cil.methods.mib.reference import unbiased_cross_entropy, unbiased_knowledge_distillation
from mmseg_cil.methods.mib.unbiased_cross_entropy import UnbiasedCrossEntropyLoss
from mmseg_cil.methods.mib.unbiased_distillation import UnbiasedKnowledgeDistillationLoss
from mmseg_cil.utils.step_context import StepContext

TOLERANCE = 1e-5


@files('unce')
def test_unbiased_cross_entropy_is_the_official_one(path):
    case = load(path)
    logits = case['student_logits'].requires_grad_()
    loss = unbiased_cross_entropy(logits, case['labels'], case['n_old'])
    assert deviation(loss, case['loss_none']) < TOLERANCE
    assert (loss[case['labels'] == 255] == 0).all()


@files('unce')
@pytest.mark.parametrize('avg_non_ignore', [True, False])
def test_both_means_of_the_cross_entropy_and_their_gradients(path, avg_non_ignore):
    case = load(path)
    suffix = '' if avg_non_ignore else '_train'
    module = UnbiasedCrossEntropyLoss(loss_weight=2.0, avg_non_ignore=avg_non_ignore)
    num_new = case['student_logits'].shape[1] - case['n_old']
    module.set_step(StepContext.of_class_counts([case['n_old'], num_new]))
    logits = case['student_logits'].requires_grad_()
    loss = module(logits, case['labels'])
    loss.backward()
    assert deviation(loss / 2, case[f'loss{suffix}']) < TOLERANCE
    assert deviation(logits.grad / 2, case[f'grad_student_logits{suffix}']) < TOLERANCE


@files('unkd')
def test_unbiased_distillation_is_the_official_one(path):
    case = load(path)
    logits = case['student_logits'].requires_grad_()
    module = UnbiasedKnowledgeDistillationLoss(loss_weight=10.0, alpha=case['alpha'])
    loss = module(logits, case['teacher_logits'])
    loss.backward()
    per_pixel = unbiased_knowledge_distillation(logits, case['teacher_logits'], case['alpha'])
    assert deviation(per_pixel, case['loss_none']) < TOLERANCE
    assert deviation(loss / 10, case['loss']) < TOLERANCE
    assert deviation(logits.grad / 10, case['grad_student_logits']) < TOLERANCE


@files('kd')
def test_without_new_classes_it_is_the_official_ordinary_distillation(path):
    # The official ordinary distillation sees the student's old outputs only.
    case = load(path)
    logits = case['student_logits'].requires_grad_()
    per_pixel = unbiased_knowledge_distillation(
        logits[:, : case['n_old']], case['teacher_logits'], case['alpha']
    )
    per_pixel.mean().backward()
    assert deviation(per_pixel, case['loss_none']) < TOLERANCE
    assert deviation(per_pixel.mean(), case['loss']) < TOLERANCE
    assert deviation(logits.grad, case['grad_student_logits']) < TOLERANCE
