"""LGKD's distillation: closed forms, limits, and batches without the thing it is about."""

import pytest
import torch

from mmseg_cil.contracts import Batch, NetworkOutput
from mmseg_cil.errors import InputError
from mmseg_cil.losses.pixel_logits import PixelLogits
from mmseg_cil.methods.lgkd.distiller import LabelGuidedDistiller
from mmseg_cil.methods.lgkd.label_guided import pixels_of_cells
from mmseg_cil.methods.lgkd.reference import label_guided_distillation, label_guided_targets
from mmseg_cil.models.classifier import balanced_rows
from mmseg_cil.utils.step_context import StepContext

OLD, NEW = 4, 2
SIZE = (5, 7)


def draw(num_old=OLD, num_new=NEW, count=2, seed=0, dtype=torch.float64):
    """Logits of student and teacher, and labels of which some are void."""
    generator = torch.Generator().manual_seed(seed)
    student = torch.randn(count, num_old + num_new, *SIZE, generator=generator, dtype=dtype) * 3
    teacher = torch.randn(count, num_old, *SIZE, generator=generator, dtype=dtype) * 3
    labels = torch.randint(0, num_old + num_new, (count, *SIZE), generator=generator)
    labels[:, 0] = 255
    return student, teacher, labels


def record(logits):
    return NetworkOutput((), logits, logits)


def distil(student, teacher, labels, replayed=0, **options):
    pixels = PixelLogits(student, labels, cuts=(1, teacher.shape[1]), replayed=replayed)
    losses = LabelGuidedDistiller(**options)(Batch(record(student), pixels, record(teacher)))
    return losses['loss_lgkd']


def mean(cells, labels):
    return cells.sum() / (labels != 255).sum()


@pytest.mark.parametrize('resolution', ['low', 'full'])
@pytest.mark.parametrize(
    ('num_old', 'num_new', 'count'), [(4, 2, 2), (4, 2, 1), (4, 0, 2), (1, 3, 2)]
)
def test_the_fast_form_is_the_plain_form(num_old, num_new, count, resolution):
    student, teacher, labels = draw(num_old, num_new, count)
    student.requires_grad_()
    found = distil(student, teacher, labels, old_weight=5.0, new_weight=0.5, resolution=resolution)
    plain = mean(label_guided_distillation(student, teacher, labels, 5.0, 0.5), labels)
    torch.testing.assert_close(found, plain)
    torch.testing.assert_close(
        torch.autograd.grad(found, student)[0], torch.autograd.grad(plain, student)[0]
    )


def test_a_cell_of_a_new_class_weighs_and_asks_as_the_formula_says():
    student, teacher, _ = draw()
    labels = torch.full((2, *SIZE), OLD + 1)
    p, q = student.softmax(dim=1), teacher.softmax(dim=1)
    expected = -(q[:, 1:] * p[:, 1:OLD].log()).sum(dim=1) - q[:, 0] * p[:, OLD + 1].log()
    found = label_guided_distillation(student, teacher, labels, 5.0, 0.5)
    torch.testing.assert_close(found, 0.5 * expected)
    torch.testing.assert_close(
        distil(student, teacher, labels, old_weight=5.0, new_weight=0.5), 0.5 * expected.mean()
    )


def test_targets_are_probabilities_and_the_student_that_has_them_is_at_the_minimum():
    _, teacher, labels = draw()
    targets = label_guided_targets(teacher, labels, OLD + NEW)
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(2, *SIZE, dtype=torch.float64))
    new = (labels >= OLD) & (labels != 255)
    assert (targets[:, 0][new] == 0).all() and (targets[:, OLD:].sum(dim=1)[~new] == 0).all()
    student = targets.clamp(min=1e-300).log().requires_grad_()
    loss = distil(student, teacher, labels)
    entropy = torch.special.entr(targets).sum(dim=1)
    torch.testing.assert_close(loss, entropy[labels != 255].mean())
    loss.backward()
    torch.testing.assert_close(student.grad, torch.zeros_like(student), atol=1e-12, rtol=0)


