"""Sums of sigmoid losses and of chosen logits: equal to those of the enlarged logits."""

import pytest
import torch
from torch.nn import functional

from mmseg_cil.losses import pixel_statistics
from mmseg_cil.losses.pixel_logits import PixelLogits

SIZE, OLD, ALL = (11, 14), 4, 7


@pytest.fixture(params=[2**22, 2 * 11 * 14 * 2, 1], ids=['one block', 'two classes', 'one class'])
def block(request, monkeypatch):
    """However many classes are enlarged at a time, results are the same."""
    monkeypatch.setitem(pixel_statistics._BLOCK, 'cpu', request.param)


def draw(classes, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(2, classes, 3, 4, generator=generator, dtype=dtype)


def drawn_labels():
    labels = torch.randint(0, ALL, (2, *SIZE), generator=torch.Generator().manual_seed(2))
    labels[0, :2] = 255
    return labels


def enlarge(logits, align_corners=False):
    return functional.interpolate(logits, SIZE, mode='bilinear', align_corners=align_corners)


def assert_same(found, expected, student):
    """Compare values, and gradients for weights that differ from pixel to pixel."""
    torch.testing.assert_close(found, expected)
    weights = torch.rand_like(found)
    gradients = [
        torch.autograd.grad((weights * value).sum(), student, retain_graph=True)[0]
        for value in (found, expected)
    ]
    torch.testing.assert_close(*gradients)


@pytest.mark.usefixtures('block')
@pytest.mark.parametrize('align_corners', [False, True])
@pytest.mark.parametrize(('start', 'stop'), [(0, None), (1, OLD), (OLD, ALL), (3, 3)])
def test_sums_are_binary_cross_entropies(start, stop, align_corners):
    student = draw(ALL, 0).requires_grad_()
    pixels = PixelLogits(student, drawn_labels(), align_corners=align_corners)
    full = enlarge(student, align_corners)[:, start:stop]

    def plain(targets):
        return functional.binary_cross_entropy_with_logits(full, targets, reduction='none').sum(1)

    assert_same(pixels.sigmoid_sum(start, stop), plain(torch.zeros_like(full)), student)
    teacher = draw(ALL, 1)
    soft = enlarge(teacher, align_corners).sigmoid()[:, start:stop]
    found = pixels.sigmoid_sum(start, stop, teacher[:, start:stop])
    assert_same(found, plain(soft), student)


@pytest.mark.usefixtures('block')
@pytest.mark.parametrize(('start', 'stop'), [(0, None), (1, OLD), (OLD, ALL)])
def test_the_logit_of_a_label_outside_of_the_classes_is_0(start, stop):
    student, labels = draw(ALL, 0).requires_grad_(), drawn_labels()
    total, own = PixelLogits(student, labels).sigmoids_of_labels(start, stop)
    # An ignored pixel counts as class 0.
    index = labels.masked_fill(labels == 255, 0)
    logits = enlarge(student).gather(1, index.unsqueeze(1)).squeeze(1)
    inside = (index >= start) & (index < (stop or ALL))
    assert inside.any() and (start == 0 or not inside.all())
    assert_same(own, logits.masked_fill(~inside, 0.0), student)
    # Both maps of one pass have their gradients at once.
    positives = functional.one_hot(index, ALL).movedim(3, 1).to(student)[:, start:stop]
    full = enlarge(student)[:, start:stop]
    expected = functional.binary_cross_entropy_with_logits(full, positives, reduction='none')
    assert_same(total - own, expected.sum(1), student)


@pytest.mark.usefixtures('block')
def test_logits_of_several_classes_of_a_pixel_are_added_up():
    student = draw(ALL, 0).requires_grad_()
    classes = torch.randint(0, ALL, (2, 3, *SIZE), generator=torch.Generator().manual_seed(4))
    # A class may be chosen several times.
    classes[:, 1, :5] = classes[:, 0, :5]
    weights = torch.rand(2, 3, *SIZE, dtype=torch.float64)
    found = PixelLogits(student, size=SIZE).weighted(weights, classes)
    expected = (weights * enlarge(student).gather(1, classes)).sum(1)
    assert_same(found, expected, student)


@pytest.mark.usefixtures('block')
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_log_sum_exps_are_over_the_classes_of_each_image(dtype):
    student = draw(ALL, 0, dtype).requires_grad_()
    among = torch.zeros(2, ALL, dtype=torch.bool)
    among[0, [0, 2, 6]] = among[1, [5]] = True
    found = PixelLogits(student, size=SIZE).logsumexp_among(among)
    full = enlarge(student)
    expected = torch.stack([full[0, [0, 2, 6]].logsumexp(0), full[1, 5]])
    assert_same(found, expected, student)


def test_labels_that_are_no_class_give_nan():
    student, labels = draw(ALL, 0), drawn_labels()
    labels[1, 3, 3] = ALL
    _, own = PixelLogits(student, labels).sigmoids_of_labels(OLD)
    assert own.isnan().sum() == 1 and own[1, 3, 3].isnan()
    classes = labels.unsqueeze(1)
    found = PixelLogits(student, size=SIZE).weighted(torch.ones(2, 1, *SIZE), classes)
    assert torch.equal(found.isnan(), labels >= ALL)


def test_half_precision_is_computed_in_float32():
    student, teacher = draw(ALL, 0).half(), draw(OLD, 1).half()
    pixels = PixelLogits(student, drawn_labels())
    precise = PixelLogits(student.float(), drawn_labels())
    found = pixels.sigmoid_sum(0, OLD, teacher)
    assert found.dtype == torch.float32
    assert torch.equal(found, precise.sigmoid_sum(0, OLD, teacher.float()))
