"""The registered regularisers on a small network with drawn gradients."""

import copy
from dataclasses import replace

import pytest
import torch
from drawn_gradients import (
    Network,
    Segmentor,
    body,
    build,
    gradients_of,
    move,
    over_weights,
    state_of,
)

from mmseg_cil.errors import InputError
from mmseg_cil.methods.vdfd.covariance import log_det_covariance
from mmseg_cil.methods.vdfd.dfd_regulariser import DFDRegulariser
from mmseg_cil.methods.vdfd.files import load_gradients, save_gradients
from mmseg_cil.methods.vdfd.filters import order_by_rows, row_sums
from mmseg_cil.methods.vdfd.quadratic_form import ACCUMULATIONS, accumulate
from mmseg_cil.methods.vdfd.reanchoring import InitialMoves
from mmseg_cil.methods.vdfd.reference import reanchored_changes
from mmseg_cil.methods.vdfd.vdfd_regulariser import VDFDRegulariser


@pytest.mark.parametrize('kind', ['DFDRegulariser', 'VDFDRegulariser'])
@pytest.mark.parametrize('rank', [1, 2, None])
def test_zero_at_the_weights_of_the_step(kind, rank):
    torch.manual_seed(0)
    network = Network()
    step = gradients_of(body(network), (0, 1, 2), rank=rank)
    regulariser = build(kind, network)
    regulariser.set_earlier_steps([step], network, state_of(network))
    changes = regulariser._earlier.changes()
    assert torch.equal(changes, torch.zeros_like(changes))
    losses = regulariser(network)
    gradients = torch.autograd.grad(losses[regulariser.loss_name], list(body(network).values()))
    assert all(torch.equal(gradient, torch.zeros_like(gradient)) for gradient in gradients)
    if kind == 'DFDRegulariser':
        assert losses['loss_dfd'] == 0
    else:
        assert losses['vdfd_quadratic'] == 0


def test_changes_are_those_of_every_earlier_step(walked):
    """Relative to each step's own end, though only the last one's weights are at hand."""
    network, steps = walked
    regulariser = build('DFDRegulariser')
    regulariser.set_earlier_steps(steps, network, state_of(network))
    move(network, 2)
    changes = regulariser._earlier.changes()
    assert changes.shape == (2, 3, 1)
    for index, step in enumerate(steps):
        expected = step.project(dict(network.named_parameters())) - step.projection
        torch.testing.assert_close(
            changes[index, : len(step.nodes), 0].double(), expected, rtol=1e-5, atol=1e-6
        )
    assert changes[1, 2] == 0
    loss = regulariser(network)['loss_dfd']
    torch.testing.assert_close(loss, changes.square().sum())


def test_the_gradient_is_the_same_for_all_weights_of_a_filter(walked):
    network, steps = walked
    regulariser = build('DFDRegulariser', loss_weight=2.0)
    regulariser.set_earlier_steps(steps, network, state_of(network))
    move(network, 2)
    weights = body(network)
    gradients = torch.autograd.grad(regulariser(network)['loss_dfd'], list(weights.values()))
    changes = regulariser._earlier.changes().detach()
    expected = 4.0 * sum(
        step.dense() @ changes[index, : len(step.nodes), 0] for index, step in enumerate(steps)
    )
    spread = torch.cat(
        [gradient if gradient.dim() == 1 else gradient[:, 0, 0, 0] for gradient in gradients]
    )
    torch.testing.assert_close(spread, expected, rtol=1e-4, atol=1e-5)
    convolution = gradients[list(weights).index('backbone.0.weight')]
    assert torch.equal(convolution, convolution[:, :1, :1, :1].expand_as(convolution))


