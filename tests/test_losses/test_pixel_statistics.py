"""The shared statistics of logits: equal to what is computed from the enlarged logits."""

import pytest
import torch
from mmseg.models.losses import accuracy
from torch.nn import functional

from mmseg_cil.errors import InputError
from mmseg_cil.losses import pixel_statistics
from mmseg_cil.losses.pixel_logits import PixelLogits
from mmseg_cil.methods.baselines.lwf import KnowledgeDistillationLoss
from mmseg_cil.methods.baselines.reference import knowledge_distillation
from mmseg_cil.methods.mib.reference import unbiased_cross_entropy, unbiased_knowledge_distillation
from mmseg_cil.methods.mib.unbiased_cross_entropy import (
    PixelCrossEntropyLoss,
    UnbiasedCrossEntropyLoss,
)
from mmseg_cil.methods.mib.unbiased_distillation import UnbiasedKnowledgeDistillationLoss
from mmseg_cil.utils.step_context import StepContext

SIZE = (11, 14)
OLD, ALL = 4, 7


def draw(dtype=torch.float64, seed=0, scale=3.0):
    generator = torch.Generator().manual_seed(seed)
    student = torch.randn(2, ALL, 3, 4, generator=generator, dtype=dtype) * scale
    teacher = torch.randn(2, OLD, 3, 4, generator=generator, dtype=dtype) * scale
    labels = torch.randint(0, ALL, (2, *SIZE), generator=generator)
    labels[0, :2] = 255
    return student, teacher, labels


def enlarge(logits, align_corners=False):
    return functional.interpolate(logits, SIZE, mode='bilinear', align_corners=align_corners)


@pytest.fixture(params=[2**22, 2 * 11 * 14 * 2, 1], ids=['one block', 'two classes', 'one class'])
def block(request, monkeypatch):
    """However many classes are enlarged at a time, results are the same."""
    monkeypatch.setitem(pixel_statistics._BLOCK, 'cpu', request.param)


def of_step(loss, counts=(OLD, ALL - OLD)):
    loss.set_step(StepContext.of_class_counts(counts))
    return loss


def pixels_of(student, labels, **arguments):
    return PixelLogits(student, labels, cuts=(1, OLD), **arguments)


