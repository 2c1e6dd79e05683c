"""DKD: its identities, and the shared form against the formula."""

import math

import pytest
import torch
from torch.nn import functional

from mmseg_cil.errors import InputError
from mmseg_cil.losses.pixel_logits import PixelLogits
from mmseg_cil.methods.baselines.reference import knowledge_distillation
from mmseg_cil.methods.dkd.loss import DenseKnowledgeDistillationLoss
from mmseg_cil.methods.dkd.reference import dense_knowledge_distillation
from mmseg_cil.methods.dkd.task_pool import POOLS, groups_of_pool
from mmseg_cil.methods.m2kd.class_view import ClassView, class_view
from mmseg_cil.methods.mib.reference import unbiased_knowledge_distillation
from mmseg_cil.registry import MODELS
from mmseg_cil.utils.step_context import StepContext

COUNTS = (4, 2, 1, 3)  # background first; the last step's three classes are new
STEP = StepContext.of_class_counts(COUNTS)
OLD, ALL = 7, 10
TASKS = ((0, 1, 2, 3), (4, 5), (6,))


def draw(*shape, seed=0, spread=3.0):
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(*shape, generator=generator, dtype=torch.float64)


def logits(size=(4, 5)):
    return draw(2, ALL, *size), draw(2, OLD, *size, seed=1)


def loss_of(step=STEP, **settings):
    settings = dict(weighting='constant', **settings)
    loss = MODELS.build(dict(type='DenseKnowledgeDistillationLoss', **settings))
    if step is not None:
        loss.set_step(step)
    return loss


def classes_of(pool, dropped=False, sizes=(4, 2, 1)):
    sizes = [sizes[0] - dropped, *sizes[1:]]
    groups = [
        [label for task in group for label in TASKS[task]] for group in groups_of_pool(pool, sizes)
    ]
    return [[label for label in group if label or not dropped] for group in groups]


@pytest.mark.parametrize('temperature', [1.0, 2.0])
@pytest.mark.parametrize('dropped', [False, True])
@pytest.mark.parametrize('pool', POOLS)
def test_the_shared_form_is_the_formula(pool, dropped, temperature):
    student, teacher = logits()
    student.requires_grad_()
    labels = torch.randint(0, ALL, (2, 9, 13), generator=torch.Generator().manual_seed(2))
    labels[:, :3] = 255
    loss = loss_of(
        pool=pool,
        temperature=temperature,
        loss_weight=0.7,
        background='dropped' if dropped else 'merged',
    )
    pixels = PixelLogits(student, labels, (1, OLD, *loss.cuts()))
    found = loss.of_pixels(pixels, teacher)
    large = [
        functional.interpolate(tensor, labels.shape[1:], mode='bilinear')
        for tensor in (student, teacher)
    ]
    each = dense_knowledge_distillation(*large, classes_of(pool, dropped), temperature)
    expected = 0.7 * each[labels != 255].mean()  # ignored pixels are left out
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        *(torch.autograd.grad(value, student)[0] for value in (found, expected))
    )


def test_of_all_old_classes_it_is_ordinary_distillation():
    """But for the teacher's entropy, which has no gradient, and the factor 1/O."""
    student, teacher = logits()
    log_q = teacher.log_softmax(1)
    entropy = -(log_q.exp() * log_q).sum(1)
    whole = [list(range(OLD))]
    torch.testing.assert_close(
        dense_knowledge_distillation(student, teacher, whole, has_background=False) + entropy,
        OLD * knowledge_distillation(student, teacher),
    )
    torch.testing.assert_close(
        dense_knowledge_distillation(student, teacher, whole) + entropy,
        OLD * unbiased_knowledge_distillation(student, teacher),
    )
    shared = loss_of(StepContext(1, (0,) * OLD + (1,) * 3, True, True))
    torch.testing.assert_close(
        shared(student, teacher) + entropy.mean(),
        OLD * unbiased_knowledge_distillation(student, teacher).mean(),
    )


def test_a_group_of_one_class_is_nothing():
    student, teacher = logits()
    assert dense_knowledge_distillation(student, teacher, [[5]]).abs().max() == 0
    step = StepContext.of_class_counts((1, 1, 1))
    student, teacher = student[:, :3], teacher[:, :2]
    assert loss_of(step, pool='singletons')(student, teacher) == 0
    torch.testing.assert_close(
        loss_of(step)(student, teacher),
        dense_knowledge_distillation(student, teacher, [[0, 1]]).mean(),
    )


def test_random_groups_have_the_mean_of_all():
    student, teacher = logits()
    every = loss_of()(student, teacher)
    drawn = loss_of(groups='random')
    values = {}
    for seed in range(200):
        drawn.set_iteration_seed(seed)
        values[round(float(drawn(student, teacher)), 12)] = seed
    assert len(values) == len(classes_of('all_subsets')) == 6
    torch.testing.assert_close(torch.tensor(list(values), dtype=torch.float64).mean(), every)


def test_a_group_does_not_see_what_is_added_to_all_its_logits():
    student, teacher = logits()
    shift = draw(2, 1, 4, 5, seed=3)
    group = [[4, 5]]
    before = dense_knowledge_distillation(student, teacher, group)
    moved = student.clone()
    moved[:, 4:6] += shift
    torch.testing.assert_close(dense_knowledge_distillation(moved, teacher, group), before)
    other = student.clone()
    other[:, :4] += shift  # nor what happens to others
    torch.testing.assert_close(dense_knowledge_distillation(other, teacher, group), before)