def test_vdfd_with_the_identity_is_dfd(walked, monkeypatch):
    network, steps = walked
    vdfd, dfd = build(network=network, quadratic='official'), build('DFDRegulariser')
    for regulariser in (vdfd, dfd):
        regulariser.set_earlier_steps(steps, network, state_of(network))
    move(network, 2)
    monkeypatch.setattr(
        vdfd,
        'factors',
        lambda: torch.stack(
            [torch.eye(3, 4), torch.eye(3, 4) * torch.tensor([1.0, 1.0, 0.0]).unsqueeze(1)]
        ),
    )
    ours = vdfd(network)
    torch.testing.assert_close(ours['vdfd_quadratic'], dfd(network)['loss_dfd'])
    # Orthonormal rows have the least log-determinant, here for 3 and 2 classes.
    assert float(ours['vdfd_log_det']) == pytest.approx(
        -5 * torch.tensor(1.001).log().item(), rel=1e-3
    )


def test_values_are_those_of_the_formula(walked):
    network, steps = walked
    regulariser = build(network=network, eps=0.01, loss_weight=3.0)
    regulariser.set_earlier_steps(steps, network, state_of(network))
    move(network, 2)
    losses = regulariser(network)
    factors = regulariser.factors()
    expected = log_det = 0.0
    for index, step in enumerate(steps):
        count = len(step.nodes)
        precision = factors[index, :count] @ factors[index, :count].T + 0.01 * torch.eye(count)
        change = (step.project(dict(network.named_parameters())) - step.projection).float()
        expected += change @ precision @ change
        log_det -= torch.linalg.slogdet(precision).logabsdet
    torch.testing.assert_close(losses['loss_vdfd'], 3.0 * expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(losses['apart_vdfd'], 3.0 * log_det, rtol=1e-4, atol=1e-5)
    # The log-determinant has no gradient for the network.
    assert torch.autograd.grad(
        losses['apart_vdfd'], list(body(network).values()), allow_unused=True
    ) == (None,) * len(body(network))


@pytest.mark.parametrize('accumulation', ACCUMULATIONS)
@pytest.mark.parametrize('step_size', [0.0, 0.1])
def test_the_log_determinant_apart_leaves_every_gradient_as_it_was(walked, accumulation, step_size):
    """Bit for bit those of the weighted sum, which is what the publication minimises."""
    network, steps = walked
    regulariser = build(network=network, loss_weight=3.0, accumulation=accumulation)
    regulariser.set_earlier_steps(steps, network, state_of(network), step_size)
    move(network, 2)
    losses = regulariser(network)
    total, logged = Segmentor().parse_losses(
        {f'regularise.{name}': value for name, value in losses.items()}
    )
    assert logged['loss'] == losses['loss_vdfd']
    assert logged['regularise.apart_vdfd'] == losses['apart_vdfd']
    factors = regulariser.factors()
    quadratics = regulariser._quadratics(regulariser._earlier.changes(), factors, 1e-3, 'paper')
    log_dets = log_det_covariance(factors, 1e-3, regulariser._present)
    published = 3.0 * accumulate(quadratics, log_dets, accumulation)
    torch.testing.assert_close(total, published)
    tensors = [*body(network).values(), *regulariser.parameters()]
    for found, wanted in zip(
        torch.autograd.grad(total, tensors), torch.autograd.grad(published, tensors), strict=True
    ):
        assert torch.equal(found, wanted)


def test_cells_share_the_covariance_of_their_node():
    torch.manual_seed(0)
    network = Network()
    step = gradients_of(body(network), (0, 1), cells=4, rank=2)
    regulariser = build(network=network)
    regulariser.set_earlier_steps([step], network, state_of(network))
    move(network, 2)
    changes = regulariser._earlier.changes()
    assert changes.shape == (1, 2, 4)
    losses, factors = regulariser(network), regulariser.factors()[0]
    precision = factors @ factors.T + 1e-3 * torch.eye(2)
    expected = sum(changes[0, :, k] @ precision @ changes[0, :, k] for k in range(4))
    torch.testing.assert_close(losses['vdfd_quadratic'], expected)
    exact = factors.double() @ factors.double().T + 1e-3 * torch.eye(2)
    expected = -4 * torch.linalg.slogdet(exact).logabsdet
    torch.testing.assert_close(losses['vdfd_log_det'], expected.float())


@pytest.mark.parametrize('step_size', [0.0, 0.01])
@pytest.mark.parametrize('cells', [1, 3])
def test_the_penalty_does_not_depend_on_the_order_of_nodes(cells, step_size):
    """Value and gradient, with the learnt covariance, damped and not."""
    torch.manual_seed(0)
    network = Network()
    order = torch.tensor([2, 4, 0, 1, 3])
    step = gradients_of(body(network), range(5), rank=2, cells=cells)
    outputs = (order.unsqueeze(1) * cells + torch.arange(cells)).flatten()
    permuted = replace(
        step,
        right=step.right[..., outputs],
        projection=step.projection[outputs],
        nodes=tuple(step.nodes[i] for i in order),
    )
    previous = state_of(network)
    move(network, 2)
    found = []
    for form in (step, permuted):
        torch.manual_seed(1)
        regulariser = build(network=network, damping=step_size)
        regulariser.set_earlier_steps([form], network, previous)
        losses = regulariser(network)
        total = losses['loss_vdfd'] + losses['apart_vdfd']
        tensors = [*body(network).values(), *regulariser.parameters()]
        found.append((total, *torch.autograd.grad(total, tensors)))
    for first, second in zip(*found, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize('step_size', [0.0, 0.01])
@pytest.mark.parametrize('kind', ['DFDRegulariser', 'VDFDRegulariser'])
def test_steps_may_have_a_cell_for_each_class_that_they_know(kind, step_size):
    """The penalty of two steps of 3 and 5 cells is the sum of their penalties."""
    torch.manual_seed(0)
    network = Network()
    steps = [
        gradients_of(body(network), nodes, seed, rank, cells)
        for seed, (nodes, rank, cells) in enumerate([((0, 1, 2), 2, 3), ((3, 4), 1, 5)])
    ]
    losses = []
    for some in (steps, steps[:1], steps[1:]):
        torch.manual_seed(1)
        # Damped each for itself, as if it were alone.
        regulariser = build(kind, network, damping=step_size / len(some))
        regulariser.set_earlier_steps(some, network, state_of(network))
        start = copy.deepcopy(network.state_dict())
        move(network, 2)
        losses.append(sum(v for k, v in regulariser(network).items() if not k.startswith('vdfd')))
        network.load_state_dict(start)
    torch.testing.assert_close(losses[0], losses[1] + losses[2])
    with pytest.raises(InputError, match='different outputs'):
        regulariser.set_earlier_steps(
            [steps[0], gradients_of(body(network), (3, 4), cells=4)], network, state_of(network)
        )


def test_single_weights_without_filter_averaging():
    torch.manual_seed(0)
    network = Network()
    tensors = {name: tensor for name, tensor in body(network).items()}
    names = order_by_rows(tensors, average=False)
    step = gradients_of({name: tensors[name] for name in names}, (0, 1), rank=None, average=False)
    regulariser = build('DFDRegulariser')
    before = row_sums([tensors[name].detach().clone() for name in names], average=False)
    regulariser.set_earlier_steps([step], network, state_of(network))
    move(network, 2)
    expected = step.dense().T @ (row_sums([tensors[n] for n in names], average=False) - before)
    torch.testing.assert_close(
        regulariser._earlier.changes()[0, :, 0], expected, rtol=1e-4, atol=1e-5
    )


APART = ('decode_head.conv_seg.weight', 'decode_head.conv_seg.bias')


def grown(old, classes):
    """A network with more classes, whose other weights are those of the old one."""
    network, state = Network(classes), state_of(old)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter[: len(state[name])] = state[name]
    return network


def kept_of(network, nodes, average, seed=0):
    """Drawn gradients of all parameters, the classifier among them."""
    own = dict(network.named_parameters())
    order = order_by_rows(own, average, APART)
    return gradients_of(
        {name: own[name] for name in order}, nodes, seed, average=average, apart=APART
    )


@pytest.mark.parametrize('average', [True, False])
def test_rows_of_classes_that_came_later_are_free(average):
    """A class-incremental walk with the classifier among the regularised tensors."""
    torch.manual_seed(0)
    old = Network(classes=3)
    step = kept_of(old, (0, 1, 2), average)
    network = grown(old, 5)
    regulariser = build(network=network)
    regulariser.set_earlier_steps([step], network, state_of(old))
    assert torch.equal(regulariser._earlier.changes(), torch.zeros(1, 3, 1))
    with torch.no_grad():
        network.decode_head.conv_seg.weight[3:] += 1.0
    assert torch.equal(regulariser._earlier.changes(), torch.zeros(1, 3, 1))
    with torch.no_grad():
        network.decode_head.conv_seg.weight[:3] += 1.0
    expected = step.project(dict(network.named_parameters())) - step.projection
    torch.testing.assert_close(
        regulariser._earlier.changes()[0, :, 0].double(), expected, rtol=1e-5, atol=1e-6
    )
    assert expected.abs().min() > 0


@pytest.mark.parametrize('average', [True, False])
def test_a_classifier_that_grew_twice_has_changed_nothing(average):
    """The weights that the third step begins with have rows that the first did not know."""
    torch.manual_seed(0)
    first = Network(classes=3)
    second = grown(first, 4)
    network = grown(second, 5)
    steps = [kept_of(first, (0, 1, 2), average), kept_of(second, (3,), average, seed=1)]
    regulariser = build('DFDRegulariser')
    regulariser.set_earlier_steps(steps, network, state_of(second))
    assert torch.equal(regulariser._earlier.offset, torch.zeros(2, 3))
    assert torch.equal(regulariser._earlier.changes(), torch.zeros(2, 3, 1))
    assert regulariser(network)['loss_dfd'] == 0
    # A change of the row of the second step changes the output of that step alone.
    with torch.no_grad():
        network.decode_head.conv_seg.weight[3] += 1.0
    changes = regulariser._earlier.changes()
    assert torch.equal(changes[0], torch.zeros(3, 1)) and changes[1, 0] != 0


def test_a_parameter_without_dimensions_is_one_row():
    """Such as the learnt factor of an attention head."""
    torch.manual_seed(0)
    tensors = {'factor': torch.tensor(0.5), 'weight': torch.randn(4, 3)}
    step = gradients_of(tensors, (0, 1), rank=None)
    moved = {name: tensor + 1.0 for name, tensor in tensors.items()}
    dense = step.dense().double()
    expected = dense[0] + 3.0 * dense[1:].sum(dim=0)
    torch.testing.assert_close(step.project(moved) - step.projection, expected)
    torch.testing.assert_close(
        step.gram(tensors), dense.T @ torch.diag(torch.tensor([1.0, 3, 3, 3, 3]).double()) @ dense
    )


def test_half_precision_of_the_network_does_not_touch_it(walked):
    network, steps = walked
    regulariser = build(network=network)
    regulariser.set_earlier_steps(steps, network, state_of(network))
    move(network, 2, scale=1e-3)
    outside = regulariser(network)['loss_vdfd']
    with torch.autocast('cpu', dtype=torch.bfloat16):
        inside = regulariser(network)['loss_vdfd']
    assert inside.dtype == torch.float32 and torch.equal(inside, outside)


def test_without_earlier_steps_there_is_nothing_to_keep():
    network = Network()
    dfd, vdfd = build('DFDRegulariser'), build(network=network)
    for regulariser in (dfd, vdfd):
        with pytest.raises(RuntimeError, match='VDFDHook'):
            regulariser(network)
        regulariser.set_earlier_steps([], network, {})
    assert dfd(network) == {}
    loss = vdfd(network)['loss_vdfd']
    loss.backward()
    assert loss == 0 and all(parameter.grad is not None for parameter in vdfd.parameters())


def test_other_networks_and_mixed_files_are_refused(walked):
    network, steps = walked
    regulariser = build('DFDRegulariser')
    strange = replace(steps[0], names=('backbone.9.weight', *steps[0].names[1:]))
    with pytest.raises(InputError, match=r'backbone\.9\.weight'):
        regulariser.set_earlier_steps([strange], network, state_of(network))
    with pytest.raises(InputError, match='different outputs'):
        regulariser.set_earlier_steps(
            [steps[0], replace(steps[1], average=False)], network, state_of(network)
        )


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(accumulation='median'), 'accumulation'),
        (dict(quadratic='none'), 'quadratic'),
        (dict(eps=0.0), 'eps must be positive'),
    ],
)
def test_unknown_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        VDFDRegulariser(**options)


