"""The gradients that the hook keeps of a thin segmentor."""

import copy
import itertools
import logging
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mmseg_cil.errors import InputError
from mmseg_cil.methods.vdfd import hook as hook_module
from mmseg_cil.methods.vdfd import keeper as keeper_module
from mmseg_cil.methods.vdfd.compression import compress
from mmseg_cil.methods.vdfd.files import save_gradients
from mmseg_cil.methods.vdfd.hook import VDFDHook
from mmseg_cil.methods.vdfd.outputs import nodes_of_step
from mmseg_cil.testing.networks import HEADS, base_step, batch, network, next_step, segmentor
from mmseg_cil.utils import main_process


def batches_of(sizes):
    """The same images however they are divided."""
    images, samples = batch(5, count=6, seed=0)
    first, parts = 0, []
    for size in sizes:
        part = range(first, first + size)
        parts.append(
            dict(inputs=[images[i] for i in part], data_samples=[samples[i] for i in part])
        )
        first += size
    return parts


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    return base_step(
        network(auxiliary='single'), tmp_path_factory.mktemp('base') / 'base.pth', count=4
    )


NODES = ((0,), (1,), (2, 3))


@pytest.fixture(scope='module')
def double_model(model):
    """In float64 and away from its beginning, where units lie in the kink of their ReLU.

    There, with shifts of 0 and nothing to see, half of a first-order change is no
    change: there is no derivative.
    """
    return doubled(model)


def doubled(model):
    double = copy.deepcopy(model).double()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in double.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    # The data preprocessor makes float32.
    double.backbone.register_forward_pre_hook(lambda _, inputs: (inputs[0].double(),))
    return double


@pytest.mark.parametrize(
    'options',
    [
        dict(),
        dict(outputs='grid'),
        dict(average=False),
        # Another classifier would predict other pixels, which is no change of the first order.
        dict(outputs='predicted', classifier=False),
        dict(outputs='conditional', classifier=False),
        dict(parts=['backbone.layer4']),
    ],
    ids=str,
)
def test_the_products_predict_changes_to_first_order(double_model, options):
    """The error falls with the square of the step; nothing is compressed here."""
    hook, data = VDFDHook(rank=None, **options), batches_of([6])
    kept = hook.keep(double_model, data, NODES)
    before = outputs_of(hook, double_model, data)
    errors = []
    for step in (1e-5, 1e-6, 1e-7):
        predicted, actual = changes_of(hook, double_model, kept, data, before, step)
        assert actual.abs().max() > step
        errors.append(float((predicted - actual).abs().max() / actual.abs().max()))
    # In parts of the change, the error falls as the step does.
    assert errors[0] < 1e-2
    for larger, smaller in itertools.pairwise(errors):
        assert smaller == pytest.approx(larger / 10, rel=0.5)


@pytest.mark.parametrize('head', list(HEADS))
def test_every_head_s_outputs_are_predicted(tmp_path, head):
    """With every kind of layer that a head or its backbone has, attention among them."""
    plain = base_step(network(head, 'single'), tmp_path / 'base.pth', count=4)
    double, hook, data = doubled(plain), VDFDHook(rank=None), batches_of([2])
    kept = hook.keep(double, data, NODES)
    trained = {name for name, parameter in double.named_parameters() if parameter.requires_grad}
    assert set(kept.names) == {name for name in trained if not name.startswith('auxiliary_head')}
    assert torch.isfinite(kept.left).all()
    before = outputs_of(hook, double, data)
    predicted, actual = changes_of(hook, double, kept, data, before, 1e-7)
    assert actual.abs().max() > 1e-7
    torch.testing.assert_close(predicted, actual, rtol=1e-3, atol=1e-9)


def changes_of(hook, model, kept, data, before, step):
    """Predicted and actual changes of the outputs where the weights take a drawn step."""
    moved = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in moved.named_parameters():
            if name in kept.names:
                # Alike for all weights of a filter: averaging does not see the rest.
                each = torch.randn(parameter.shape[0], generator=generator)
                parameter.add_(step * each.view(-1, *[1] * (parameter.dim() - 1)))
    predicted = kept.project(dict(moved.named_parameters())) - kept.projection
    return predicted, outputs_of(hook, moved, data) - before


