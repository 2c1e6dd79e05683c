"""Equality with numbers that the official VDFD code produced."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from mmseg_cil.methods.vdfd.compression import compress, project
from mmseg_cil.methods.vdfd.covariance import (
    PrecisionNetwork,
    log_det_covariance,
    node_graph,
    normalise_adjacency,
)
from mmseg_cil.methods.vdfd.filters import num_rows, row_sums
from mmseg_cil.methods.vdfd.gradients import gradient_sums, mean_gradients
from mmseg_cil.methods.vdfd.quadratic_form import accumulate, quadratic_form

GOLDEN = Path(__file__).parents[2] / 'golden'


def load(name):
    with np.load(GOLDEN / f'{name}.npz') as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


def official_network(data):
    hidden, channels = data['gcn_w1'].shape
    network = PrecisionNetwork(channels, hidden, len(data['gcn_w2']))
    with torch.no_grad():
        for layer, index in zip(network.layers, '12', strict=True):
            layer.lin.weight.copy_(data[f'gcn_w{index}'])
            layer.bias.copy_(data[f'gcn_b{index}'])
    return network


@pytest.mark.parametrize('tag', ['positive', 'negative_degree'])
def test_adjacency(tag):
    data = load(f'vdfd_adj__{tag}')
    ours = normalise_adjacency(data['affinity'])
    torch.testing.assert_close(ours, data['adj_normalized'], rtol=1e-5, atol=1e-6)
    assert torch.isfinite(ours).all()
    assert bool((data['degree'] < 0).any()) == (tag == 'negative_degree')


@pytest.mark.parametrize('tag', ['c5', 'c10_official_dims'])
def test_graph_network(tag):
    data = load(f'vdfd_gcn__{tag}')
    features, edges, weights = node_graph(list(data['head_weight']))
    steps, classes = data['head_weight'].shape[:2]
    torch.testing.assert_close(features, data['prototype'].flatten(0, 1))
    torch.testing.assert_close(
        weights.reshape(steps, classes, classes), data['adj_normalized'], rtol=1e-5, atol=1e-6
    )
    network = official_network(data)
    out = network(features, edges, weights).reshape(steps, classes, -1)
    torch.testing.assert_close(out, data['gcn_out_normalized'], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(out @ out.mT, data['precision'], rtol=1e-4, atol=1e-5)


def test_the_official_widths_are_the_default():
    data = load('vdfd_gcn__c10_official_dims')
    network = PrecisionNetwork(data['gcn_w1'].shape[1])
    shapes = [tuple(layer.lin.weight.shape) for layer in network.layers]
    assert shapes == [tuple(data['gcn_w1'].shape), tuple(data['gcn_w2'].shape)]


@pytest.mark.parametrize('tag', ['rank1', 'dominant'])
def test_compression(tag):
    data = load(f'vdfd_svd__{tag}')
    u, s, v = compress(data['M'], [len(data['M'])], rank=1)
    ours = u @ torch.diag(s[0]) @ v[0]
    torch.testing.assert_close(s[0], data['S'], rtol=1e-4, atol=0)
    scale = data['reconstruction'].abs().max()
    for theirs in data['reconstruction_all']:
        assert (ours - theirs).abs().max() < 1e-4 * scale
    # Theirs is randomised; ours is the best of its rank.
    assert (ours - data['M']).norm() <= (data['reconstruction'] - data['M']).norm() * (1 + 1e-6)


@pytest.mark.parametrize('tag', ['conv', 'linear', 'vector'])
def test_products_with_the_weights(tag):
    data = load(f'vdfd_gw__{tag}')
    left = data['U'].transpose(0, 1).contiguous()
    core = (data['S'].unsqueeze(-1) * data['Vt']).unsqueeze(1)
    ours = project(left, core, [len(left)], row_sums([data['w']]))
    torch.testing.assert_close(ours, data['GW'], rtol=1e-5, atol=1e-6)


def stacked(data):
    """The five tensors of a golden regulariser, ordered by height: rows, left, core, weights."""
    steps = len(data['S_0'])
    order = sorted(range(5), key=lambda k: num_rows(data[f'w_{k}']))
    rows = [num_rows(data[f'w_{k}']) for k in order]
    left = torch.cat([data[f'U_{k}'].transpose(0, 1) for k in order])
    core = torch.stack([data[f'S_{k}'].unsqueeze(-1) * data[f'Vt_{k}'] for k in order], dim=1)
    assert core.shape[:2] == (steps, 5)
    return order, rows, left, core


@pytest.mark.parametrize('tag', ['t2_c5', 't3_c8'])
def test_regulariser_and_its_gradients(tag):
    data = load(f'vdfd_reg__{tag}')
    order, rows, left, core = stacked(data)
    weights = [data[f'w_{k}'].clone().requires_grad_() for k in order]
    steps, classes = data['GW'].shape
    stars = torch.stack(
        [
            project(left, core, rows, row_sums([data[f'wstar_{k}'][i] for k in order]))[i]
            for i in range(steps)
        ]
    )
    torch.testing.assert_close(stars, data['GWstar'], rtol=1e-5, atol=1e-5)
    products = project(left, core, rows, row_sums(weights))
    torch.testing.assert_close(products, data['GW'], rtol=1e-5, atol=1e-5)

    network = official_network(data)
    factors = network(*node_graph(list(data['head_weight']))).reshape(steps, classes, -1)
    eps = float(data['eps'])
    quadratics = quadratic_form((products - stars).unsqueeze(-1), factors, eps, form='official')
    log_dets = log_det_covariance(factors, eps)
    per_task = quadratics + log_dets
    torch.testing.assert_close(per_task, data['loss_per_task'], rtol=2e-5, atol=1e-5)
    loss = accumulate(quadratics, log_dets)
    torch.testing.assert_close(loss, data['loss'], rtol=2e-5, atol=0)

    loss.backward()
    for k, weight in zip(order, weights, strict=True):
        assert_equal_to_largest(weight.grad, data[f'grad_w_{k}'], 1e-4)
    for layer, index in zip(network.layers, '12', strict=True):
        assert_equal_to_largest(layer.lin.weight.grad, data[f'grad_gcn_w{index}'], 1e-4)
        assert_equal_to_largest(layer.bias.grad, data[f'grad_gcn_b{index}'], 1e-4)


def assert_equal_to_largest(ours, theirs, tolerance):
    assert (ours - theirs).abs().max() < tolerance * theirs.abs().max()


def test_gradients_of_mean_outputs_with_a_short_last_batch():
    data = load('vdfd_importance__ragged_last_batch')
    names = ['conv_weight', 'conv_bias', 'fc_weight', 'fc_bias']
    weights = [data[name].clone().requires_grad_() for name in names]

    def outputs(images):
        maps = functional.conv2d(images, weights[0], weights[1], padding=1).relu()
        hidden = functional.linear(maps.mean(dim=(2, 3)), weights[2], weights[3]).relu()
        logits = functional.linear(hidden, data['head_weight'], data['head_bias'])
        return logits.sum(dim=0), torch.full((logits.shape[1],), float(len(images)))

    batches = data['images'].split(data['batch_sizes'].tolist())
    theirs = torch.cat([data[f'M_{name}'] for name in names])
    ours = mean_gradients(*gradient_sums(outputs, batches, weights, 4, weighting='batches'))
    torch.testing.assert_close(ours.float(), theirs, rtol=1e-5, atol=1e-6)

    # By images the division into batches does not matter, and the result is another.
    by_images = [
        mean_gradients(*gradient_sums(outputs, data['images'].split(size), weights, 4))
        for size in (10, 4, 3)
    ]
    torch.testing.assert_close(by_images[0], by_images[1], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(by_images[0], by_images[2], rtol=1e-5, atol=1e-7)
    assert not torch.allclose(by_images[0].float(), theirs, rtol=1e-3, atol=1e-5)