def test_what_is_kept_survives_the_file(walked, tmp_path):
    _, steps = walked
    kept = steps[0]
    save_gradients(tmp_path / 'vdfd.pth', kept, {'rank': 1})
    loaded, settings = load_gradients(tmp_path / 'vdfd.pth')
    assert settings == {'rank': 1}
    assert torch.equal(loaded.dense(), kept.dense())
    assert torch.equal(loaded.projection, kept.projection)
    assert (loaded.names, loaded.rows, loaded.nodes) == (kept.names, kept.rows, kept.nodes)
    with pytest.raises(InputError, match='does not exist'):
        load_gradients(tmp_path / 'other.pth')
    (tmp_path / 'vdfd.pth').write_bytes(b'not a file of torch')
    with pytest.raises(InputError, match='cannot be read'):
        load_gradients(tmp_path / 'vdfd.pth')


def test_uncompressed_gradients_are_stored_once(tmp_path):
    torch.manual_seed(0)
    kept = gradients_of(body(Network(50)), tuple(range(50)), rank=None)
    save_gradients(tmp_path / 'vdfd.pth', kept, {})
    # The gradients and one identity, not one a tensor.
    assert (tmp_path / 'vdfd.pth').stat().st_size < 4 * (kept.left.numel() + 50 * 50) + 6000
    assert torch.equal(load_gradients(tmp_path / 'vdfd.pth')[0].dense(), kept.dense())


