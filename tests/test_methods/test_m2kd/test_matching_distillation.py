"""M2KD's matching distillation: definition, limits, and the form that shares log-sum-exps."""

import pytest
import torch
from torch.nn import functional

from mmseg_cil.errors import InputError
from mmseg_cil.losses.pixel_logits import PixelLogits
from mmseg_cil.methods.baselines.reference import knowledge_distillation
from mmseg_cil.methods.m2kd.class_view import ClassView, class_view
from mmseg_cil.methods.m2kd.loss import MatchingDistillationLoss, shared_matching_distillation
from mmseg_cil.methods.m2kd.reference import matching_distillation, multi_model_distillation
from mmseg_cil.methods.mib.reference import unbiased_knowledge_distillation
from mmseg_cil.utils.step_context import StepContext


def logits(*shape, seed=0, scale=3.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*shape, generator=generator, dtype=torch.float64)


STUDENT = logits(2, 7, 4, 5)
#: Three snapshots of a walk 3 + 2 + 1 (+ 1), each with the first class that it teaches.
SNAPSHOTS = [
    (logits(2, 3, 4, 5, seed=1), 0),
    (logits(2, 5, 4, 5, seed=2), 3),
    (logits(2, 6, 4, 5, seed=3), 5),
]


def by_loops(student, teachers, temperature, merge_later, has_background):
    """The definition, pixel by pixel and class by class, in plain numbers."""
    result = torch.zeros(len(student), *student.shape[2:], dtype=torch.float64)
    for at in ((n, y, x) for n in range(2) for y in range(4) for x in range(5)):
        of_pixel = (at[0], slice(None), *at[1:])
        z = [value.item() / temperature for value in student[of_pixel]]
        total = 0.0
        for teacher, start in teachers:
            t = [value.item() / temperature for value in teacher[of_pixel]]
            classes = list(range(start, len(t)))
            if has_background and start > 0:
                classes = [0, *classes]
            groups = [[label] for label in classes]
            if merge_later:
                groups[0] += list(range(len(t), len(z)))
            exp = torch.tensor(z).double().exp()
            p = torch.stack([sum(exp[label] for label in group) for group in groups])
            q = torch.tensor([t[label] for label in classes]).double().exp()
            p, q = p / p.sum(), q / q.sum()
            total += (q * (q.log() - p.log())).sum() * temperature**2
        result[at] = total / len(teachers)
    return result


@pytest.mark.parametrize(
    ('temperature', 'merge_later', 'background'),
    [(1.0, True, True), (2.0, True, True), (1.0, False, True), (3.0, False, False)],
)
def test_it_is_its_definition(temperature, merge_later, background):
    found = multi_model_distillation(STUDENT, SNAPSHOTS, temperature, merge_later, background)
    torch.testing.assert_close(
        found, by_loops(STUDENT, SNAPSHOTS, temperature, merge_later, background)
    )


def entropy(teacher):
    return -(teacher.softmax(dim=1) * teacher.log_softmax(dim=1)).sum(dim=1)


def test_one_snapshot_of_all_old_classes_is_unbiased_distillation_and_lwf():
    teacher = SNAPSHOTS[2][0]
    unbiased = 6 * unbiased_knowledge_distillation(STUDENT, teacher) - entropy(teacher)
    torch.testing.assert_close(multi_model_distillation(STUDENT, [(teacher, 0)]), unbiased)
    lwf = knowledge_distillation(STUDENT, teacher, class_mean=False) - entropy(teacher)
    torch.testing.assert_close(
        multi_model_distillation(STUDENT, [(teacher, 0)], merge_later=False), lwf
    )
    # Where no class is new, as in a domain-incremental walk, the two are one.
    old = STUDENT[:, :6]
    torch.testing.assert_close(matching_distillation(old, teacher), lwf)


def test_at_a_temperature_it_is_lwf_on_both_sides():
    teacher = SNAPSHOTS[2][0]
    expected = 4 * (
        knowledge_distillation(STUDENT / 2, teacher / 2, class_mean=False) - entropy(teacher / 2)
    )
    torch.testing.assert_close(matching_distillation(STUDENT, teacher, 2.0, False), expected)


def test_it_vanishes_where_the_student_says_what_each_snapshot_says():
    # Snapshots of one distribution: each calls background what it does not know.
    last = logits(2, 7, 4, 5, seed=5)
    teachers = []
    for known, start in ((3, 0), (5, 3), (6, 5)):
        rest = torch.cat([last[:, :1], last[:, known:]], dim=1).logsumexp(dim=1, keepdim=True)
        teachers.append((torch.cat([rest, last[:, 1:known]], dim=1) + 0.7, start))
    found = multi_model_distillation(last.requires_grad_(), teachers, 1.0)
    assert found.abs().max() < 1e-12
    assert torch.autograd.grad(found.sum(), last)[0].abs().max() < 1e-12
    assert multi_model_distillation(STUDENT, SNAPSHOTS).min() > 0


