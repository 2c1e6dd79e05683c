"""The damped quadratic form: its definition, its limits, and what it is for."""

import pytest
import torch

from mmseg_cil.methods.vdfd.quadratic_form import damped_quadratic_form, quadratic_form

EPS = 1e-3


def draw(nodes=3, cells=1, steps=2, weights=20):
    torch.manual_seed(0)
    gradients = torch.randn(steps, weights, nodes * cells, dtype=torch.float64)
    factors = torch.nn.functional.normalize(
        torch.randn(steps, nodes, 4, dtype=torch.float64), dim=2
    )
    changes = torch.randn(steps, nodes, cells, dtype=torch.float64)
    return gradients, factors, changes


@pytest.mark.parametrize('cells', [1, 4])
@pytest.mark.parametrize('form', ['paper', 'official'])
def test_without_damping_it_is_the_quadratic_form(cells, form):
    _, factors, changes = draw(cells=cells)
    none = torch.zeros(2, 3 * cells, 3 * cells, dtype=torch.float64)
    for given in (factors, None):
        expected = quadratic_form(changes, given, EPS, form)
        torch.testing.assert_close(damped_quadratic_form(changes, none, given, EPS, form), expected)


@pytest.mark.parametrize('cells', [1, 2])
def test_it_is_the_moreau_envelope_in_the_weights(cells):
    """Its value and gradient are those of the best weights near the present ones."""
    gradients, factors, _ = draw(cells=cells, steps=1)
    lam, eta = 3.0, 0.05
    matrix = gradients[0]
    precision = torch.kron(
        factors[0] @ factors[0].T + EPS * torch.eye(3).double(), torch.eye(cells).double()
    )
    form = matrix @ precision @ matrix.T
    w = torch.randn(20, dtype=torch.float64, requires_grad=True)
    with torch.no_grad():
        # The gradient of lam u'Fu + |u - w|^2 / (2 eta) is zero here.
        best = torch.linalg.solve(2 * lam * eta * form + torch.eye(20).double(), w)
        value = lam * best @ form @ best + (best - w).square().sum() / (2 * eta)
    damping = (2 * eta * lam * matrix.T @ matrix).unsqueeze(0)
    found = lam * damped_quadratic_form((matrix.T @ w).view(1, 3, cells), damping, factors, EPS)[0]
    torch.testing.assert_close(found, value)
    (gradient,) = torch.autograd.grad(found, w)
    torch.testing.assert_close(gradient, (w.detach() - best) / eta)


def test_gradient_descent_is_stable_where_it_diverged():
    gradients, factors, _ = draw(steps=1)
    matrix, eta = 30 * gradients[0], 0.01
    damping = (2 * eta * matrix.T @ matrix).unsqueeze(0)

    def walk(form):
        w = torch.ones(20, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.SGD([w], lr=eta / 2, momentum=0.9, nesterov=True)
        for _ in range(300):
            optimizer.zero_grad()
            form((matrix.T @ w).view(1, 3, 1)).sum().backward()
            optimizer.step()
        return (matrix.T @ w).abs().max().item()

    assert not walk(lambda changes: quadratic_form(changes, factors, EPS)) < 1e6
    assert walk(lambda changes: damped_quadratic_form(changes, damping, factors, EPS)) < 1e-6


def test_adamw_needs_no_damping():
    """Its steps do not grow with the gradient: it comes down whatever the curvature is."""
    gradients, factors, _ = draw(steps=1)
    changes = []
    for steepness in (1.0, 30.0, 1e3):
        matrix = steepness * gradients[0]
        w = torch.ones(20, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.AdamW([w], lr=0.005)
        for _ in range(300):
            optimizer.zero_grad()
            quadratic_form((matrix.T @ w).view(1, 3, 1), factors, EPS).sum().backward()
            optimizer.step()
        changes.append(((gradients[0].T @ w).norm() / gradients[0].sum(dim=0).norm()).item())
    assert max(changes) < 0.2
    assert changes == pytest.approx([changes[0]] * 3, rel=1e-2)


def test_where_the_form_is_flat_nothing_changes():
    gradients, factors, changes = draw()
    gram = gradients.transpose(1, 2) @ gradients
    plain = quadratic_form(changes, factors, EPS)
    errors = [
        (damped_quadratic_form(changes, scale * gram, factors, EPS) / plain - 1).abs().max()
        for scale in (1e-4, 1e-5, 1e-6)
    ]
    assert errors[0] > 5 * errors[1] > 25 * errors[2] and errors[2] < 1e-3


def test_the_graph_network_learns_through_it():
    gradients, factors, changes = draw()
    factors.requires_grad_()
    gram = gradients.transpose(1, 2) @ gradients
    damped_quadratic_form(changes, gram, factors, EPS).sum().backward()
    assert torch.isfinite(factors.grad).all() and (factors.grad != 0).any()
