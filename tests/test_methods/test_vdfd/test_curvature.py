"""The curvature of the penalties, their damping, and weights chosen by curvature."""

import copy
from dataclasses import replace

import pytest
import torch
from drawn_gradients import (
    Network,
    body,
    build,
    gradients_of,
    move,
    over_weights,
    state_of,
)

from mmseg_cil.errors import InputError
from mmseg_cil.methods.vdfd.quadratic_form import ACCUMULATIONS
from mmseg_cil.methods.vdfd.reference import weight_for_curvature
from mmseg_cil.methods.vdfd.stability import diverging_rate


@pytest.mark.parametrize('kind', ['DFDRegulariser', 'VDFDRegulariser'])
@pytest.mark.parametrize('accumulation', ACCUMULATIONS)
def test_damped_for_a_step_size_no_curvature_is_above_its_inverse(walked, kind, accumulation):
    network, steps = walked
    step_size, curvature = 1e-3, {}
    for damping in (None, 0.0):
        torch.manual_seed(0)
        regulariser = build(
            kind, network, loss_weight=50.0, accumulation=accumulation, damping=damping
        )
        regulariser.set_earlier_steps(steps, network, state_of(network), step_size)
        parameters = list(body(network).values())

        def slope(at, regulariser=regulariser, parameters=parameters):
            with torch.no_grad():
                for parameter, value in zip(parameters, at, strict=True):
                    parameter.copy_(value)
            loss = next(iter(regulariser(network).values()))
            return torch.autograd.grad(loss, parameters)

        start = [parameter.detach().clone() for parameter in parameters]
        base, direction = slope(start), [torch.randn_like(tensor) for tensor in start]
        for _ in range(30):  # power iteration: the form is quadratic, so differences are exact
            size = sum(tensor.square().sum() for tensor in direction).sqrt()
            there = slope([a + b / size for a, b in zip(start, direction, strict=True)])
            direction = [a - b for a, b in zip(there, base, strict=True)]
        curvature[damping] = float(sum(tensor.square().sum() for tensor in direction).sqrt())
        slope(start)
    # The config's own 0 goes before what the hook tells.
    assert curvature[0.0] > 2 / step_size
    assert curvature[None] < 1.001 / step_size


@pytest.mark.parametrize(('momentum', 'nesterov'), [(0.0, False), (0.9, False), (0.9, True)])
@pytest.mark.parametrize(
    'accumulation', ['sum', pytest.param('official_class_incremental', marks=pytest.mark.slow)]
)
def test_sgd_turns_from_shrinking_to_growing_where_the_curvature_says(
    momentum, nesterov, accumulation
):
    torch.manual_seed(0)
    network = Network()
    # One step; the official form counts it four times where it is the second of two.
    steps = [gradients_of(body(network), (0, 1, 2))]
    if accumulation != 'sum':
        steps.insert(0, gradients_of(body(network), (3,), seed=1))
    regulariser = build('DFDRegulariser', loss_weight=3.0, accumulation=accumulation)
    regulariser.set_earlier_steps(steps, network, state_of(network))
    limit = diverging_rate(regulariser.curvature(steps, state_of(network)), momentum, nesterov)
    start = copy.deepcopy(network.state_dict())

    def loss_after(rate, iterations):
        network.load_state_dict(start)
        move(network, 2)
        optimizer = torch.optim.SGD(
            list(body(network).values()), lr=rate, momentum=momentum, nesterov=nesterov
        )
        for _ in range(iterations):
            optimizer.zero_grad()
            loss = regulariser(network)['loss_dfd']
            if loss > 1e9:  # or it ends in infinity less infinity
                break
            loss.backward()
            optimizer.step()
        return float(loss.detach())

    first = loss_after(0.0, 1)
    assert loss_after(0.98 * limit, 600) < 0.1 * first
    assert loss_after(1.02 * limit, 600) > 10 * first


def test_the_curvature_is_that_of_the_undamped_loss(walked):
    network, steps = walked
    weights = state_of(network)
    plain, damped = build('DFDRegulariser'), build('DFDRegulariser', loss_weight=5.0, damping=0.1)
    expected = 2 * sum(step.curvature(weights) for step in steps)
    assert plain.curvature(steps, weights) == pytest.approx(expected)
    assert damped.curvature(steps, weights) == pytest.approx(5 * expected)
    assert (plain.effective_damping(0.3), damped.effective_damping(0.3)) == (0.3, 0.1)