def test_a_snapshot_has_no_say_on_earlier_foreground_classes():
    student = STUDENT.clone().requires_grad_()
    loss = multi_model_distillation(student, SNAPSHOTS[1:2])
    (gradient,) = torch.autograd.grad(loss.sum(), student)
    assert (gradient[:, 1:3] == 0).all() and (gradient[:, [0, 3, 4, 5, 6]] != 0).all()
    changed = SNAPSHOTS[1][0].clone()
    changed[:, 1:3] += 5
    assert torch.equal(multi_model_distillation(STUDENT, [(changed, 3)]), loss.detach())


def test_a_high_temperature_is_the_squared_distance_of_centred_logits():
    teacher, known = SNAPSHOTS[0][0], 3
    z, t = (tensor - tensor.mean(dim=1, keepdim=True) for tensor in (STUDENT[:, :known], teacher))
    found = matching_distillation(STUDENT, teacher, 1e4, merge_later=False)
    torch.testing.assert_close(found, ((z - t) ** 2).sum(dim=1) / (2 * known), rtol=1e-3, atol=1e-3)


CUTS = (1, 3, 5, 6)


@pytest.mark.parametrize('temperature', [1.0, 2.0])
@pytest.mark.parametrize('merge_later', [True, False])
@pytest.mark.parametrize('size', [(4, 5), (13, 11)])
def test_the_shared_form_is_equal_in_value_and_gradient(temperature, merge_later, size):
    for teacher, start in SNAPSHOTS:
        student = STUDENT.clone().requires_grad_()
        whole = PixelLogits(student, cuts=CUTS, size=size)
        shared = shared_matching_distillation(
            ClassView(whole, start), class_view(teacher, start), temperature, merge_later
        )
        (gradient,) = torch.autograd.grad(shared.sum(), student)
        student = STUDENT.clone().requires_grad_()
        large, known = (
            functional.interpolate(tensor, size, mode='bilinear') for tensor in (student, teacher)
        )
        plain = multi_model_distillation(large, [(known, start)], temperature, merge_later)
        (expected,) = torch.autograd.grad(plain.sum(), student)
        torch.testing.assert_close(shared, plain)
        torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize('background', [True, False])
@pytest.mark.parametrize('temperature', [1.0, 2.0])
def test_a_view_has_the_log_sum_exps_of_its_classes(background, temperature):
    view = ClassView(PixelLogits(STUDENT, cuts=CUTS), 3, background)
    values = class_view(STUDENT, 3, background) / temperature
    assert values.shape[1] == (5 if background else 4)
    places = (0, 1, 3, 4, 5) if background else (0, 2, 3, 4)
    for i, start in enumerate(places):
        for stop in places[i + 1 :]:
            torch.testing.assert_close(
                view.tempered(temperature).logsumexp(start, stop),
                values[:, start:stop].logsumexp(dim=1),
            )
    torch.testing.assert_close(view.tempered(temperature).logsumexp(), values.logsumexp(dim=1))


def test_views_share_what_the_whole_computed(monkeypatch):
    computed = []
    monkeypatch.setattr(
        'mmseg_cil.losses.pixel_logits.pixel_statistics',
        lambda *args: computed.append(1) or original(*args),
    )
    from mmseg_cil.losses.pixel_statistics import pixel_statistics as original

    whole = PixelLogits(STUDENT, cuts=CUTS)
    for teacher, start in SNAPSHOTS:
        for temperature in (1.0, 2.0):
            shared_matching_distillation(
                ClassView(whole, start), class_view(teacher, start), temperature
            )
    assert len(computed) == 2


def test_a_view_knows_what_is_ignored_and_the_logit_of_labels_that_it_has_not():
    labels = torch.arange(5).repeat(2, 4, 1)
    labels[:, 0] = 7
    whole = PixelLogits(STUDENT, labels, CUTS, ignore_index=7, replayed=1)
    view = ClassView(whole, 5)
    assert torch.equal(view.ignored, labels == 7)
    assert view.distilled(~view.ignored).flatten(1).sum(1).tolist() == [15, 20]
    assert torch.equal(view.own[:, 1:], STUDENT.gather(1, labels[:, None] % 7)[:, 0, 1:])


def test_the_module_is_the_mean_over_pixels():
    module = MatchingDistillationLoss(loss_weight=2.5, temperature=2.0)
    teacher = SNAPSHOTS[2][0]
    torch.testing.assert_close(
        module(STUDENT, teacher), 2.5 * matching_distillation(STUDENT, teacher, 2.0).mean()
    )
    half = module(STUDENT.bfloat16(), teacher.bfloat16())
    assert half.dtype == torch.float32


def test_wrong_input_is_refused():
    with pytest.raises(InputError, match='temperature'):
        MatchingDistillationLoss(temperature=0.0)
    step = StepContext.of_class_counts([3, 2], has_background=False)
    with pytest.raises(InputError, match='merge_later=False'):
        MatchingDistillationLoss().set_step(step)
    MatchingDistillationLoss(merge_later=False).set_step(step)