def test_dfd_has_nothing_to_train():
    assert not list(DFDRegulariser().parameters())
    assert DFDRegulariser().optimizer is None


@pytest.mark.parametrize('fraction', [1.0, 0.3])
def test_re_anchored_changes_are_those_of_the_formula(walked, fraction):
    """Two kept steps and rows that moved when the second and the present one began."""
    network, steps = walked
    name = 'backbone.1.bias'
    shifts = [torch.zeros(16, dtype=torch.float64) for _ in range(2)]
    shifts[0][0], shifts[1][1] = -0.5, 0.25
    previous = state_of(network)
    begun = {**previous, name: previous[name] + shifts[1].float()}
    # The kept weights stand in their projection alone: the second step's are the last step's.
    moves = InitialMoves(begun, [{name: shifts[0]}, {}])
    regulariser = build('DFDRegulariser', reanchor=fraction)
    regulariser.set_earlier_steps(steps, network, previous, moves=moves)
    move(network, 2)
    changes = regulariser._earlier.changes()[..., 0].double()
    own = dict(network.named_parameters())
    for index, step in enumerate(steps):
        dense, flat = over_weights(step, network), [own[key].detach() for key in step.names]
        weights = torch.cat([tensor.flatten() for tensor in flat]).double()
        first = sum(own[key].numel() for key in step.names[: step.names.index(name)])
        padded = []
        for shift in shifts[index:]:
            padded.append(torch.zeros_like(weights))
            padded[-1][first : first + 16] = shift
        # G^T w^* is all that is kept of w^*.
        zeros = torch.zeros_like(weights)
        expected = reanchored_changes(dense, weights, zeros, padded, fraction) - step.projection
        torch.testing.assert_close(
            changes[index, : len(step.nodes)], expected, rtol=1e-4, atol=1e-5
        )
