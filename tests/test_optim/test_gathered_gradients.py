"""Gradients of several iterations make the update that their definition says.

An update has the mean of the gradients of its iterations, for MMEngine divides each loss by their
number. A penalty on the weights, which is the same in each of them, counts once.
"""

from pathlib import Path

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope

from mmseg_cil.engine.config.compose import read_piece
from mmseg_cil.models.plain import PLAIN_PREFIXES

ROOT = Path(__file__).resolve().parents[2]
CLASSES = (3, 2)
RATE, TOGETHER = 0.1, 3
#: Relative to the greatest change of a weight of a tensor; in float32.
BOUND = 1e-4


@pytest.fixture
def second_step(benchmark_module, tmp_path):
    """Builds a method's network at its second step, with what its hooks would give it."""
    made = benchmark_module('step_networks')
    init_default_scope('mmseg_cil')
    model = made.network_config(ROOT / 'configs/_base_/models/fcn_r18-thin.py', 32)
    batches = [made.random_batch(2, 32, CLASSES) for _ in range(5)]
    for place, data in enumerate(batches):
        # Batches differ, also in the number of labelled pixels, which their losses divide by.
        generator = torch.Generator().manual_seed(place)
        shape = data['inputs'][0].shape
        data['inputs'] = [torch.randint(0, 256, shape, generator=generator) for _ in range(2)]
        for sample in data['data_samples']:
            sample.gt_sem_seg.data[:, 20 : 20 + 2 * place] = 255

    def make(method):
        previous = made.trained_before(model, CLASSES[0], tmp_path / 'step.pth')
        settings = read_piece('method', method)['method']
        network = made.segmentor_of(settings, model, CLASSES, previous, batches[0])
        with torch.no_grad():
            # A penalty has no gradient at the weights that it holds on to.
            generator = torch.Generator().manual_seed(9)
            for value in network.backbone.parameters():
                value += 0.02 * torch.randn(value.shape, generator=generator)
        return network.train(), batches

    return make


def wrapper_of(network, iterations):
    """Return the wrapper that the walk builds; parts of a method have optimizers of their own."""
    config = dict(
        type='OptimWrapper',
        optimizer=dict(type='SGD', lr=RATE),
        accumulative_counts=TOGETHER,
        constructor='RegulariserOptimWrapperConstructor',
    )
    wrapper = build_optim_wrapper(network, ConfigDict(config))
    wrapper.initialize_count_status(network, 0, iterations)
    return wrapper


def weights_of(network):
    named = network.named_parameters()
    return [value for name, value in named if name.startswith(PLAIN_PREFIXES)]


def gradients(network, losses):
    """Return the gradients of a sum of losses in the weights of the plain network."""
    weights = weights_of(network)
    found = torch.autograd.grad(sum(losses), weights, allow_unused=True)
    return [
        torch.zeros_like(value) if gradient is None else gradient
        for gradient, value in zip(found, weights, strict=True)
    ]


def losses_of(network, data, seed):
    """Return the minimised losses of a batch: those of its images, and those of the weights."""
    torch.manual_seed(seed)
    found = network.loss(**network.data_preprocessor(data, True))
    losses = {name: value for name, value in found.items() if 'loss' in name}
    of_weights = [value for name, value in losses.items() if name.startswith('regularise.')]
    return [value for name, value in losses.items() if 'regularise.' not in name], of_weights


def state_of(network):
    return [value.detach().clone() for value in weights_of(network)]


def assert_moved(now, before, gradient):
    for value, former, slope in zip(now, before, gradient, strict=True):
        expected = -RATE * slope
        difference = (value - former - expected).abs().max()
        # A weight has a rounding of its own.
        assert difference <= BOUND * expected.abs().max() + 1e-6


@pytest.mark.parametrize('method', ['finetune', 'mib', 'plop', 'vdfd_plain'])
def test_an_update_has_the_mean_of_gradients_and_the_penalty_once(method, second_step):
    network, batches = second_step(method)
    wrapper = wrapper_of(network, len(batches))
    # Five iterations make an update of three and, at the end of the step, one of two.
    for together in (range(3), range(3, 5)):
        before, mean, penalty = state_of(network), None, []
        for index in together:
            of_images, of_weights = losses_of(network, batches[index], index)
            own = gradients(network, [loss / len(together) for loss in of_images])
            mean = own if mean is None else [sum(pair) for pair in zip(mean, own, strict=True)]
            if of_weights:
                *_, of_weights = losses_of(network, batches[index], index)
                penalty = gradients(network, of_weights)
        for place, index in enumerate(together):
            assert all(torch.equal(*pair) for pair in zip(state_of(network), before, strict=True))
            torch.manual_seed(index)
            network.train_step(batches[index], wrapper)
            assert wrapper.should_update() == (place == len(together) - 1)
        assert bool(penalty) == (method == 'vdfd_plain')
        if penalty:
            # Far above the bound, so that a penalty counted twice or not at all would be seen.
            assert max(float(each.abs().max()) for each in penalty) > 0.01
            mean = [sum(pair) for pair in zip(mean, penalty, strict=True)]
        assert_moved(state_of(network), before, mean)


def test_equal_shares_of_a_batch_make_the_update_of_the_batch(second_step):
    network, batches = second_step('mib')
    # Batch norms see each share alone, so that they are off, and dropout draws for each.
    for module in network.modules():
        if isinstance(module, (torch.nn.modules.batchnorm._BatchNorm, torch.nn.Dropout2d)):
            module.eval()
    data = batches[1]
    whole, _ = losses_of(network, data, 0)
    expected = gradients(network, whole)
    shares = [
        gradients(network, losses_of(network, {k: v[i : i + 1] for k, v in data.items()}, 0)[0])
        for i in range(2)
    ]
    mean = [(first + second) / 2 for first, second in zip(*shares, strict=True)]
    scale = max(float(value.abs().max()) for value in expected)
    for value, other in zip(mean, expected, strict=True):
        assert (value - other).abs().max() <= BOUND * scale