def steepness(regulariser, network):
    """The largest second derivative of a loss in the weights, by power iteration."""
    parameters = list(body(network).values())
    start = [parameter.detach().clone() for parameter in parameters]

    def slope(at):
        with torch.no_grad():
            for parameter, value in zip(parameters, at, strict=True):
                parameter.copy_(value)
        loss = regulariser(network)[regulariser.loss_name]
        return torch.autograd.grad(loss, parameters)

    base, direction = slope(start), [torch.randn_like(tensor) for tensor in start]
    for _ in range(60):  # the form is quadratic, so differences are exact
        size = sum(tensor.square().sum() for tensor in direction).sqrt()
        there = slope([a + b / size for a, b in zip(start, direction, strict=True)])
        direction = [a - b for a, b in zip(there, base, strict=True)]
    slope(start)
    return float(sum(tensor.square().sum() for tensor in direction).sqrt())


@pytest.mark.parametrize('accumulation', ACCUMULATIONS)
@pytest.mark.parametrize('rank', [1, 2, None])
def test_the_weight_can_be_chosen_for_a_curvature(accumulation, rank):
    """The largest second derivative of the whole loss, not the sum of the steps' largest."""
    torch.manual_seed(0)
    network = Network()
    steps = [
        gradients_of(body(network), nodes, seed, rank)
        for seed, nodes in enumerate([(0, 1, 2), (3,), (4,)])
    ]
    options = dict(accumulation=accumulation, damping=0.0)
    plain = build('DFDRegulariser', loss_weight=7.0, **options)
    chosen = build('DFDRegulariser', loss_weight=7.0, curvature=50.0, **options)
    for regulariser in (plain, chosen):
        regulariser.set_earlier_steps(steps, network, state_of(network))
    assert plain.weight == 7.0
    assert steepness(chosen, network) == pytest.approx(50.0, rel=1e-3)
    assert steepness(plain, network) / plain.weight == pytest.approx(50 / chosen.weight, rel=1e-3)
    move(network, 2)
    ratio = float((chosen(network)['loss_dfd'] / plain(network)['loss_dfd']).detach())
    assert ratio == pytest.approx(chosen.weight / 7.0, rel=1e-5)
    dense = [over_weights(step, network) for step in steps]
    counted = {
        'sum': dense,
        'mean': [step / 3**0.5 for step in dense],
        'last': dense[-1:],
        'official_class_incremental': [3 * dense[-1]],
    }[accumulation]
    assert chosen.weight == pytest.approx(weight_for_curvature(counted, 50.0), rel=1e-5)
    # The curvature that the log gives is at least that, and the same at a second call.
    assert chosen.curvature(steps, state_of(network)) >= 50.0 * (1 - 1e-6)
    again = build('DFDRegulariser', curvature=50.0, **options)
    again.set_earlier_steps(steps, network, state_of(network))
    assert again.weight == chosen.weight


def test_a_curvature_is_free_of_the_scale_of_outputs():
    torch.manual_seed(0)
    network = Network()
    step = gradients_of(body(network), (0, 1, 2))
    scaled = replace(step, singular=10 * step.singular, projection=10 * step.projection)
    losses = []
    for kept in (step, scaled):
        regulariser = build('DFDRegulariser', curvature=50.0)
        regulariser.set_earlier_steps([kept], network, state_of(network), 0.01)
        start = copy.deepcopy(network.state_dict())
        move(network, 2)
        losses.append(float(regulariser(network)['loss_dfd'].detach()))
        network.load_state_dict(start)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_the_chosen_weight_is_that_of_the_log_determinant_too(walked):
    network, steps = walked
    regulariser = build(network=network, curvature=50.0)
    regulariser.set_earlier_steps(steps, network, state_of(network))
    losses = regulariser(network)
    expected = regulariser.weight * losses['vdfd_log_det']
    torch.testing.assert_close(losses['apart_vdfd'], expected)


def test_gradients_of_nothing_have_no_curvature(walked):
    network, steps = walked
    nothing = replace(steps[0], singular=torch.zeros_like(steps[0].singular))
    regulariser = build('DFDRegulariser', curvature=50.0)
    regulariser.set_earlier_steps([nothing], network, state_of(network))
    assert regulariser.weight == 0
    for wrong in (0.0, -1.0, 'steep'):
        with pytest.raises(InputError, match='curvature must be a number'):
            build('DFDRegulariser', curvature=wrong)
