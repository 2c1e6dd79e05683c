"""Activations that are computed again change no loss, no gradient and no statistic."""

import copy

import pytest
import torch
from torch import nn

from mmseg_cil.errors import InputError
from mmseg_cil.models.recomputation import asks_for_recomputation, recompute_activations
from mmseg_cil.testing.networks import HEADS, UNKD, base_step, batch, network, next_step

POD = dict(type='LocalPODDistiller')


@pytest.fixture
def second_step(tmp_path):
    """Builds the network of a second step, in training mode."""

    def make(head='FCNHead', distillers=(UNKD,), with_cp=False):
        config, path = network(head, 'single'), tmp_path / 'step.pth'
        if not path.exists():
            base_step(config, path)
        config['backbone']['with_cp'] = with_cp
        return next_step(config, path, distillers=distillers).train()

    return make


def learnt(model, iterations=2):
    """Return losses, gradients and buffers of some iterations, and what autograd saved."""
    saved = []

    def pack(value):
        saved.append(value.nbytes)
        return value

    result = []
    for iteration in range(iterations):
        torch.manual_seed(iteration)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
            loss, _ = model.parse_losses(model.loss(*batch(5, seed=iteration)))
        model.zero_grad()
        loss.backward()
        result += [loss.detach(), *(value.grad for value in model.parameters())]
    return [*result, *(value.clone() for value in model.buffers())], sum(saved)


def assert_same(found, expected):
    for own, other in zip(found, expected, strict=True):
        assert (own is None) == (other is None)
        assert own is None or torch.equal(own, other)


@pytest.mark.parametrize('head', HEADS)
@pytest.mark.parametrize('distiller', [UNKD, POD], ids=['logits', 'stages'])
def test_all_is_equal_bit_by_bit_and_less_is_saved(head, distiller, second_step):
    plain, needed = learnt(second_step(head, [distiller]))
    model = second_step(head, [distiller])
    assert recompute_activations(model, ['backbone', 'decode_head', 'auxiliary_head.convs']) == 3
    found, saved = learnt(model)
    assert_same(found, plain)
    assert saved < 0.7 * needed


@pytest.mark.parametrize('head', ['FCNHead', 'SegformerHead'])
def test_blocks_that_ask_for_it_are_computed_again(head, second_step):
    plain, _ = learnt(second_step(head, [POD]))
    model = second_step(head, [POD], with_cp=True)
    assert asks_for_recomputation(model) and recompute_activations(model) > 3
    assert not asks_for_recomputation(model)
    assert_same(learnt(model)[0], plain)


def test_names_within_each_other_are_computed_again_together(second_step):
    plain, _ = learnt(second_step())
    model = second_step(with_cp=True)
    recompute_activations(model, ['backbone', 'backbone.layer3'])
    assert_same(learnt(model)[0], plain)


def test_gradients_of_several_outputs_of_one_graph_are_right(second_step):
    # As VDFD takes them after a step.
    results = []
    for names in ([], ['backbone', 'decode_head']):
        model = second_step()
        recompute_activations(model, names)
        model.eval()
        sums = model.decode_head.forward(model.extract_feat(batch(5)[0])).sum(dim=(0, 2, 3))
        weights = list(model.backbone.parameters())
        results.append(
            [
                gradient
                for value in sums
                for gradient in torch.autograd.grad(value, weights, retain_graph=True)
            ]
        )
    assert_same(*results)


def test_a_copy_of_the_network_runs_the_copy(second_step):
    model = second_step()
    recompute_activations(model, ['backbone'])
    twin = copy.deepcopy(model).eval()
    with torch.no_grad():
        for value in model.backbone.parameters():
            value.zero_()
    assert twin.extract_feat(batch(3)[0])[-1].abs().sum() > 0


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('backbon', "names 'backbon'"),
        ('distillers', "names 'distillers'"),
        (3, 'names 3'),
    ],
)
def test_names_that_cannot_be_computed_again_are_refused(name, message, second_step):
    with pytest.raises(InputError, match=message):
        recompute_activations(second_step(), [name])


def test_lists_that_never_run_are_refused(second_step):
    model = second_step('UPerHead')
    with pytest.raises(InputError, match=r'lateral_convs, a ModuleList .* such as .*\.0'):
        recompute_activations(model, ['decode_head.lateral_convs'])


def test_bases_that_move_at_every_run_are_refused(second_step):
    from mmseg.models.decode_heads.ema_head import EMAModule

    model = second_step()
    model.decode_head.ema_module = nn.Sequential(EMAModule(8, 4, 1, 0.1))
    with pytest.raises(InputError, match='an EMAModule'):
        recompute_activations(model, ['decode_head'])
