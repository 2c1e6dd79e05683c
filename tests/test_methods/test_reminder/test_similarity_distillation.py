"""The class-similarity weighted distillation: its meaning, its limits, and what it leaves alone."""

import pytest
import torch
from torch.nn import functional

from mmseg_cil.contracts import Batch, NetworkOutput
from mmseg_cil.errors import InputError
from mmseg_cil.losses.pixel_logits import PixelLogits
from mmseg_cil.methods.reminder import similarity as fast
from mmseg_cil.methods.reminder.distiller import ClassSimilarityDistiller
from mmseg_cil.methods.reminder.reference import (
    FLOOR,
    mean_embeddings,
    similarity,
    similarity_weighted_distillation,
)
from mmseg_cil.utils.step_context import StepContext

OLD, NEW, WIDTH, SIZE, LARGE = 4, 2, 3, (4, 5), (9, 13)


@pytest.fixture
def drawn():
    """Logits of student and teacher, an embedding, labels of twice the size, prototypes."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    labels = torch.randint(0, OLD + NEW, (3, *LARGE), generator=generator)
    labels[:, 0] = 255
    return (
        normal(3, OLD + NEW, *SIZE),
        normal(3, OLD, *SIZE),
        normal(3, WIDTH, *SIZE),
        labels,
        normal(OLD, WIDTH),
    )


def distil(student, teacher, embedding, labels, prototypes, replayed=0, **options):
    pixels = PixelLogits(student, labels, replayed=replayed)
    return fast.shared_similarity_weighted_distillation(
        pixels, embedding, teacher, prototypes, **options
    )


def enlarged(maps):
    return functional.interpolate(maps, LARGE, mode='bilinear')


@pytest.mark.parametrize('delta', [0.0, 1.0])
@pytest.mark.parametrize('images', [1, 2, 100])
def test_the_form_of_training_is_the_plain_statement(drawn, monkeypatch, delta, images):
    student, teacher, embedding, labels, prototypes = drawn
    monkeypatch.setattr(fast, '_BLOCK', {'cpu': images * OLD * LARGE[0] * LARGE[1], 'other': 0})
    means, _ = mean_embeddings(embedding, labels, range(OLD, OLD + NEW))
    shares = similarity(means, prototypes, delta)
    student.requires_grad_()
    expected = similarity_weighted_distillation(
        enlarged(student), enlarged(teacher), labels, shares
    )
    (wanted,) = torch.autograd.grad(expected, student)
    found = distil(student, teacher, embedding, labels, prototypes, delta=delta)
    (gradient,) = torch.autograd.grad(found, student)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradient, wanted)


def test_gradient_is_that_of_finite_differences(drawn):
    student, teacher, embedding, labels, prototypes = drawn
    student = student[:1, :, :2, :2].clone().requires_grad_()
    others = (teacher[:1, :, :2, :2], embedding[:1], labels[:1, :3, :3], prototypes)
    assert torch.autograd.gradcheck(lambda x: distil(x, *others), student)


def test_sums_over_classes_are_those_of_the_enlarged_embedding(drawn):
    _, _, embedding, labels, _ = drawn
    means, count = mean_embeddings(embedding, labels, range(OLD + NEW + 1))
    sums = fast.embedding_sums(embedding, labels, range(OLD + NEW + 1))
    torch.testing.assert_close(sums[:, -1], count.double())
    torch.testing.assert_close(sums[:, :-1], means * count[:, None])
    # The class that is not there, and a map of the size of the labels.
    assert not sums[-1].any()
    same = fast.embedding_sums(embedding, labels[:, : SIZE[0], : SIZE[1]], range(2))
    pixels = embedding.movedim(1, -1)[labels[:, : SIZE[0], : SIZE[1]] == 1]
    torch.testing.assert_close(same[1, :-1], pixels.sum(dim=0))


def test_equal_similarity_is_the_soft_cross_entropy_over_the_old_classes(drawn):
    student, teacher, embedding, labels, prototypes = drawn
    found = distil(student, teacher, embedding, labels, prototypes[:1].expand(OLD, -1))
    target = (enlarged(teacher) / 3).softmax(dim=1)
    logs = (enlarged(student)[:, :OLD] / 3).log_softmax(dim=1)
    new = (labels >= OLD) & (labels != 255)
    each = -((target / OLD + FLOOR) * logs).sum(dim=1)
    torch.testing.assert_close(found, 9 * each[new].mean())
    plain = 9 / OLD * -(target * logs).sum(dim=1)[new].mean()
    torch.testing.assert_close(found, plain, rtol=1e-5, atol=0)


def test_the_student_is_drawn_to_the_old_class_that_the_new_class_is_similar_to():
    # The teacher holds both old classes for equally likely; the new class looks like class 1.
    embedding = torch.tensor([0.0, 5.0]).view(1, 2, 1, 1)
    student = torch.zeros(1, 3, 1, 1, requires_grad=True)
    label = torch.full((1, 1, 1), 2)
    loss = distil(student, torch.zeros(1, 2, 1, 1), embedding, label, torch.eye(2))
    (gradient,) = torch.autograd.grad(loss, student)
    # A positive gradient lowers a logit; the new class's own is left alone.
    assert gradient[0, 1] < 0 < gradient[0, 0] and gradient[0, 2] == 0
    only = similarity(embedding.flatten()[None], torch.eye(2), delta=1.0)
    assert only[0, 0] == 0 and only[0, 1] > 0.5


def test_only_pixels_of_new_classes_count(drawn):
    student, teacher, embedding, labels, prototypes = drawn
    expected = distil(student, teacher, embedding, labels, prototypes)
    # Pseudo-labels, as PLOP gives them to pixels of old classes, change nothing.
    relabelled = torch.where(labels < OLD, torch.where(labels == 1, 255, 2), labels)
    found = distil(student, teacher, embedding, relabelled, prototypes)
    torch.testing.assert_close(found, expected)
    # Neither do generated images, which have no labels.
    labels[2] = 255
    torch.testing.assert_close(
        distil(student, teacher, embedding, labels, prototypes, replayed=1),
        distil(student[:2], teacher[:2], embedding[:2], labels[:2], prototypes),
    )


@pytest.mark.parametrize('label', [0, 1, 255])
@pytest.mark.parametrize('count', [1, 3])
def test_a_batch_without_a_new_class_costs_nothing_and_keeps_the_graph(drawn, label, count):
    student, teacher, embedding, labels = (part[:count] for part in drawn[:4])
    student = student.clone().requires_grad_()
    labels = torch.full_like(labels, label)
    loss = distil(student, teacher, embedding, labels, drawn[-1], delta=1.0)
    loss.backward()
    assert loss == 0 and not student.grad.any()


def test_vectors_of_zeros_are_similar_to_nothing_and_give_finite_numbers(drawn):
    student, teacher, embedding, labels, prototypes = drawn
    student.requires_grad_()
    prototypes = prototypes.clone()
    prototypes[1] = 0
    for maps in (embedding, torch.zeros_like(embedding)):
        loss = distil(student, teacher, maps, labels, prototypes)
        (gradient,) = torch.autograd.grad(loss, student)
        assert torch.isfinite(loss) and torch.isfinite(gradient).all()
    torch.testing.assert_close(
        similarity(torch.zeros(1, WIDTH), prototypes.float()), torch.full((1, OLD), 1 / OLD)
    )


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(drawn, dtype):
    student, teacher, embedding = (3000 * part.float().to(dtype) for part in drawn[:3])
    labels, prototypes = drawn[3], drawn[4].float()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss = distil(student, teacher, embedding, labels, prototypes)
    assert loss.dtype == torch.float32 and torch.isfinite(loss)
    wide = [part.float() for part in (student, teacher, embedding)]
    torch.testing.assert_close(loss, distil(*wide, labels, prototypes))


def test_two_processes_have_the_loss_of_one(drawn, monkeypatch):
    """Though one of them may not see a new class at all."""
    student, teacher, embedding, labels, prototypes = drawn
    student.requires_grad_()
    labels[2] = labels[2].clamp(max=1)
    expected = distil(student, teacher, embedding, labels, prototypes)
    (wanted,) = torch.autograd.grad(expected, student)
    halves = [slice(0, 2), slice(2, 3)]
    new = range(OLD, OLD + NEW)
    total = sum(fast.embedding_sums(embedding[part], labels[part], new) for part in halves)
    monkeypatch.setattr(fast, 'all_reduce', lambda sums: sums.copy_(total))
    monkeypatch.setattr(fast, 'get_world_size', lambda: 2)
    losses = [
        distil(student[part], teacher[part], embedding[part], labels[part], prototypes)
        for part in halves
    ]
    assert losses[1] == 0
    (gradient,) = torch.autograd.grad(sum(losses) / 2, student)
    torch.testing.assert_close(sum(losses) / 2, expected)
    torch.testing.assert_close(gradient, wanted)


def record(logits, embedding):
    return NetworkOutput((), embedding, logits)


def test_the_distiller_weighs_the_loss_and_asks_for_prototypes(drawn):
    student, teacher, embedding, labels, prototypes = drawn
    batch = Batch(
        record(student, embedding), PixelLogits(student, labels), record(teacher, embedding)
    )
    distiller = ClassSimilarityDistiller(loss_weight=0.25, delta=1.0, temperature=2.0)
    distiller.set_step(StepContext.of_class_counts([OLD, NEW]))
    with pytest.raises(RuntimeError, match='needs a ReminderPrototypesHook'):
        distiller(batch)
    network = torch.nn.Module()
    network.decode_head = torch.nn.Module()
    network.decode_head.conv_seg = torch.nn.Conv2d(WIDTH, OLD + NEW, 1)
    with pytest.raises(InputError, match='must not change between steps'):
        distiller.set_old_prototypes(prototypes[:, :2], network)
    # A class whose step did not train, and which the teacher does not know, has no row in it.
    distiller.set_old_prototypes(torch.cat([prototypes, prototypes[:1]]), network)
    expected = 0.25 * distil(
        student, teacher, embedding, labels, prototypes, delta=1.0, temperature=2.0
    )
    torch.testing.assert_close(distiller(batch), dict(loss_csw=expected))


def test_a_step_without_new_classes_has_no_loss():
    distiller = ClassSimilarityDistiller()
    distiller.set_step(StepContext(1, (0, 0, 0), True, False, by_domain=True, trained=(0,)))
    logits = torch.zeros(1, 3, 2, 2)
    labels = torch.zeros(1, 2, 2, dtype=torch.long)
    batch = Batch(record(logits, logits), PixelLogits(logits, labels), record(logits, logits))
    assert distiller(batch) == {}


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(loss_weight=-1.0), 'loss_weight must be a number'),
        (dict(delta=-0.5), 'delta must be a number'),
        (dict(temperature=0.0), 'temperature must be a number, above 0'),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        ClassSimilarityDistiller(**options)


def test_teacher_and_student_of_other_sizes_are_refused(drawn):
    student, teacher, embedding, labels, prototypes = drawn
    with pytest.raises(InputError, match='differ in height or width'):
        distil(student, teacher[..., 1:], embedding, labels, prototypes)
