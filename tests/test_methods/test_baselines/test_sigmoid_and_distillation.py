"""LwF, LwF-MC and ILT: equality with the official numbers, closed forms and limits."""

from types import SimpleNamespace

import pytest
import torch
from golden_cases import deviation, load
from torch.nn import functional

from mmseg_cil.errors import InputError
from mmseg_cil.losses.pixel_logits import PixelLogits
from mmseg_cil.methods.baselines.icarl import ICaRLLoss, icarl_loss
from mmseg_cil.methods.baselines.ilt import FeatureDistillationLoss
from mmseg_cil.methods.baselines.lwf import KnowledgeDistillationLoss
from mmseg_cil.methods.baselines.lwf_mc import (
    SigmoidCrossEntropyLoss,
    SigmoidDistillationLoss,
    sigmoid_cross_entropy,
    sigmoid_distillation,
)
from mmseg_cil.methods.baselines.reference import knowledge_distillation
from mmseg_cil.utils.step_context import StepContext

TOLERANCE = 2e-6


def draw(num_old=4, num_new=2, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    student = torch.randn(2, num_old + num_new, 5, 7, generator=generator, dtype=dtype) * 3
    teacher = torch.randn(2, num_old, 5, 7, generator=generator, dtype=dtype) * 3
    labels = torch.randint(0, num_old + num_new, (2, 5, 7), generator=generator)
    labels[0, 0] = 255
    return student, teacher, labels


@pytest.mark.parametrize('name', ['kd__a05_c21', 'kd__a1_c6'])
def test_distillation_is_the_official_one(name):
    case = load(name)
    logits = case['student_logits'].requires_grad_()
    each = knowledge_distillation(logits, case['teacher_logits'], case['alpha'])
    loss = KnowledgeDistillationLoss(100.0, case['alpha'])(logits, case['teacher_logits'])
    loss.backward()
    assert deviation(each, case['loss_none']) < TOLERANCE
    assert deviation(loss / 100, case['loss']) < TOLERANCE
    assert deviation(logits.grad / 100, case['grad_student_logits']) < TOLERANCE


@pytest.mark.parametrize('name', ['lwfmc__c21', 'lwfmc__c6'])
def test_lwf_mc_is_the_official_one_in_both_means(name):
    case = load(name)
    logits, labels = case['student_logits'].requires_grad_(), case['labels']
    assert deviation(sigmoid_cross_entropy(logits, labels), case['loss_bce_none']) < TOLERANCE
    of_valid = SigmoidCrossEntropyLoss(avg_non_ignore=True)(logits, labels)
    assert deviation(of_valid, case['loss_bce_mean_valid']) < TOLERANCE
    of_all = SigmoidCrossEntropyLoss()(logits, labels)
    assert deviation(of_all, case['loss_bce']) < TOLERANCE
    kept = SigmoidDistillationLoss(case['importance'])(logits, case['teacher_logits'])
    assert deviation(kept, case['loss_distill']) < TOLERANCE
    (of_all + kept).backward()
    assert deviation(of_all + kept, case['loss']) < TOLERANCE
    assert deviation(logits.grad, case['grad_student_logits']) < TOLERANCE


@pytest.mark.parametrize('name', ['icarl__bkg0', 'icarl__bkg1'])
def test_icarls_own_form_is_the_official_one(name):
    case = load(name)
    logits = case['student_logits'].requires_grad_()
    each = icarl_loss(
        logits,
        case['teacher_logits'],
        case['labels'],
        bool(case['bkg']),
        ignored_are_negatives=True,
    )
    each.mean().backward()
    assert deviation(each, case['loss_none']) < TOLERANCE
    assert deviation(each.mean(), case['loss']) < TOLERANCE
    assert deviation(logits.grad, case['grad_student_logits']) < TOLERANCE


def test_ilts_feature_loss_is_the_official_one():
    case = load('ilt_features__a')
    student = case['student_0'].requires_grad_()
    loss = FeatureDistillationLoss(case['weight'])(student, case['teacher_0'])
    loss.backward()
    assert deviation(loss, case['loss_weighted']) < TOLERANCE
    assert deviation(loss / case['weight'], case['loss']) < TOLERANCE
    assert deviation(student.grad / case['weight'], case['grad_student_0']) < TOLERANCE


@pytest.mark.parametrize('alpha', [1.0, 0.5])
@pytest.mark.parametrize('over_all', [False, True])
def test_distillation_is_the_formula(alpha, over_all):
    student, teacher, _ = draw()
    p = student.softmax(1)[:, :4] if over_all else student[:, :4].softmax(1)
    expected = -((alpha * teacher).softmax(1) * p.log()).sum(1)
    for class_mean, divisor in ((True, 4), (False, 1)):
        each = knowledge_distillation(student, teacher, alpha, over_all, class_mean)
        torch.testing.assert_close(each, expected / divisor)


def test_an_agreeing_student_has_the_entropy_and_no_gradient():
    _, teacher, _ = draw()
    entropy = -(teacher.softmax(1) * teacher.log_softmax(1)).sum(1)
    student = teacher.clone().requires_grad_()
    each = knowledge_distillation(student, teacher)
    each.sum().backward()
    torch.testing.assert_close(each, entropy / 4)
    torch.testing.assert_close(student.grad, torch.zeros_like(student))


def test_new_classes_are_free_unless_the_softmax_is_over_all():
    student, teacher, _ = draw()
    student.requires_grad_()
    knowledge_distillation(student, teacher).sum().backward()
    assert (student.grad[:, 4:] == 0).all() and (student.grad[:, :4] != 0).any()
    student.grad = None
    knowledge_distillation(student, teacher, over_all=True).sum().backward()
    assert (student.grad[:, 4:] > 0).all()


def test_sigmoid_losses_are_the_formula():
    student, teacher, labels = draw()
    p, q = student.sigmoid(), teacher.sigmoid()
    hot = torch.stack([(labels == c).double() for c in range(6)], dim=1)
    expected = -(hot * p.log() + (1 - hot) * (1 - p).log()).sum(1)
    expected[labels == 255] = 0
    torch.testing.assert_close(sigmoid_cross_entropy(student, labels), expected)
    kept = -(q * p[:, :4].log() + (1 - q) * (1 - p[:, :4]).log()).sum(1)
    torch.testing.assert_close(sigmoid_distillation(student, teacher), kept)
    new = -(hot * p.log() + (1 - hot) * (1 - p).log())[:, 4:].sum(1)
    torch.testing.assert_close(
        icarl_loss(student, teacher, labels, ignored_are_negatives=True), kept + new
    )
    new[labels == 255] = 0
    torch.testing.assert_close(icarl_loss(student, teacher, labels), kept + new)


def icarl_module(num_old, num_new, teacher, **options):
    module = ICaRLLoss(**options)
    module.set_step(StepContext(1, (0,) * num_old + (1,) * num_new, True, True))
    module.receive_teacher(SimpleNamespace(logits=teacher))
    return module


def test_icarls_loss_reads_the_teacher_at_the_size_of_the_labels():
    student, teacher, _ = draw()
    labels = torch.randint(0, 6, (2, 10, 14))
    labels[0, :3] = 255
    large = [
        functional.interpolate(logits, size=(10, 14), mode='bilinear', align_corners=False)
        for logits in (student, teacher)
    ]
    for options in ({}, {'ignored_are_negatives': True}, {'background_from_labels': True}):
        expected = icarl_loss(*large, labels, **options).mean()
        found = icarl_module(4, 2, teacher, loss_weight=3.0, **options).of_pixels(
            PixelLogits(student, labels)
        )
        torch.testing.assert_close(found, 3.0 * expected)


def test_icarls_loss_without_a_teacher_or_without_new_classes():
    student, teacher, labels = draw()
    module = icarl_module(4, 2, teacher)
    module.receive_teacher(None)
    torch.testing.assert_close(
        module(student, labels), sigmoid_cross_entropy(student, labels).mean()
    )
    old = student[:, :4]
    labels = labels.masked_fill((labels > 3) & (labels < 255), 3)
    torch.testing.assert_close(
        icarl_module(4, 0, teacher)(old, labels),
        sigmoid_cross_entropy(old, labels).mean() + sigmoid_distillation(old, teacher).mean(),
    )


def test_sigmoid_distillation_rests_where_student_and_teacher_agree():
    _, teacher, _ = draw()
    student = teacher.clone().requires_grad_()
    sigmoid_distillation(student, teacher).sum().backward()
    torch.testing.assert_close(student.grad, torch.zeros_like(student))


@pytest.mark.parametrize('avg_non_ignore', [False, True])
def test_a_batch_of_void_has_zero_loss_and_gradient(avg_non_ignore):
    student, _, labels = draw()
    student.requires_grad_()
    loss = SigmoidCrossEntropyLoss(avg_non_ignore=avg_non_ignore)(
        student, torch.full_like(labels, 255)
    )
    loss.backward()
    assert loss == 0 and (student.grad == 0).all()


def test_weights_and_the_sampler():
    student, _, labels = draw()
    module = SigmoidCrossEntropyLoss(loss_weight=3.0)
    each = sigmoid_cross_entropy(student, labels)
    weight = torch.rand(labels.shape, dtype=torch.float64)
    torch.testing.assert_close(module(student, labels, weight=weight), 3 * (each * weight).mean())
    torch.testing.assert_close(module(student, labels, reduction_override='none'), 3 * each)
    torch.testing.assert_close(module(student, labels.to(torch.uint8)), 3 * each.mean())
    with pytest.raises(ValueError, match='reduction_override'):
        module(student, labels, reduction_override='sum')


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_under_autocast_is_computed_in_float32(dtype):
    student, teacher, labels = draw(dtype=torch.float32)
    student, teacher = (logits.mul(100).to(dtype) for logits in (student, teacher))
    wide = student.float(), teacher.float()
    pairs = [
        (lambda s, t: knowledge_distillation(s, t)),
        (lambda s, t: sigmoid_distillation(s, t)),
        (lambda s, t: sigmoid_cross_entropy(s, labels)),
        (lambda s, t: icarl_loss(s, t, labels)),
        (lambda s, t: FeatureDistillationLoss()(s[:, :4], t)),
    ]
    for function in pairs:
        leaf = student.clone().requires_grad_()
        with torch.autocast('cpu', dtype=torch.bfloat16):
            loss = function(leaf, teacher)
        loss.mean().backward()
        assert loss.dtype == torch.float32 and torch.isfinite(leaf.grad).all()
        torch.testing.assert_close(loss, function(*wide))


def test_feature_maps_of_other_shapes_are_refused():
    with pytest.raises(InputError, match='differ in shape'):
        FeatureDistillationLoss()(torch.zeros(1, 2, 3, 3), torch.zeros(1, 1, 3, 3))


def test_equal_features_have_zero_loss():
    features = torch.randn(1, 2, 3, 3)
    assert FeatureDistillationLoss()(features, features) == 0
    loss = FeatureDistillationLoss(100.0)(features + 0.5, features)
    assert loss.item() == pytest.approx(25.0)


@pytest.mark.parametrize('over_all', [False, True])
def test_without_new_classes_it_is_cross_entropy_with_soft_labels(over_all):
    student, teacher, _ = draw(num_new=0)
    expected = torch.nn.functional.cross_entropy(student, teacher.softmax(1), reduction='none')
    torch.testing.assert_close(
        knowledge_distillation(student, teacher, over_all=over_all), expected / 4
    )


def test_a_single_old_class_has_nothing_to_keep():
    student, teacher, _ = draw(num_old=1)
    student.requires_grad_()
    loss = knowledge_distillation(student, teacher)
    loss.sum().backward()
    torch.testing.assert_close(loss, torch.zeros_like(loss))
    torch.testing.assert_close(student.grad, torch.zeros_like(student))