def outputs_of(hook, model, data):
    """The outputs themselves, by the hook's own pass with gradients replaced by values."""
    from mmseg_cil.methods.vdfd.keeper import evaluated_logits
    from mmseg_cil.methods.vdfd.outputs import output_sums

    model.eval()
    sums, counts = output_sums(
        evaluated_logits(model, data[0]).detach(), NODES, hook.outputs, hook.grid
    )
    return sums / counts.clamp(min=1)


def test_batches_do_not_matter_unless_asked(model):
    whole = VDFDHook(rank=None).keep(model, batches_of([6]), NODES).dense()
    ragged = VDFDHook(rank=None).keep(model, batches_of([4, 2]), NODES).dense()
    torch.testing.assert_close(ragged, whole, rtol=1e-4, atol=1e-7)
    official = VDFDHook(rank=None, weighting='batches').keep(model, batches_of([4, 2]), NODES)
    first = VDFDHook(rank=None).keep(model, batches_of([4, 2])[:1], NODES).dense()
    second = VDFDHook(rank=None).keep(model, batches_of([4, 2])[1:], NODES).dense()
    torch.testing.assert_close(official.dense(), (first + second) / 2, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize('rank', [0, 1])
def test_only_the_main_process_decomposes(model, tmp_path, monkeypatch, rank):
    called = []
    monkeypatch.setattr(main_process, 'get_rank', lambda: rank)
    monkeypatch.setattr(hook_module, 'step_batches', lambda *_: batches_of([4]))
    monkeypatch.setattr(
        keeper_module, 'compress', lambda *args: called.append(1) or compress(*args)
    )
    runner = SimpleNamespace(model=model, work_dir=str(tmp_path), logger=logging.getLogger())
    VDFDHook().after_step(runner)
    assert len(called) == (tmp_path / 'vdfd.pth').is_file() == (rank == 0)
    # Every process refuses gradients that are not finite: none is left waiting for rank 0.
    broken = copy.deepcopy(model)
    broken.decode_head.conv_seg.weight.data[0, 0] = torch.nan
    runner.model = broken
    with pytest.raises(InputError, match='not finite'):
        VDFDHook().after_step(runner)


@pytest.mark.parametrize(
    ('rank', 'error'),
    [(0, 'No space left'), (1, 'the main process failed: OSError: No space left')],
)
def test_a_disk_that_is_full_ends_every_process(model, tmp_path, monkeypatch, rank, error):

    def fail(*_):
        raise OSError('No space left')

    def broadcast(answer):
        if rank == 1:
            answer[:] = [None, 'OSError: No space left', False]
        else:
            assert answer == [None, 'OSError: No space left', False]

    monkeypatch.setattr(main_process, 'get_rank', lambda: rank)
    monkeypatch.setattr(main_process, 'broadcast_object_list', broadcast)
    monkeypatch.setattr(hook_module, 'save_gradients', fail)
    monkeypatch.setattr(hook_module, 'step_batches', lambda *_: batches_of([4]))
    runner = SimpleNamespace(model=model, work_dir=str(tmp_path), logger=logging.getLogger())
    with pytest.raises((OSError, RuntimeError), match=error):
        VDFDHook().after_step(runner)


def test_the_pass_leaves_the_model_as_it_was(model):
    state = copy.deepcopy(model.state_dict())
    model.train()
    VDFDHook().keep(model, batches_of([3, 3]), NODES)
    assert model.training
    model.eval()
    assert all(parameter.grad is None for parameter in model.parameters())
    for key, value in model.state_dict().items():
        assert torch.equal(value, state[key]), key


def test_all_that_the_logits_depend_on_is_regularised(model):
    every = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    left_out = every - set(VDFDHook().parameters(model))
    assert all(name.startswith('auxiliary_head.') for name in left_out)
    assert 'auxiliary_head.conv_seg.weight' in left_out
    without = set(VDFDHook(classifier=False).parameters(model))
    assert every - left_out - without == {
        'decode_head.conv_seg.weight',
        'decode_head.conv_seg.bias',
    }


@pytest.mark.parametrize(
    ('options', 'chosen'),
    [
        (dict(parts=['backbone', 'decode_head']), lambda name: True),
        (dict(parts=['backbone']), lambda name: name.startswith('backbone.')),
        (
            dict(parts=['backbone.layer4', 'decode_head'], classifier=False),
            lambda name: (
                name.startswith(('backbone.layer4.', 'decode_head.conv')) and 'conv_seg' not in name
            ),
        ),
        (dict(parts=['decode_head.conv_seg']), lambda name: 'conv_seg' in name),
        # In these networks a norm is called "bn1" or "bn", or is the second of a sequence.
        (
            dict(norms=False),
            lambda name: not any(part in name for part in ('.bn', 'downsample.1.', 'norm')),
        ),
    ],
    ids=['whole', 'backbone', 'last stage and head', 'classifier', 'no norms'],
)
def test_parts_choose_what_is_regularised(model, options, chosen):
    every = VDFDHook().parameters(model)
    found = VDFDHook(**options).parameters(model)
    assert set(found) == {name for name in every if chosen(name)} and found
    if options.get('norms', True) is False:
        assert all(tensor.dim() > 1 for name, tensor in found.items() if 'conv_seg' not in name)


def test_nothing_holds_what_is_not_chosen(tmp_path):
    config = network()
    old = base_step(config, tmp_path / 'base.pth')
    model = next_step(
        config, tmp_path / 'base.pth', distillers=(), regularisers=[dict(type='DFDRegulariser')]
    )
    hook = VDFDHook(parts=['backbone.layer4'])
    kept = hook.keep(old, batches_of([4]), ((0,), (1,)))
    model.regularisers[0].set_earlier_steps([kept], model, model.previous_state())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01)
    model.regularisers[0](model)['loss_dfd'].backward()
    held = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert held == set(hook.parameters(model)) and held