def test_new_classes_are_drawn_to_the_cells_that_have_their_label_and_from_no_other():
    """Unlike MiB's distillation, which lets new classes share the background everywhere."""
    generator = torch.Generator().manual_seed(0)
    weight, bias, x = (
        torch.randn(*shape, generator=generator, dtype=torch.float64)
        for shape in ((OLD, 8), (OLD,), (2, 8, *SIZE))
    )
    rows = balanced_rows(weight, bias, torch.zeros(NEW, 8).double(), torch.zeros(NEW).double())
    teacher = torch.nn.functional.conv2d(x, weight[:, :, None, None], bias)
    student = torch.nn.functional.conv2d(x, rows[0][:, :, None, None], rows[1]).requires_grad_()
    labels = torch.zeros(2, *SIZE, dtype=torch.long)
    labels[:, :, 3:] = OLD
    (gradient,) = torch.autograd.grad(distil(student, teacher, labels), student)
    # A positive gradient lowers a logit.
    assert (gradient[:, OLD, :, 3:] < 0).all() and (gradient[:, OLD, :, :3] > 0).all()
    assert (gradient[:, OLD + 1] > 0).all()
    assert (gradient[:, 0, :, 3:] > 0).all() and (gradient[:, 0, :, :3] < 0).all()


def test_labels_of_old_classes_ask_for_what_the_background_asks():
    """On exemplars, and where labels hide nothing, old classes have labels."""
    student, teacher, labels = draw()
    hidden = labels.masked_fill(labels < OLD, 0)
    torch.testing.assert_close(distil(student, teacher, labels), distil(student, teacher, hidden))


def test_constants_and_the_order_of_old_foreground_classes_do_not_matter():
    student, teacher, labels = draw()
    expected = distil(student, teacher, labels)
    shift = torch.randn(2, 2, 1, *SIZE, dtype=torch.float64) * 20
    torch.testing.assert_close(distil(student + shift[0], teacher + shift[1], labels), expected)
    order = [0, 3, 1, 2]
    moved = distil(student[:, [*order, 4, 5]], teacher[:, order], labels)
    torch.testing.assert_close(moved, expected)


def test_a_weight_of_zero_keeps_the_cells_in_the_mean():
    student, teacher, labels = draw()
    cells = label_guided_distillation(student, teacher, labels, new_weight=0.0)
    assert (cells[(labels >= OLD) & (labels != 255)] == 0).all()
    torch.testing.assert_close(
        distil(student, teacher, labels, new_weight=0.0), mean(cells, labels)
    )


@pytest.mark.parametrize('resolution', ['low', 'full'])
def test_a_batch_without_any_label_costs_nothing_and_keeps_the_graph(resolution):
    student, teacher, labels = draw()
    student.requires_grad_()
    loss = distil(student, teacher, torch.full_like(labels, 255), resolution=resolution)
    loss.backward()
    assert loss == 0 and not student.grad.any()


@pytest.mark.parametrize('resolution', ['low', 'full'])
@pytest.mark.parametrize('count', [1, 2])
def test_a_batch_without_a_new_label_is_distilled(count, resolution):
    student, teacher, labels = draw(count=count)
    student.requires_grad_()
    labels = labels.masked_fill(labels != 255, 0)
    found = distil(student, teacher, labels, new_weight=20.0, resolution=resolution)
    cells = -(teacher.softmax(dim=1) * student.log_softmax(dim=1)[:, :OLD]).sum(dim=1)
    torch.testing.assert_close(found, cells[labels != 255].mean())
    found.backward()
    assert torch.isfinite(student.grad).all() and student.grad.any()