def test_the_chain_rule_over_the_tasks():
    student, teacher = draw(2, OLD, 4, 5), draw(2, OLD, 4, 5, seed=1)
    whole = dense_knowledge_distillation(student, teacher, [list(range(OLD))])
    mass_new, mass_old = (
        torch.stack([tensor[:, list(task)].logsumexp(1) for task in TASKS], 1).log_softmax(1)
        for tensor in (student, teacher)
    )
    parts = torch.stack(
        [dense_knowledge_distillation(student, teacher, [task]) for task in TASKS], 1
    )
    torch.testing.assert_close(
        whole, (mass_old.exp() * (mass_old - mass_new)).sum(1) + (mass_old.exp() * parts).sum(1)
    )


@pytest.mark.parametrize('temperature', [1.0, 3.0])
def test_the_teacher_itself_loses_nothing_at_the_start(temperature):
    """New classes that share the background's mass leave every group as it was."""
    teacher = draw(2, OLD, 4, 5)
    background = teacher[:, :1] - temperature * math.log(4)
    student = torch.cat([background, teacher[:, 1:], background.expand(-1, 3, -1, -1)], 1)
    student.requires_grad_()
    loss = loss_of(temperature=temperature)(student, teacher)
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.abs() < 1e-12 and gradient.abs().max() < 1e-12


def test_a_domain_incremental_walk_has_one_task():
    step = StepContext(2, (0,) * OLD, False, False, by_domain=True, trained=(0, 1))
    student, teacher = draw(2, OLD, 4, 5), draw(2, OLD, 4, 5, seed=1)
    expected = dense_knowledge_distillation(student, teacher, [list(range(OLD))])
    for pool in POOLS:
        for groups in ('all', 'random'):
            loss = loss_of(step, pool=pool, groups=groups, loss_weight=3.0)
            loss.weighting = DenseKnowledgeDistillationLoss().weighting
            torch.testing.assert_close(loss(student, teacher), 3 * expected.mean())


def test_without_a_step_all_classes_are_one_task():
    student, teacher = logits()
    torch.testing.assert_close(
        loss_of(None)(student, teacher),
        dense_knowledge_distillation(student, teacher, [list(range(OLD))]).mean(),
    )


@pytest.mark.parametrize('groups', ['all', 'random'])
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype, groups):
    student, teacher = (tensor.to(dtype) for tensor in logits())
    student.requires_grad_()
    loss = loss_of(groups=groups)
    found = loss(student, teacher)
    precise = student.detach().float().requires_grad_()
    expected = loss(precise, teacher.float())
    assert found.dtype == torch.float32 and torch.equal(found, expected)
    gradients = [
        torch.autograd.grad(value, leaf)[0]
        for value, leaf in ((found, student), (expected, precise))
    ]
    assert gradients[0].dtype == dtype
    torch.testing.assert_close(gradients[0], gradients[1].to(dtype))


def test_autocast_changes_nothing():
    student, teacher = (tensor.float() for tensor in logits())
    expected = loss_of()(student, teacher)
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(loss_of()(student, teacher), expected)


def test_where_every_pixel_is_ignored_there_is_no_loss():
    student, teacher = logits()
    loss = loss_of()
    pixels = PixelLogits(
        student.requires_grad_(), torch.full((2, 9, 13), 255), (1, OLD, *loss.cuts())
    )
    found = loss.of_pixels(pixels, teacher)
    assert found == 0 and torch.autograd.grad(found, student)[0].abs().max() == 0


def test_of_one_snapshots_classes_it_makes_one_task():
    student, teacher = logits()
    whole = PixelLogits(student, cuts=(1, 4, 6, OLD))
    found = loss_of().of_pixels(ClassView(whole, 4), class_view(teacher[:, :6], 4))
    seen, taught = student[:, [0, 4, 5, 6, 7, 8, 9]], teacher[:, [0, 4, 5]]
    torch.testing.assert_close(
        found, dense_knowledge_distillation(seen, taught, [[0, 1, 2]]).mean()
    )


def test_above_the_cap_the_choice_is_fixed():
    student, teacher = logits()
    values = [float(loss_of(max_groups=2, seed=seed)(student, teacher)) for seed in range(5)]
    assert values == [
        float(loss_of(max_groups=2, seed=seed)(student, teacher)) for seed in range(5)
    ]
    assert len(set(values)) > 1


def test_a_teacher_of_an_earlier_step_knows_fewer_tasks():
    student, teacher = logits()
    early = teacher[:, :6]
    torch.testing.assert_close(
        loss_of()(student, early),
        dense_knowledge_distillation(student, early, [[0, 1, 2, 3], [4, 5], list(range(6))]).mean(),
    )


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(pool='pairs'), 'unknown pool'),
        (dict(groups='some'), 'groups must be one of'),
        (dict(background='kept'), 'background must be one of'),
        (dict(temperature=0.0), 'temperature must be a number, above 0'),
        (dict(max_groups=0), 'max_groups must be a whole number'),
        (dict(weighting='similarity'), 'unknown weighting'),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        DenseKnowledgeDistillationLoss(**settings)


def test_maps_of_two_sizes_are_refused():
    with pytest.raises(InputError, match='differ in height or width'):
        loss_of()(draw(2, ALL, 4, 5), draw(2, OLD, 4, 6))