def test_a_file_from_before_an_option_is_one_with_its_default(model, tmp_path):
    kept = VDFDHook().keep(model, batches_of([2]), NODES)
    old = {
        key: value
        for key, value in VDFDHook().settings().items()
        if key not in ('parts', 'norms', 'nodes')
    }
    save_gradients(tmp_path / 'vdfd.pth', kept, old)
    assert VDFDHook().has_kept(tmp_path)
    for options in (dict(parts=['backbone']), dict(norms=False), dict(nodes='all'), dict(rank=2)):
        assert not VDFDHook(**options).has_kept(tmp_path)
    hook = VDFDHook(parts=['backbone'], norms=False)
    save_gradients(tmp_path / 'vdfd.pth', kept, hook.settings())
    assert hook.has_kept(tmp_path) and not VDFDHook().has_kept(tmp_path)


def test_the_classifier_is_kept_exactly(model):
    """At rank 1: an output depends on its own row alone, which no leading triple tells."""
    exact, rank_1 = (
        VDFDHook(rank=rank, classifier=True).keep(model, batches_of([6]), NODES)
        for rank in (None, 1)
    )
    assert rank_1.names == exact.names and rank_1.left.shape[1] == 1
    apart = {'decode_head.conv_seg.weight', 'decode_head.conv_seg.bias'}
    assert set(rank_1.apart) == apart
    first = 0
    for name, rows in zip(exact.names, exact.rows, strict=True):
        if name in apart:
            part = slice(first, first + rows)
            torch.testing.assert_close(rank_1.dense()[part], exact.dense()[part])
            assert rows == 4 and exact.dense()[part][0, 1] == 0
        first += rows
    # The bias of a class moves the mean logit of that class by as much, of merged ones in part.
    bias = exact.dense()[
        [sum(exact.rows[: exact.names.index('decode_head.conv_seg.bias')]) + i for i in range(4)]
    ]
    torch.testing.assert_close(bias[:2], torch.eye(4)[:2, :3])
    torch.testing.assert_close(bias[2:, 2].sum(), torch.tensor(1.0))


def test_frozen_parameters_are_left_out(model):
    frozen = copy.deepcopy(model)
    frozen.backbone.layer1.requires_grad_(False)
    assert not any('layer1' in name for name in VDFDHook().parameters(frozen))