def test_void_cells_get_no_gradient_but_all_cells_of_generated_images_do():
    student, teacher, labels = draw()
    student.requires_grad_()
    labels[1] = 255
    (gradient,) = torch.autograd.grad(distil(student, teacher, labels, replayed=1), student)
    used = gradient.abs().amax(dim=1) > 0
    assert not used[0, 0].any() and used[0, 1:].all() and used[1].all()
    # A generated image shows no new class: its cells count as cells of the background.
    seen = labels.clone()
    seen[1] = 0
    torch.testing.assert_close(
        distil(student, teacher, labels, replayed=1, old_weight=5.0),
        distil(student, teacher, seen, old_weight=5.0),
    )


@pytest.mark.parametrize('size', [(80, 112), (81, 113), (77, 100)])
def test_a_cell_has_the_label_of_its_first_pixel(size):
    student, _, _ = draw()
    labels = torch.arange(size[0] * size[1]).view(1, *size).expand(2, -1, -1)
    found = pixels_of_cells(student, PixelLogits(student, labels)).labels
    rows = [row * size[0] // SIZE[0] for row in range(SIZE[0])]
    columns = [column * size[1] // SIZE[1] for column in range(SIZE[1])]
    assert torch.equal(found, labels[:, rows][:, :, columns])


def test_enlarged_logits_are_compared_with_the_labels_as_they_are():
    student, teacher, _ = draw()
    size = (20, 28)
    labels = torch.randint(0, OLD + NEW, (2, *size), generator=torch.Generator().manual_seed(1))
    large = [
        torch.nn.functional.interpolate(small, size, mode='bilinear')
        for small in (student, teacher)
    ]
    torch.testing.assert_close(
        distil(student, teacher, labels, resolution='full'),
        label_guided_distillation(*large, labels).mean(),
    )


@pytest.mark.parametrize('resolution', ['low', 'full'])
def test_gradient_is_that_of_finite_differences(resolution):
    student, teacher, labels = (drawn[:1, ..., 1:3, :2].clone() for drawn in draw())
    student.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: distil(x, teacher, labels, old_weight=2.0, resolution=resolution), student
    )


@pytest.mark.parametrize('resolution', ['low', 'full'])
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype, resolution):
    student, teacher, labels = draw(dtype=torch.float32)
    student, teacher = (3000 * student).to(dtype), (3000 * teacher).to(dtype)
    loss = distil(student, teacher, labels, resolution=resolution)
    assert loss.dtype == torch.float32 and torch.isfinite(loss)
    torch.testing.assert_close(
        loss, distil(student.float(), teacher.float(), labels, resolution=resolution)
    )
    cells = label_guided_distillation(student, teacher, labels)
    assert cells.dtype == torch.float32
    torch.testing.assert_close(loss, mean(cells, labels))


def test_new_classes_without_a_background_are_refused_unless_they_weigh_nothing():
    step = StepContext(1, (0, 0, 0, 0, 1, 1), has_background=False, old_labels_hidden=True)
    with pytest.raises(InputError, match='set new_weight=0, which distils nothing where'):
        LabelGuidedDistiller().set_step(step)
    LabelGuidedDistiller(new_weight=0.0).set_step(step)
    # Nothing is new in a walk by domain, with a background or without.
    LabelGuidedDistiller().set_step(StepContext(1, (0, 0, 0), False, False, by_domain=True))
    student, teacher, labels = draw(num_new=0)
    expected = -(teacher.softmax(dim=1) * student.log_softmax(dim=1)).sum(dim=1)
    torch.testing.assert_close(
        distil(student, teacher, labels, new_weight=20.0), expected[labels != 255].mean()
    )


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(old_weight=-1.0), 'old_weight must be a number'),
        (dict(new_weight='high'), 'new_weight must be a number'),
        (dict(resolution='half'), 'resolution must be one of'),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        LabelGuidedDistiller(**options)


def test_teacher_and_student_of_other_sizes_are_refused():
    student, teacher, labels = draw()
    with pytest.raises(InputError, match='differ in height or width'):
        distil(student, teacher[..., 1:], labels)
