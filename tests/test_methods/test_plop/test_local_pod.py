"""Local POD: equality with the official numbers, and the fast form with the plain one."""

import itertools
import math

import pytest
import torch
from golden_cases import deviation, files, load

from mmseg_cil.errors import InputError
from mmseg_cil.methods.plop.local_pod import (
    fold_new_classes,
    local_pod_distance,
    local_pod_loss,
    region_edges,
)
from mmseg_cil.methods.plop.reference import local_pod

SIZES = [(8, 8), (9, 9), (13, 7), (5, 12), (3, 2), (1, 1), (4, 6)]


@files('local_pod')
def test_the_embedding_is_the_official_one(path):
    case = load(path)
    embedding = local_pod(case['x'], case['scales'].tolist(), regions='official')
    assert deviation(embedding, case['embedding']) < 1e-6


@files('pod_local')
def test_loss_and_gradients_are_the_official_ones(path):
    case = load(path)
    count = sum(key.startswith('student_') for key in case)
    students = [case[f'student_{i}'].requires_grad_() for i in range(count)]
    teachers = [case[f'teacher_{i}'] for i in range(count)]
    maps = [*students[:-1], fold_new_classes(students[-1], case['n_old'])]
    factors = [case['pod_factor']] * (count - 1) + [case['logits_factor']]
    growth = math.sqrt(case['n_current'] / case['n_new'])
    parts = local_pod_loss(maps, teachers, factors, growth, regions='official')
    parts.sum().backward()
    assert deviation(parts, case['per_map']) < 1e-5
    assert deviation(parts.sum(), case['loss']) < 1e-5
    for i, student in enumerate(students):
        assert deviation(student.grad, case[f'grad_student_{i}']) < 1e-5


@pytest.mark.parametrize('size', SIZES, ids=str)
@pytest.mark.parametrize('scales', [(1, 2, 4), (1, 3), (2, 3)], ids=str)
def test_the_fast_form_is_the_plain_one(size, scales):
    torch.manual_seed(0)
    student = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(2, 3, *size, dtype=torch.float64)
    plain = (local_pod(student**2, scales) - local_pod(teacher**2, scales)).norm(dim=1)
    (expected,) = torch.autograd.grad(plain.sum(), student)
    fast = local_pod_distance(student, teacher, scales)
    (actual,) = torch.autograd.grad(fast.sum(), student)
    torch.testing.assert_close(fast, plain)
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize('size', [(9, 9), (13, 13), (12, 9), (7, 7)], ids=str)
def test_the_fast_form_drops_what_the_official_regions_drop(size):
    torch.manual_seed(0)
    student = torch.randn(2, 3, *size, dtype=torch.float64)
    teacher = torch.randn(2, 3, *size, dtype=torch.float64)
    pods = [local_pod(feature_map**2, regions='official') for feature_map in (student, teacher)]
    fast = local_pod_distance(student, teacher, regions='official')
    torch.testing.assert_close(fast, (pods[0] - pods[1]).norm(dim=1))


@pytest.mark.parametrize('size', SIZES, ids=str)
def test_even_regions_cover_the_map_once(size):
    for scale in (1, 2, 4):
        for edges, length in zip(region_edges(*size, scale), size, strict=True):
            assert edges[0] == 0 and edges[-1] == length
            sides = {after - before for before, after in itertools.pairwise(edges)}
            assert min(sides) >= 1 and max(sides) - min(sides) <= 1
            assert len(edges) - 1 == min(scale, length)


def test_even_and_official_regions_agree_where_the_scales_divide_a_square():
    assert region_edges(32, 32, 4) == region_edges(32, 32, 4, 'official')


def test_equal_maps_have_neither_distance_nor_gradient():
    maps = torch.randn(2, 3, 6, 5, requires_grad=True)
    distance = local_pod_distance(maps, maps.detach().clone())
    distance.sum().backward()
    assert (distance == 0).all() and (maps.grad == 0).all()


def test_half_precision_is_pooled_in_float32():
    maps = torch.full((1, 1, 64, 64), 200.0, dtype=torch.float16)
    distance = local_pod_distance(maps, torch.zeros_like(maps))
    # 200^2 and its sums exceed float16; every mean is 40000.
    assert distance.item() == pytest.approx(40000 * math.sqrt(64 * 2 * 7), rel=1e-6)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_autocast_changes_nothing(dtype):
    """Squares of a large map pass float16's greatest number, which autocast must not see."""
    torch.manual_seed(0)
    teacher, student = 4 * torch.randn(2, 64, 32, 32), 4 * torch.randn(2, 64, 32, 32)
    results = []
    for enabled in (False, True):
        leaf = student.clone().requires_grad_()
        with torch.autocast('cpu', dtype=dtype, enabled=enabled):
            loss = local_pod_loss([leaf], [teacher], [1.0])
        loss.sum().backward()
        results.append((loss.detach(), leaf.grad))
    (expected, expected_gradient), (found, gradient) = results
    assert expected.item() ** 2 > torch.finfo(torch.float16).max
    assert torch.equal(found, expected) and torch.equal(gradient, expected_gradient)


def test_new_classes_are_added_to_the_background():
    logits = torch.arange(5.0).view(1, 5, 1, 1)
    assert fold_new_classes(logits, 3).flatten().tolist() == [7.0, 1.0, 2.0]
    assert fold_new_classes(logits, 5) is logits


def test_what_cannot_be_computed_is_refused():
    with pytest.raises(InputError, match="regions='even'"):
        region_edges(4, 9, 2, 'official')
    with pytest.raises(InputError, match='regions must be'):
        region_edges(4, 4, 2, 'odd')
    with pytest.raises(InputError, match='equal shape'):
        local_pod_loss([torch.zeros(1, 2, 4, 4)], [torch.zeros(1, 3, 4, 4)], [1.0])
