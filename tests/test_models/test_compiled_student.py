"""Compiled parts of the student compute what the plain student computes."""

import copy

import pytest
import torch

from mmseg_cil.contracts import IterationSeeded
from mmseg_cil.models.compile_options import compile_options, try_compiler
from mmseg_cil.models.compiled_student import compile_network, compiled_parts
from mmseg_cil.testing.networks import HEADS, UNKD, base_step, batch, network, next_step

POD = dict(type='LocalPODDistiller')
EAGER = dict(backend='eager')


@pytest.fixture(autouse=True)
def nothing_is_left_compiled():
    yield
    torch._dynamo.reset()


@pytest.fixture
def second_step(tmp_path):
    """Builds the network of a second step, in training mode."""

    def make(head='FCNHead', distillers=(UNKD,)):
        config, path = network(head, 'single'), tmp_path / 'step.pth'
        if not path.exists():
            base_step(config, path)
        return next_step(config, path, distillers=distillers).train()

    return make


def losses(model, iterations=2):
    result = []
    for iteration in range(iterations):
        torch.manual_seed(iteration)
        loss, _ = model.parse_losses(model.loss(*batch(5, seed=iteration)))
        model.zero_grad()
        loss.backward()
        result += [loss.detach(), *(value.grad for value in model.parameters())]
    return [*result, *(value.clone() for value in model.buffers())]


@pytest.mark.parametrize('head', HEADS)
@pytest.mark.parametrize('distiller', [UNKD, POD], ids=['logits', 'stages'])
def test_nobody_looks_into_a_compiled_part(head, distiller, second_step):
    model = second_step(head, [distiller])
    parts = compiled_parts(model)
    inside = {each for part in parts for each in part.modules()}
    assert inside
    for watched in (model.decode_head.conv_seg, model.decode_head.dropout):
        assert watched not in inside
    whole = model.backbone in parts
    if distiller is UNKD or head == 'SegformerHead':
        # This backbone has no activations that end its stages.
        assert whole
    else:
        assert not whole and model.backbone.layer4[-1].relu not in inside
        assert model.backbone.layer4[0] in parts


@pytest.mark.parametrize(
    'distiller',
    [pytest.param(UNKD, marks=pytest.mark.slow, id='logits'), pytest.param(POD, id='stages')],
)
def test_losses_gradients_and_names_are_those_of_the_plain_student(distiller, second_step):
    plain = losses(second_step(distillers=[distiller]))
    model = second_step(distillers=[distiller])
    names = list(model.state_dict())
    count = torch._dynamo.utils.counters['stats']['unique_graphs']
    compile_network(model, EAGER)
    found = losses(model)
    assert torch._dynamo.utils.counters['stats']['unique_graphs'] > count
    assert all(torch.equal(*pair) for pair in zip(found, plain, strict=True))
    assert list(model.state_dict()) == names
    # Evaluation, and passes without gradients, run as ever: whatever the sizes of the images.
    count = torch._dynamo.utils.counters['stats']['unique_graphs']
    with torch.no_grad():
        model.train().extract_feat(batch(3, size=48)[0])
    model.eval().extract_feat(batch(3, size=40)[0])
    assert torch._dynamo.utils.counters['stats']['unique_graphs'] == count


def test_parts_that_draw_by_the_iteration_are_not_compiled(tmp_path):
    path = tmp_path / 'step.pth'
    base_step(network(), path)
    model = next_step(network(), path, network_change=dict(type='ParallelBranches'))
    assert any(isinstance(each, IterationSeeded) for each in model.backbone.modules())
    inside = {each for part in compiled_parts(model) for each in part.modules()}
    assert not any(isinstance(each, IterationSeeded) for each in inside)


def test_a_copy_of_the_network_runs_the_copy(second_step):
    model = second_step()
    compile_network(model, EAGER)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for value in model.backbone.parameters():
            value.zero_()
    assert twin.eval().extract_feat(batch(3)[0])[-1].abs().sum() > 0


@pytest.mark.slow
@pytest.mark.parametrize('distiller', [UNKD, POD], ids=['logits', 'stages'])
def test_code_of_the_compiler_learns_the_same_within_rounding(distiller, second_step):
    plain = losses(second_step(distillers=[distiller]))
    model = second_step(distillers=[distiller])
    options = compile_options(True)
    try_compiler(True)
    compile_network(model, options)
    for own, other in zip(losses(model), plain, strict=True):
        assert (own - other).abs().max() <= 1e-4 * max(1.0, float(other.abs().max()))
