"""Identities of VDFD's mathematics, which hold whatever the numbers are."""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from mmseg_cil.errors import InputError
from mmseg_cil.methods.vdfd.compression import OutputGradients, compress, project
from mmseg_cil.methods.vdfd.covariance import PrecisionNetwork, log_det_covariance, node_graph
from mmseg_cil.methods.vdfd.filters import num_rows, order_by_rows, row_means, row_sums, runs
from mmseg_cil.methods.vdfd.gradients import gradient_sums, mean_gradients
from mmseg_cil.methods.vdfd.quadratic_form import ACCUMULATIONS, accumulate, quadratic_form

SHAPES = {'norm': (6,), 'conv': (6, 3, 3, 3), 'wide': (9, 4, 1, 1), 'linear': (6, 5), 'bias': (9,)}


def tensors(seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    drawn = {
        name: torch.randn(shape, generator=generator, dtype=dtype) for name, shape in SHAPES.items()
    }
    return {name: drawn[name] for name in order_by_rows(drawn)}


def rows_of(drawn, average=True):
    return [num_rows(tensor, average) for tensor in drawn.values()]


def test_tensors_of_equal_height_are_neighbours():
    order = order_by_rows(tensors(0))
    assert order == ['norm', 'conv', 'linear', 'wide', 'bias']
    assert list(runs(rows_of(tensors(0)))) == [(0, 3, 6, 0), (3, 2, 9, 18)]


def test_averaging_the_gradient_is_projecting_the_weights():
    """<P G, D> = <G, P D> = means of G times sums of D."""
    gradient, change = tensors(0), tensors(1)
    ours = row_means(gradient.values()) @ row_sums(change.values())

    def averaged(tensor):
        return (
            tensor.flatten(1).mean(dim=1).view(-1, *[1] * (tensor.dim() - 1)).expand_as(tensor)
            if tensor.dim() > 1
            else tensor
        )

    left = sum((averaged(gradient[name]) * change[name]).sum() for name in SHAPES)
    right = sum((gradient[name] * averaged(change[name])).sum() for name in SHAPES)
    torch.testing.assert_close(ours, left)
    torch.testing.assert_close(ours, right)


@pytest.mark.parametrize('rank', [1, 2, None])
def test_products_equal_the_expanded_sum(rank):
    """The official comp_GW expands the gradient to the shape of the weights times the classes."""
    weights = tensors(1, torch.float32)
    rows = rows_of(weights)
    factors = [
        compress(
            torch.randn(sum(rows), 4, generator=torch.Generator().manual_seed(seed)), rows, rank
        )
        for seed in (0, 1, 2)
    ]
    left = torch.stack([u for u, _, _ in factors], dim=1)
    core = torch.stack([s.unsqueeze(-1) * v for _, s, v in factors])
    ours = project(left, core, rows, row_sums(weights.values()))
    for step, (u, s, v) in enumerate(factors):
        expected, first = torch.zeros(4), 0
        for index, weight in enumerate(weights.values()):
            part = u[first : first + len(weight)] @ torch.diag(s[index]) @ v[index]
            shape = (*part.shape[:1], *[1] * (weight.dim() - 1), 4)
            expanded = part.view(shape).expand(*weight.shape, 4)
            expected += (expanded * weight.unsqueeze(-1)).flatten(0, -2).sum(dim=0)
            first += len(weight)
        torch.testing.assert_close(ours[step], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('average', [True, False])
def test_the_curvature_is_where_gradient_descent_turns_from_shrinking_to_growing(average):
    weights = tensors(1)
    rows = rows_of(weights, average)
    start = torch.zeros(4, dtype=torch.float64)
    drawn = torch.randn(sum(rows), 4, generator=torch.Generator().manual_seed(0))
    kept = OutputGradients(
        tuple(weights),
        tuple(rows),
        *compress(drawn, rows, 1),
        start,
        ((0,), (1,), (2,), (3,)),
        average=average,
    )
    limit = 1 / kept.curvature(weights)

    def distance_after(learning_rate):
        moved = [tensor.clone().requires_grad_() for tensor in weights.values()]
        for _ in range(300):
            outputs = project(
                kept.left.double().unsqueeze(1),
                kept.core.double().unsqueeze(0),
                rows,
                row_sums(moved, average),
            )
            gradients = torch.autograd.grad(outputs.square().sum(), moved)
            moved = [
                (tensor - learning_rate * gradient).detach().requires_grad_()
                for tensor, gradient in zip(moved, gradients, strict=True)
            ]
        return float(outputs.square().sum())

    first = float(kept.project(weights).square().sum())
    assert distance_after(0.98 * limit) < first
    assert distance_after(1.02 * limit) > 100 * first


def test_full_rank_and_no_compression_keep_the_gradients():
    rows = rows_of(tensors(0))
    matrix = torch.randn(sum(rows), 4, generator=torch.Generator().manual_seed(0))
    for rank in (None, 4, 100):
        u, s, v = compress(matrix, rows, rank)
        kept = OutputGradients(
            ('a',) * len(rows), tuple(rows), u, s, v, torch.zeros(4), tuple((i,) for i in range(4))
        )
        torch.testing.assert_close(kept.dense(), matrix, rtol=1e-5, atol=1e-5)
    u, s, v = compress(matrix, rows, None)
    assert torch.equal(u, matrix)
    assert (
        OutputGradients(tuple('abcde'), tuple(rows), u, s, v, torch.zeros(4), ()).num_floats
        == matrix.numel() + 4
    )


def test_rank_1_stores_what_the_official_logs_say():
    """Sum over tensors of rows + 1 + classes, and one number a class for the weights."""
    rows = rows_of(tensors(0))
    u, s, v = compress(torch.randn(sum(rows), 4), rows, 1)
    kept = OutputGradients(tuple('abcde'), tuple(rows), u, s, v, torch.zeros(4), ())
    assert kept.num_floats == sum(height + 1 + 4 for height in rows) + 4


def test_more_rank_is_never_worse():
    rows = rows_of(tensors(0))
    matrix = torch.randn(sum(rows), 5, generator=torch.Generator().manual_seed(0))
    errors = []
    for rank in range(1, 6):
        u, s, v = compress(matrix, rows, rank)
        kept = OutputGradients(tuple('abcde'), tuple(rows), u, s, v, torch.zeros(5), ())
        errors.append(float((kept.dense() - matrix).norm()))
    assert all(after < before for before, after in itertools.pairwise(errors))
    assert errors[-1] < 1e-5


def test_bad_input_is_refused():
    with pytest.raises(InputError, match='rank must be at least 1'):
        compress(torch.randn(3, 2), [3], 0)
    with pytest.raises(InputError, match='not finite'):
        compress(torch.full((3, 2), math.nan), [3], 1)


def test_the_first_order_is_exact_for_a_model_linear_in_its_weights():
    """Mean change of the outputs = G^T (w - w*), with G uncompressed."""
    torch.manual_seed(0)
    layer = nn.Linear(7, 4).double()
    images = torch.randn(20, 7, dtype=torch.float64)
    tasks = list(layer.parameters())

    def outputs(batch):
        return layer(batch).sum(dim=0), torch.full((4,), float(len(batch)))

    gradients = mean_gradients(*gradient_sums(outputs, images.split(6), tasks, 4, average=False))
    before = layer(images).mean(dim=0).detach()
    star = row_sums(tasks, average=False).detach()
    with torch.no_grad():
        for weight in tasks:
            weight.add_(torch.randn_like(weight))
    change = layer(images).mean(dim=0).detach() - before
    sums = row_sums(tasks, average=False).detach()
    torch.testing.assert_close(gradients.T @ (sums - star), change)
    # The factors that are kept without compression predict the same, to float32.
    u, s, v = compress(gradients, [len(gradients)], None)
    kept = project(
        u.unsqueeze(1), (s.unsqueeze(-1) * v).unsqueeze(0), [len(gradients)], (sums - star).float()
    )
    torch.testing.assert_close(kept[0].double(), change, rtol=1e-5, atol=1e-5)


def test_averaged_gradients_see_what_moves_the_weights_of_a_row_alike_and_nothing_else():
    torch.manual_seed(0)
    layer = nn.Linear(7, 4).double()
    images = torch.randn(20, 7, dtype=torch.float64)

    def outputs(batch):
        return layer(batch).sum(dim=0), torch.full((4,), float(len(batch)))

    averaged = mean_gradients(*gradient_sums(outputs, images.split(6), list(layer.parameters()), 4))
    before = layer(images).mean(dim=0).detach()

    def predicted_and_actual(weight, bias):
        with torch.no_grad():
            layer.weight.add_(weight)
            layer.bias.add_(bias)
            actual = layer(images).mean(dim=0) - before
            layer.weight.sub_(weight)
            layer.bias.sub_(bias)
        return averaged.T @ row_sums([weight, bias]), actual

    each = torch.randn(4, 1, dtype=torch.float64)
    predicted, actual = predicted_and_actual(each.expand(4, 7), torch.randn(4, dtype=torch.float64))
    torch.testing.assert_close(predicted, actual)
    assert actual.abs().min() > 1e-2
    # Weights of a row that move against each other have the sum 0: filter averaging loses them.
    against = torch.zeros(4, 7, dtype=torch.float64)
    against[:, 2], against[:, 5] = each[:, 0], -each[:, 0]
    predicted, actual = predicted_and_actual(against, torch.zeros(4, dtype=torch.float64))
    assert torch.equal(predicted, torch.zeros_like(predicted))
    assert actual.abs().min() > 1e-2


def test_the_identity_covariance_is_dfd():
    changes = torch.randn(3, 5, 2)
    orthonormal = torch.eye(5).expand(3, 5, 5)
    dfd = quadratic_form(changes)
    torch.testing.assert_close(quadratic_form(changes, orthonormal, form='official'), dfd)
    torch.testing.assert_close(quadratic_form(changes, orthonormal, eps=0.5), 1.5 * dfd)
    torch.testing.assert_close(dfd, changes.square().sum(dim=(1, 2)))


def test_the_quadratic_form_is_that_of_the_precision_matrix():
    changes, factors, eps = torch.randn(2, 5, 1), torch.randn(2, 5, 3), 0.1
    precision = factors @ factors.mT + eps * torch.eye(5)
    expected = changes.mT @ precision @ changes
    torch.testing.assert_close(quadratic_form(changes, factors, eps), expected.flatten())


@pytest.mark.parametrize('classes', [2, 10, 21, 151])
def test_the_log_determinant_stays_within_its_bounds(classes):
    eps, width = 1e-3, 2 * classes
    upper = -(math.log(classes + eps) + (classes - 1) * math.log(eps))
    lower = -classes * math.log(1 + eps)
    equal = functional.normalize(torch.ones(1, classes, width), dim=2)
    orthonormal = torch.eye(classes, width)[None]
    drawn = functional.normalize(torch.randn(1, classes, width), dim=2)
    values = [float(log_det_covariance(rows, eps)) for rows in (orthonormal, drawn, equal)]
    assert values[0] == pytest.approx(lower, abs=1e-4)
    assert values[2] == pytest.approx(upper, rel=1e-5)
    assert values[0] <= values[1] <= values[2] and math.isfinite(values[2])


def test_the_log_determinant_equals_the_official_expression_where_that_is_finite():
    factors = functional.normalize(torch.randn(2, 6, 9), dim=2)
    official = (1 / torch.det(factors @ factors.mT + 1e-3 * torch.eye(6))).log()
    torch.testing.assert_close(log_det_covariance(factors, 1e-3), official, rtol=1e-4, atol=1e-4)
    # The worst case of 21 classes, where the official one is infinite.
    rank_1 = torch.ones(1, 21, 1)
    assert float(log_det_covariance(rank_1, 1e-3)) == pytest.approx(135.11, abs=0.01)
    assert not torch.isfinite((1 / torch.det(torch.ones(21, 21) + 1e-3 * torch.eye(21))).log())


def test_absent_nodes_do_not_count():
    factors = functional.normalize(torch.randn(1, 4, 6), dim=2)
    changes = torch.randn(1, 4, 1)
    present = torch.tensor([[True] * 4 + [False] * 3])
    padded = functional.pad(factors, (0, 0, 0, 3))
    torch.testing.assert_close(
        log_det_covariance(padded, 0.01, present), log_det_covariance(factors, 0.01)
    )
    torch.testing.assert_close(
        quadratic_form(functional.pad(changes, (0, 0, 0, 3)), padded, 0.01),
        quadratic_form(changes, factors, 0.01),
    )


def test_the_likelihood_is_best_where_the_covariance_is_that_of_the_changes():
    """E[quadratic form] + log-determinant is stationary at Sigma = E[delta delta^T]."""
    torch.manual_seed(0)
    changes = torch.randn(3, 3, dtype=torch.float64) @ torch.randn(4000, 3, 1, dtype=torch.float64)
    precision = torch.linalg.inv((changes @ changes.mT).mean(dim=0))
    eps = 1e-4
    root = torch.linalg.cholesky(precision - eps * torch.eye(3)).requires_grad_()
    mean = quadratic_form(changes, root.expand(4000, 3, 3), eps).mean()
    value = mean + log_det_covariance(root[None], eps)[0]
    (gradient,) = torch.autograd.grad(value, root)
    assert gradient.abs().max() < 1e-9 * root.abs().max()
    assert float(mean.detach()) == pytest.approx(3.0)


def test_minimising_the_log_determinant_alone_makes_rows_orthogonal():
    torch.manual_seed(0)
    raw = torch.randn(1, 4, 8, requires_grad=True)
    optimizer = torch.optim.Adam([raw], lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        rows = functional.normalize(raw, dim=2)
        log_det_covariance(rows, 1e-3).sum().backward()
        optimizer.step()
    torch.testing.assert_close((rows @ rows.mT)[0], torch.eye(4), rtol=0, atol=1e-2)


def test_precision_follows_a_permutation_of_the_classes():
    torch.manual_seed(0)
    network, rows, order = PrecisionNetwork(32), torch.randn(6, 32), torch.randperm(6)
    plain, permuted = network(*node_graph([rows])), network(*node_graph([rows[order]]))
    torch.testing.assert_close(permuted, plain[order], rtol=1e-4, atol=1e-5)


def test_steps_do_not_see_each_other_in_the_graph():
    torch.manual_seed(0)
    network = PrecisionNetwork(32, residual=True)
    steps = [torch.randn(3, 32), torch.randn(5, 32)]
    together = network(*node_graph(steps))
    apart = torch.cat([network(*node_graph([rows])) for rows in steps])
    torch.testing.assert_close(together, apart)


def test_the_residual_form_has_the_official_size():
    network = PrecisionNetwork(512, residual=True)
    assert sum(parameter.numel() for parameter in network.parameters()) == 525312
    with pytest.raises(ValueError, match='residual'):
        PrecisionNetwork(512, out_channels=64, residual=True)


def test_the_log_determinant_moves_the_graph_network_but_not_the_weights():
    torch.manual_seed(0)
    classifier = torch.randn(4, 16, requires_grad=True)
    network = PrecisionNetwork(16)
    rows = network(*node_graph([classifier.detach()]))
    log_det_covariance(rows[None], 1e-3).sum().backward()
    assert classifier.grad is None
    assert all(
        parameter.grad is not None and parameter.grad.norm() > 0
        for parameter in network.parameters()
    )


def test_the_official_class_incremental_code_counts_the_last_step_only_and_squared():
    quadratics, log_dets = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.1, 0.2, 0.3])
    assert float(accumulate(quadratics, log_dets)) == pytest.approx(6.6)
    official = accumulate(quadratics, log_dets, 'official_class_incremental')
    assert float(official) == pytest.approx(9 * 3.0 + 0.3)


def test_the_mean_and_the_last_step_are_other_accumulations():
    quadratics, log_dets = torch.tensor([1.0, 2.0, 6.0]), torch.tensor([0.1, 0.2, 0.6])
    assert float(accumulate(quadratics, log_dets, 'mean')) == pytest.approx(3.3)
    assert float(accumulate(quadratics, log_dets, 'last')) == pytest.approx(6.6)
    # The mean does not change where every earlier step counts twice.
    twice = accumulate(quadratics.repeat(2), log_dets.repeat(2), 'mean')
    assert float(twice) == pytest.approx(3.3)


@pytest.mark.parametrize('accumulation', ACCUMULATIONS)
def test_with_one_earlier_step_every_accumulation_is_the_sum(accumulation):
    quadratics, log_dets = torch.tensor([3.0]), torch.tensor([0.5])
    assert float(accumulate(quadratics, log_dets, accumulation)) == pytest.approx(3.5)
