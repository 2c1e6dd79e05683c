import pytest
import torch
from torch.nn import functional

from mmseg_cil.methods.mib.reference import unbiased_knowledge_distillation
from mmseg_cil.methods.mib.unbiased_distillation import UnbiasedKnowledgeDistillationLoss
from mmseg_cil.models.classifier import balanced_rows
from mmseg_cil.registry import MODELS
from mmseg_cil.utils.step_context import StepContext


def draw(num_old=4, num_new=2, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    student = torch.randn(2, num_old + num_new, 5, 7, generator=generator, dtype=dtype) * 3
    teacher = torch.randn(2, num_old, 5, 7, generator=generator, dtype=dtype) * 3
    return student, teacher


def entropy(logits):
    return -(logits.softmax(dim=1) * logits.log_softmax(dim=1)).sum(dim=1)


@pytest.mark.parametrize(('num_new', 'alpha'), [(2, 1.0), (1, 0.5), (0, 1.0)])
def test_it_is_the_formula(num_new, alpha):
    student, teacher = draw(num_new=num_new)
    p, q = student.softmax(dim=1), (alpha * teacher).softmax(dim=1)
    background = p[:, 0] + p[:, 4:].sum(dim=1)
    expected = -(q[:, 0] * background.log() + (q[:, 1:] * p[:, 1:4].log()).sum(dim=1)) / 4
    torch.testing.assert_close(unbiased_knowledge_distillation(student, teacher, alpha), expected)


def test_without_new_classes_it_is_cross_entropy_with_soft_labels():
    student, teacher = draw(num_new=0)
    expected = functional.cross_entropy(student, teacher.softmax(dim=1), reduction='none') / 4
    torch.testing.assert_close(unbiased_knowledge_distillation(student, teacher), expected)


def test_a_student_that_rules_new_classes_out_and_agrees_has_the_entropy():
    _, teacher = draw()
    never = torch.full_like(teacher[:, :2], -float('inf'))
    loss = unbiased_knowledge_distillation(torch.cat([teacher, never], dim=1), teacher)
    torch.testing.assert_close(loss, entropy(teacher) / 4)


def test_no_student_is_below_the_entropy():
    student, teacher = draw()
    assert (unbiased_knowledge_distillation(student, teacher) >= entropy(teacher) / 4).all()


def test_background_alone_asks_nothing():
    student, teacher = draw(num_old=1)
    torch.testing.assert_close(
        unbiased_knowledge_distillation(student, teacher), torch.zeros(2, 5, 7, dtype=torch.float64)
    )


def test_a_balanced_classifier_agrees_with_the_teacher_to_the_last_bit_of_information():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(4, 8, generator=generator, dtype=torch.float64)
    bias = torch.randn(4, generator=generator, dtype=torch.float64)
    fresh = torch.randn(3, 8, generator=generator, dtype=torch.float64)
    new_weight, new_bias = balanced_rows(weight, bias, fresh, fresh[:, 0])
    x = torch.randn(2, 8, 5, 7, generator=generator, dtype=torch.float64)
    teacher = functional.conv2d(x, weight[:, :, None, None], bias)
    student = functional.conv2d(x, new_weight[:, :, None, None], new_bias).requires_grad_()
    loss = unbiased_knowledge_distillation(student, teacher)
    torch.testing.assert_close(loss, unbiased_knowledge_distillation(teacher, teacher))
    torch.testing.assert_close(loss, entropy(teacher) / 4)
    # It is a minimum: nothing pulls at the student.
    loss.sum().backward()
    torch.testing.assert_close(student.grad, torch.zeros_like(student))


def test_the_order_of_old_foreground_classes_and_of_new_ones_does_not_matter():
    student, teacher = draw()
    torch.testing.assert_close(
        unbiased_knowledge_distillation(student[:, [0, 3, 1, 2, 5, 4]], teacher[:, [0, 3, 1, 2]]),
        unbiased_knowledge_distillation(student, teacher),
    )


def test_constants_per_pixel_do_not_matter():
    student, teacher = draw()
    shift = torch.randn(2, 2, 1, 5, 7, dtype=torch.float64) * 20
    torch.testing.assert_close(
        unbiased_knowledge_distillation(student + shift[0], teacher + shift[1]),
        unbiased_knowledge_distillation(student, teacher),
    )


def test_gradient_is_that_of_finite_differences():
    student, teacher = (logits[:1, :, :2, :2].clone() for logits in draw())
    student.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: unbiased_knowledge_distillation(x, teacher, 0.7), student
    )


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    student, teacher = ((3000 * logits).to(dtype) for logits in draw(dtype=torch.float32))
    loss = unbiased_knowledge_distillation(student, teacher, alpha=10.0)
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss).all()
    torch.testing.assert_close(
        loss, unbiased_knowledge_distillation(student.float(), teacher.float(), 10.0)
    )


def test_the_module_takes_the_mean_over_all_pixels():
    student, teacher = draw()
    module = MODELS.build(dict(type='UnbiasedKnowledgeDistillationLoss', loss_weight=5, alpha=0.5))
    torch.testing.assert_close(
        module(student, teacher), 5 * unbiased_knowledge_distillation(student, teacher, 0.5).mean()
    )


def test_without_a_background_old_classes_are_compared_among_themselves():
    student, teacher = draw()
    p, q = student[:, :4].softmax(dim=1), teacher.softmax(dim=1)
    expected = -(q * p.log()).sum(dim=1) / 4
    found = unbiased_knowledge_distillation(student, teacher, has_background=False)
    torch.testing.assert_close(found, expected)
    module = UnbiasedKnowledgeDistillationLoss(1.0)
    module.set_step(StepContext(1, (0, 0, 0, 0, 1, 1), False, True))
    student.requires_grad_()
    loss = module(student, teacher)
    torch.testing.assert_close(loss, expected.mean())
    loss.backward()
    # Nothing is said of the new rows.
    assert not student.grad[:, 4:].any() and student.grad[:, :4].any()
    # Where no class is new, it is the loss with a background.
    module.set_step(StepContext(1, (0, 0, 0, 0), False, False))
    student, teacher = draw(num_new=0)
    whole = unbiased_knowledge_distillation(student, teacher)
    torch.testing.assert_close(module(student, teacher), whole.mean())
