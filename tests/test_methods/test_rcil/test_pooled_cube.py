"""Pooled cube: equality with the official numbers, and the fast form with the plain one."""

import math

import pytest
import torch
from golden_cases import GOLDEN, deviation, load

from mmseg_cil.errors import InputError
from mmseg_cil.methods.plop.local_pod import fold_new_classes
from mmseg_cil.methods.rcil.pooled_cube import (
    pooled_cube_distance,
    pooled_cube_loss,
    window_overlaps,
)
from mmseg_cil.methods.rcil.reference import channel_distance, spatial_distance

CASES = [
    GOLDEN / f'rcil_{kind}__voc_{task}.npz'
    for kind in ('spatial', 'channel')
    for task in ('15-1', '15-5')
]
#: Height and width, also below the smallest window and not square.
SHAPES = [(32, 32), (13, 29), (7, 3), (24, 1), (1, 1)]


def pair(shape, count=2, channels=5, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    teacher = torch.randn(count, channels, *shape, generator=generator, dtype=dtype)
    student = teacher + 0.3 * torch.randn(teacher.shape, generator=generator, dtype=dtype)
    return student.requires_grad_(), teacher


def plain_distance(student, teacher, spatial, channel):
    return spatial * spatial_distance(student, teacher) + channel * channel_distance(
        student, teacher
    )


@pytest.mark.parametrize('path', CASES, ids=[path.stem for path in CASES])
@pytest.mark.parametrize('form', ['plain', 'fast'])
def test_loss_and_gradients_are_the_official_ones(path, form, monkeypatch):
    if form == 'plain':
        monkeypatch.setattr(
            'mmseg_cil.methods.rcil.pooled_cube.pooled_cube_distance',
            lambda *given: plain_distance(*given[:-1]),
        )
    case = load(path)
    count = sum(key.startswith('student_') for key in case)
    students = [case[f'student_{i}'].requires_grad_() for i in range(count)]
    teachers = [case[f'teacher_{i}'] for i in range(count)]
    maps = [*students[:-1], fold_new_classes(students[-1], case['n_old'])]
    inner, last = 0.01, 5e-4
    spatial, channel = [inner] * (count - 1) + [last], [inner] * (count - 2) + [last]
    if 'spatial' in path.stem:
        channel = []
    else:
        spatial = [0.0] * count
    growth = math.sqrt(case['n_current'] / case['n_new'])
    parts = pooled_cube_loss(maps, teachers, spatial, channel, growth)
    parts.sum().backward()
    # The numbers differ by up to 2e-6 of their largest when they are computed in float64.
    assert deviation(parts, case['per_map']) < 2e-6
    assert deviation(parts.sum(), case['loss']) < 2e-6
    for i, student in enumerate(students):
        expected = case[f'grad_student_{i}']
        if expected.any():
            assert deviation(student.grad, expected) < 2e-6
        else:
            assert student.grad is None or not student.grad.any()


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('spatial, channel', [(1.0, 0.0), (0.0, 1.0), (0.3, 2.0)])
def test_the_fast_form_is_the_plain_one(shape, spatial, channel):
    student, teacher = pair(shape)
    exact = [feature_map.detach().double() for feature_map in (student, teacher)]
    expected = plain_distance(exact[0].requires_grad_(), exact[1], spatial, channel)
    actual = pooled_cube_distance(student, teacher, spatial, channel)
    assert deviation(actual, expected.detach()) < 2e-6
    upstream = torch.tensor([0.7, -1.3])
    (slope,) = torch.autograd.grad(actual, student, upstream)
    (exact_slope,) = torch.autograd.grad(expected, exact[0], upstream.double())
    assert deviation(slope, exact_slope) < 5e-6


@pytest.mark.parametrize('period', [2, 4, 24])
def test_precision_holds_where_windows_cancel(period):
    # Squares differ by +1 and -1 in turn, so windows sum to zero but at the border.
    sign = torch.where(torch.arange(64) % period < period // 2, 1.0, -1.0).expand(1, 4, 64, 64)
    teacher = torch.full_like(sign, 2.0)
    student = (sign + 4.0).sqrt().requires_grad_()
    exact = student.detach().double().requires_grad_()
    expected = spatial_distance(exact, teacher.double())
    actual = pooled_cube_distance(student, teacher, channel=0.0)
    assert deviation(actual, expected.detach()) < 1e-5
    slopes = [
        torch.autograd.grad(value.sum(), leaf)[0]
        for value, leaf in ((actual, student), (expected, exact))
    ]
    assert deviation(slopes[0], slopes[1]) < 1e-4


def test_nearly_equal_maps_keep_their_precision():
    student, teacher = pair((16, 16))
    student = (teacher + 1e-6 * (student.detach() - teacher)).requires_grad_()
    exact = spatial_distance(student.detach().double(), teacher.double())
    assert deviation(pooled_cube_distance(student, teacher, channel=0.0), exact) < 1e-5


def test_gradients_are_those_of_finite_differences():
    student, teacher = pair((6, 5), channels=3, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda leaf: pooled_cube_distance(leaf, teacher, 0.5, 1.5, (2, 3, 4)), student
    )


def test_odd_windows_are_those_of_a_padded_pooling():
    student, teacher = pair((9, 11))
    expected = spatial_distance(student, teacher, (3, 5))
    assert (
        deviation(pooled_cube_distance(student, teacher, 1.0, 0.0, (3, 5)), expected.detach())
        < 2e-6
    )


def test_equal_maps_have_neither_distance_nor_gradient():
    student, _ = pair((8, 8))
    distance = pooled_cube_distance(student, student.detach().clone())
    distance.sum().backward()
    assert not distance.any() and not student.grad.any()


def test_a_constant_difference_in_closed_form():
    # A map of 1 x 1 pixels: each of the four windows of an even side holds the pixel.
    student = torch.full((1, 1, 1, 1), 3.0, requires_grad=True)
    teacher = torch.ones(1, 1, 1, 1)
    expected = sum(8.0 * 2.0 / size**2 for size in (4, 8)) / 2
    assert pooled_cube_distance(student, teacher, 1.0, 0.0, (4, 8)).item() == pytest.approx(
        expected
    )
    assert pooled_cube_distance(student, teacher, 0.0, 1.0).item() == pytest.approx(8.0 / 3.0)


def test_window_overlaps_count_windows():
    overlaps = window_overlaps(5, 2, torch.float32, torch.device('cpu'))
    expected = 2.0 * torch.eye(5)
    expected += torch.diag(torch.ones(4), 1) + torch.diag(torch.ones(4), -1)
    assert torch.equal(overlaps, expected)


@pytest.mark.parametrize('kind', [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(kind):
    student, teacher = (feature_map.detach().to(kind) for feature_map in pair((16, 16)))
    student.requires_grad_()
    expected = plain_distance(student.detach().float(), teacher.float(), 1.0, 1.0)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        distance = pooled_cube_distance(student, teacher)
    distance.sum().backward()
    assert distance.dtype == torch.float32 and student.grad.dtype == kind
    assert deviation(distance, expected) < 2e-6


def test_what_is_kept_for_the_backward_pass_is_one_map():
    student, teacher = pair((16, 16))
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: kept.append(tensor.numel()), lambda tensor: tensor
    ):
        pooled_cube_distance(student, teacher)
    assert kept == [student.numel()]


def test_wrong_input_is_refused():
    student, teacher = pair((8, 8))
    with pytest.raises(InputError, match='differ in shape'):
        pooled_cube_distance(student, teacher[:, 1:])
    with pytest.raises(InputError, match='positive'):
        pooled_cube_distance(student, teacher, sizes=(0, 4))
    with pytest.raises(InputError, match='do not fit'):
        pooled_cube_loss([student], [teacher], [1.0, 1.0], [])