def test_a_node_that_is_never_predicted_has_no_gradient(model):
    changed = copy.deepcopy(model)
    with torch.no_grad():
        changed.decode_head.conv_seg.bias[1] = -1e4
    kept = VDFDHook(outputs='predicted', rank=None).keep(changed, batches_of([6]), NODES)
    assert torch.equal(kept.dense()[:, 1], torch.zeros(len(kept.left)))
    assert kept.dense()[:, 0].norm() > 0


def test_nothing_to_remember(model):
    nodes = nodes_of_step((0,), 0, background='exclude')
    kept = VDFDHook().keep(model, batches_of([2]), nodes)
    assert kept.nodes == () and kept.left.shape[1] == 0 and kept.num_floats == 0


def test_the_segmentor_adds_what_regularisers_return(tmp_path):
    config = network()
    base_step(config, tmp_path / 'base.pth')
    model = next_step(
        config,
        tmp_path / 'base.pth',
        distillers=(),
        regularisers=[
            dict(type='VDFDRegulariser', covariance=dict(hidden_channels=4, out_channels=8)),
            dict(type='DFDRegulariser', loss_name='loss_vdfd'),
        ],
    )
    step = VDFDHook().keep(
        base_step(config, tmp_path / 'base.pth'), batches_of([4]), ((0,), (1,), (2,))
    )
    for regulariser in model.regularisers:
        regulariser.set_earlier_steps([step], model, model.previous_state())
    images, samples = batch(5)
    losses = model.loss(images, samples)
    vdfd, dfd = (regulariser(model)['loss_vdfd'] for regulariser in model.regularisers)
    torch.testing.assert_close(losses['regularise.loss_vdfd'], vdfd + dfd)
    assert dfd == 0 and 'regularise.vdfd_quadratic' in losses


def test_step_0_has_no_regularisers():
    model = segmentor(network(), [3], regularisers=[dict(type='VDFDRegulariser')])
    assert len(model.regularisers) == 0


def test_other_models_are_refused():
    runner = SimpleNamespace(model=torch.nn.Linear(1, 1))
    with pytest.raises(InputError, match='works in walks only'):
        VDFDHook().before_train(runner)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (
            dict(parts=['neck']),
            "parts has 'neck', which the network does not have; there is backbone",
        ),
        (dict(parts=['backbone.layer5']), 'there is .*backbone.layer4'),
        (dict(parts=['decode_head.conv_seg'], classifier=False), 'nothing that trains is left'),
    ],
)
def test_parts_that_a_network_lacks_are_refused(model, options, message):
    with pytest.raises(InputError, match=message):
        VDFDHook(**options).check_network(model)


def test_a_network_that_changes_elsewhere_is_fine(tmp_path):
    """The branches replace convolutions of the backbone; what is regularised stays."""
    base_step(network(), tmp_path / 'base.pth')
    model = next_step(
        network(),
        tmp_path / 'base.pth',
        distillers=(),
        regularisers=[dict(type='DFDRegulariser')],
        network_change=dict(type='ParallelBranches'),
    )
    VDFDHook(parts=['decode_head']).check_network(model)
    names = {name for name, _ in model.named_parameters()}
    with pytest.raises(InputError, match='network_change'):
        VDFDHook(parts=['backbone.layer3']).check_network(model)
    assert {name for name, _ in model.named_parameters()} == names
    # Who regularises nothing may keep what they like.
    model.regularisers = nn.ModuleList()
    VDFDHook().check_network(model)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(outputs='median'), 'outputs must be one of'),
        (dict(rank=0), 'rank must be at least 1'),
        (dict(background='drop'), 'background must be'),
        (dict(weighting='x'), 'weighting must be'),
        (dict(nodes='old'), 'nodes must be one of'),
        (dict(sketches=-1), 'sketches must be a whole number'),
        (dict(sketches=2, samples='batches'), 'samples must be one of'),
        (dict(sketches=2, outputs='grid'), "sketches are made beside outputs='mean'"),
        (dict(sketches=2, weighting='batches'), "beside 'mean' with 'batches'"),
        (dict(max_images=0), 'max_images must be at least 1'),
        (dict(parts='backbone'), 'parts must be a list of names'),
        (dict(parts=[]), 'parts must be a list of names'),
        (dict(parts=['auxiliary_head']), "parts has 'auxiliary_head'; logits depend on"),
    ],
)
def test_unknown_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        VDFDHook(**options)