@pytest.mark.usefixtures('block')
@pytest.mark.parametrize('align_corners', [False, True])
def test_maps_are_those_of_the_enlarged_logits(align_corners):
    student, teacher, labels = draw()
    pixels = pixels_of(student, labels, align_corners=align_corners)
    full = enlarge(student, align_corners)
    for start, stop in ((0, 1), (0, OLD), (1, OLD), (OLD, ALL), (0, ALL)):
        torch.testing.assert_close(pixels.logsumexp(start, stop), full[:, start:stop].logsumexp(1))
    own = full.gather(1, labels.masked_fill(labels == 255, 0).unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(pixels.own, own)
    torch.testing.assert_close(pixels.statistics.greatest, full.amax(dim=1))
    targets = (0.5 * enlarge(teacher, align_corners)).softmax(1)
    agreement, first = pixels.agreement(teacher, alpha=0.5)
    torch.testing.assert_close(agreement, (targets[:, 1:] * full[:, 1:OLD]).sum(1))
    torch.testing.assert_close(first, targets[:, 0])


@pytest.mark.parametrize('deterministic', [False, True])
@pytest.mark.parametrize('align_corners', [False, True])
@pytest.mark.parametrize('size', [(3, 4), (20, 9), SIZE])
def test_shrinking_is_the_adjoint_that_autograd_knows(size, align_corners, deterministic):
    grid = pixel_statistics.Grid(SIZE, align_corners)
    source = torch.randn(2, 3, *size, requires_grad=True)
    enlarged = grid.enlarge(source)
    gradient = torch.randn_like(enlarged)
    (expected,) = torch.autograd.grad(enlarged, source, gradient)
    torch.use_deterministic_algorithms(deterministic)
    try:
        assert torch.equal(grid.shrink(gradient, size), expected)
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures('block')
@pytest.mark.parametrize('align_corners', [False, True])
def test_gradients_are_those_of_finite_differences(align_corners):
    student, teacher, labels = draw()
    grid = pixel_statistics.Grid((3, 5), align_corners)
    student, teacher, labels = student[:1, :, :2, :3], teacher[:1, :, :2, :3], labels[:1, 1:4, :5]
    student = student.clone().requires_grad_()
    weights = torch.rand(1, 3, 3, 5, dtype=torch.float64)

    def statistics(logits):
        maps = pixel_statistics.pixel_statistics(logits, labels, (0, 1, OLD, ALL), grid)
        return (maps.groups * weights).sum() + (maps.own * weights[:, 0] * 2).sum()

    def agreement(logits):
        return pixel_statistics.soft_agreement(logits, teacher, grid, 0.7)[0] * weights[:, 1]

    assert torch.autograd.gradcheck(statistics, student)
    assert torch.autograd.gradcheck(agreement, student)


def shared_mib(student, teacher, labels, counts=(OLD, ALL - OLD)):
    pixels = pixels_of(student, labels)
    cross_entropy = of_step(UnbiasedCrossEntropyLoss(), counts).of_pixels(pixels)
    return cross_entropy, UnbiasedKnowledgeDistillationLoss(10.0).of_pixels(pixels, teacher)


def plain_mib(student, teacher, labels):
    student, teacher = enlarge(student), enlarge(teacher)
    return (
        unbiased_cross_entropy(student, labels, OLD).mean(),
        10 * unbiased_knowledge_distillation(student, teacher).mean(),
    )


def shared_lwf(student, teacher, labels):
    pixels = pixels_of(student, labels)
    return (
        PixelCrossEntropyLoss().of_pixels(pixels),
        KnowledgeDistillationLoss(10.0).of_pixels(pixels, teacher),
    )


def plain_lwf(student, teacher, labels):
    student, teacher = enlarge(student), enlarge(teacher)
    each = functional.cross_entropy(student, labels, ignore_index=255, reduction='none')
    return each.mean(), 10 * knowledge_distillation(student, teacher).mean()


def with_gradient(form, student, teacher, labels):
    student = student.clone().requires_grad_()
    values = form(student, teacher, labels)
    return *values, torch.autograd.grad(sum(values), student)[0]


@pytest.mark.usefixtures('block')
@pytest.mark.parametrize(('shared', 'plain'), [(shared_mib, plain_mib), (shared_lwf, plain_lwf)])
@pytest.mark.parametrize('scale', [3.0, 300.0])
def test_shared_losses_are_the_plain_ones(shared, plain, scale):
    # At 300 the probabilities of most classes are zero, even in float64.
    case = draw(scale=scale)
    expected = with_gradient(plain, *case)
    torch.testing.assert_close(with_gradient(shared, *case), expected)
    single = [tensor.float() if tensor.is_floating_point() else tensor for tensor in case]
    values = with_gradient(shared, *single)
    for actual, exact in zip(values, expected, strict=True):
        assert actual.dtype == torch.float32
        assert (actual - exact).abs().max() <= 2e-6 * exact.abs().max()


def test_classes_that_are_ruled_out_have_no_gradient():
    # Logits as large as the labels: enlarging would multiply infinity by zero.
    student, teacher, labels = draw()
    labels = labels[:, 1:4, :4]
    labels = labels.masked_fill((labels >= OLD) & (labels != 255), 0)
    student[:, OLD:] = -torch.inf
    student.requires_grad_()
    losses = shared_mib(student, teacher, labels)
    (gradient,) = torch.autograd.grad(sum(losses), student)
    old = student.detach()[:, :OLD].requires_grad_()
    expected = (
        unbiased_cross_entropy(old, labels, OLD).mean(),
        10 * unbiased_knowledge_distillation(old, teacher).mean(),
    )
    torch.testing.assert_close(losses, expected)
    torch.testing.assert_close(gradient[:, :OLD], torch.autograd.grad(sum(expected), old)[0])
    assert (gradient[:, OLD:] == 0).all()


def test_where_nothing_is_hidden_and_nothing_new_it_is_cross_entropy_and_distillation():
    _, teacher, labels = draw()
    student, labels = draw(seed=1)[0][:, :OLD], labels.clamp(max=OLD - 1)
    torch.testing.assert_close(
        with_gradient(lambda *case: shared_mib(*case, counts=(OLD,)), student, teacher, labels),
        with_gradient(plain_lwf, student, teacher, labels),
    )


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    student, teacher, labels = draw(torch.float32)
    student, teacher = student.to(dtype), teacher.to(dtype)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        *losses, gradient = with_gradient(shared_mib, student, teacher, labels)
    *expected, exact = with_gradient(shared_mib, student.float(), teacher.float(), labels)
    assert [loss.dtype for loss in losses] == [torch.float32] * 2 and gradient.dtype == dtype
    assert torch.equal(torch.stack(losses), torch.stack(expected))
    assert torch.equal(gradient, exact.to(dtype))


def saved_numbers(form, student, teacher, labels):
    """Count the numbers that autograd keeps for the backward pass, inputs included."""
    saved = {}

    def pack(tensor):
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        losses = form(student.clone().requires_grad_(), teacher, labels)
    del losses
    return sum(saved.values()) / student.itemsize


def test_nothing_is_kept_for_every_class_and_pixel():
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(1, 40, 2, 2, generator=generator)
    teacher, labels = student[:, :30].clone(), torch.zeros(1, 32, 32, dtype=torch.long)
    pixels = labels.numel()

    def mib(*case):
        shared = PixelLogits(case[0], case[2], cuts=(1, 30))
        loss = of_step(UnbiasedCrossEntropyLoss(), (30, 10))
        return (
            loss.of_pixels(shared),
            UnbiasedKnowledgeDistillationLoss().of_pixels(shared, case[1]),
        )

    assert saved_numbers(mib, student, teacher, labels) < 20 * pixels


def test_a_pass_is_shared_and_other_groups_are_refused(monkeypatch):
    student, teacher, labels = draw()
    passes = []
    forward = pixel_statistics._Statistics.forward
    monkeypatch.setattr(
        pixel_statistics._Statistics,
        'forward',
        staticmethod(lambda *arguments: passes.append(1) or forward(*arguments)),
    )
    shared_mib(student, teacher, labels)
    assert len(passes) == 1
    with pytest.raises(ValueError, match='3'):
        pixels_of(student, labels).logsumexp(0, 3)


def test_accuracy_is_mmsegs():
    student, _, labels = draw()
    expected = accuracy(enlarge(student), labels, ignore_index=255)
    for pixels in (pixels_of(student, labels), pixels_of(student, labels)):
        torch.testing.assert_close(pixels.accuracy().expand(1), expected, check_dtype=False)
        assert pixels.statistics is not None  # and the second time from the statistics
        torch.testing.assert_close(pixels.accuracy().expand(1), expected, check_dtype=False)
    assert pixels_of(student, torch.full_like(labels, 255)).accuracy() == 0


def test_a_label_outside_of_the_classes_gives_nan():
    student, _, labels = draw()
    labels[1, 3, 3] = ALL
    own = pixels_of(student, labels).own
    assert own[1, 3, 3].isnan() and own.isnan().sum() == 1


def test_outputs_of_different_networks_are_refused():
    student, teacher, labels = draw()
    with pytest.raises(InputError, match='height or width'):
        pixels_of(student, labels).agreement(teacher[:, :, :2])


@pytest.mark.usefixtures('block')
@pytest.mark.parametrize('scale', [3.0, 1000.0])
def test_predictions_are_those_of_the_enlarged_logits(scale):
    logits = draw(scale=scale)[0]
    logits[:, 3] = logits[:, 2]  # of equal logits the first wins
    classes, entropy = pixel_statistics.predictions(logits, pixel_statistics.Grid(SIZE))
    full = enlarge(logits)
    torch.testing.assert_close(entropy, torch.special.entr(full.softmax(1)).sum(1))
    assert torch.equal(classes, full.argmax(dim=1))
    alone = pixel_statistics.predictions(logits[:, :1], pixel_statistics.Grid(SIZE))
    assert (alone[0] == 0).all() and (alone[1] == 0).all()
