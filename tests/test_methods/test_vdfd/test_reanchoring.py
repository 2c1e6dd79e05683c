"""The penalty is measured from where the classifier's initialisation leaves old rows."""

import copy
import logging
import math
from types import SimpleNamespace

import pytest
import torch
from mmengine.optim import OptimWrapper

from mmseg_cil.contracts import ClassifierInit
from mmseg_cil.errors import InputError
from mmseg_cil.methods.vdfd.files import load_gradients, save_gradients
from mmseg_cil.methods.vdfd.hook import VDFDHook
from mmseg_cil.methods.vdfd.reanchoring import added, begun_rows
from mmseg_cil.models.plain import plain_state_dict
from mmseg_cil.registry import CLASSIFIER_INITS
from mmseg_cil.testing.networks import base_step, batch, network, segmentor, snapshot

COUNTS = (3, 1, 2, 1)
BIAS = 'decode_head.conv_seg.bias'


class HalvedRows(ClassifierInit):
    """Moves all old rows, weights and biases, and draws random numbers for the new ones."""

    def __call__(self, weight, bias, fresh_weight, fresh_bias):
        fresh = torch.randn_like(fresh_weight)
        return torch.cat([weight / 2, fresh]), torch.cat([bias / 2 - 1, fresh_bias])


class ShakenRows(ClassifierInit):
    """Moves old rows by chance."""

    def __call__(self, weight, bias, fresh_weight, fresh_bias):
        shaken = weight + torch.randn_like(weight)
        return torch.cat([shaken, fresh_weight]), torch.cat([bias, fresh_bias])


@pytest.fixture(scope='module', autouse=True)
def strange_initialisations():
    for name, kind in (('halved', HalvedRows), ('shaken', ShakenRows)):
        CLASSIFIER_INITS.register_module(name=name, module=kind)
    yield
    for name in ('halved', 'shaken'):
        del CLASSIFIER_INITS.module_dict[name]


INITS = (
    'random',
    'conv_default',
    'balanced',
    'copied_background',
    'imprinted',
    'attributed',
    'lowered_background',
    'unpredicted',
    'rare',
    'kaiming',
    'pre_tuned',
)


def test_no_registered_initialisation_is_left_out():
    assert set(CLASSIFIER_INITS.module_dict) - {'halved', 'shaken'} == set(INITS)


class Walk:
    """A walk without training: steps that grow, and keep gradients where they 'trained'.

    Args:
        folder: The walk's folder.
        init: The classifier's initialisation.
        untrained: Steps that keep nothing.
        move: Changes a model as training would; by default nothing changes.
        counts: New classes of every step.
        config: The network.
        has_background: Whether class 0 is the background.
        **options: Passed on to the hook.
    """

    def __init__(
        self,
        folder,
        init,
        untrained=(),
        move=None,
        counts=COUNTS,
        config=None,
        has_background=True,
        **options,
    ):
        self.folder, self.init, self.counts = folder, init, counts
        self.config, self.has_background = config or network(), has_background
        self.untrained, self.move = untrained, move
        self.hook = VDFDHook(**{'rank': None, **options})

    def path(self, step, name='checkpoint.pth'):
        return self.folder / f'step_{step:02d}' / name

    def model(self, step, regularisers=(), grown=True):
        counts = list(self.counts[: step + 1])
        torch.manual_seed(step + 1)
        model = segmentor(
            self.config,
            counts,
            has_background=self.has_background,
            previous=snapshot(self.path(step - 1), sum(counts[:-1])) if grown else None,
            regularisers=list(regularisers),
            classifier_init=self.init_of(step),
        )
        trained = [index for index in range(step) if index not in self.untrained]
        object.__setattr__(model.step, 'trained', tuple(trained))
        model.init_weights()
        return model

    def init_of(self, step):
        """The initialisation of a step; NeST's reads a file of rows of all classes."""
        if self.init != 'pre_tuned' or step == 0:
            return 'random' if self.init == 'pre_tuned' else self.init
        path = self.path(step, 'rows.pth')
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            old = torch.load(self.path(step - 1))['state_dict']
            rows = {}
            for part in ('weight', 'bias'):
                value = old[f'decode_head.conv_seg.{part}'].clone()
                value[0] = value[0] / 2 - 1
                new = torch.randn(self.counts[step], *value.shape[1:])
                rows[part] = torch.cat([value, new]).flatten(1 if part == 'weight' else 0)
            torch.save(dict(layers={'decode_head.conv_seg': rows}), path)
        return dict(type='pre_tuned', rows=str(path))

    def run(self, steps):
        for step in range(steps):
            self.path(step).parent.mkdir(exist_ok=True)
            if step == 0:
                model = base_step(
                    self.config,
                    self.path(0),
                    count=self.counts[0],
                    has_background=self.has_background,
                )
            else:
                model = self.model(step)
            if step not in self.untrained:
                if self.move:
                    self.move(model, step)
                self.keep(model, step)
            torch.save(dict(state_dict=plain_state_dict(model.state_dict())), self.path(step))
        return self

    def keep(self, model, step):
        images, samples = batch(sum(self.counts[: step + 1]), count=1, seed=step)
        data = [dict(inputs=list(images), data_samples=samples)]
        nodes = self.hook.nodes_of(model.step)
        gradients = self.hook.keep(model, data, nodes)
        last = max(model.step.trained, default=-1)
        moved = self.hook._moved(model, gradients.names, self.folder) if step else {}
        assert last < step
        object.__setattr__(gradients, 'moved', moved)
        save_gradients(self.path(step, 'vdfd.pth'), gradients, self.hook.settings())

    def begin(self, step, **options):
        """The regulariser of a step, and its model, just before the first iteration."""
        model = self.model(step, [dict(dict(type='DFDRegulariser', damping=0.0), **options)])
        runner = SimpleNamespace(
            model=model,
            work_dir=str(self.path(step).parent),
            logger=logging.Logger('hook'),
            optim_wrapper=OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1)),
        )
        self.hook.before_train(runner)
        return model.regularisers[0], model


def loss_of(begun):
    regulariser, model = begun
    return float(regulariser(model)['loss_dfd'].detach())


@pytest.mark.parametrize(
    ('init', 'nodes'),
    [
        # Those that move no old row are run on request.
        *(
            pytest.param(
                init, 'new', marks=pytest.mark.slow if init in ('random', 'conv_default') else ()
            )
            for init in (*INITS, 'halved')
        ),
        ('balanced', 'all'),
    ],
)
def test_the_penalty_is_0_when_a_step_begins_under_every_initialisation(tmp_path, init, nodes):
    walk = Walk(tmp_path, init, nodes=nodes).run(3)
    for step in (1, 2, 3):
        regulariser, model = walk.begin(step, reanchor=True)
        changes = regulariser._earlier.changes()
        assert len(changes) == step
        if init in ('halved', 'pre_tuned'):
            # Sums over rows of weights round, in float64.
            assert changes.abs().max() < 1e-6
        else:
            assert torch.equal(changes, torch.zeros_like(changes))
            assert regulariser(model)['loss_dfd'] == 0
            assert torch.equal(regulariser._earlier.offset, torch.zeros_like(changes[..., 0]))
    moves = init in ('balanced', 'halved', 'pre_tuned')
    assert (loss_of(walk.begin(3)) > 1e-3) == moves


@pytest.mark.parametrize(
    ('config', 'init', 'has_background'),
    [
        (network('PSPHead', 'list'), 'balanced', True),
        (network('PSPHead', 'list'), 'halved', True),
        (network(), 'halved', False),
    ],
    ids=['several heads', 'several heads, all rows', 'no background'],
)
def test_the_penalty_is_0_when_a_step_begins_in_every_network(
    tmp_path, config, init, has_background
):
    walk = Walk(tmp_path, init, config=config, has_background=has_background).run(3)
    for step in (1, 2, 3):
        changes = walk.begin(step, reanchor=True)[0]._earlier.changes()
        assert len(changes) == step and changes.abs().max() < 1e-6
    assert loss_of(walk.begin(3)) > 1e-3


def test_where_rows_do_not_move_nothing_differs(tmp_path):
    def move(model, step):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.01 * torch.randn_like(parameter))

    walk = Walk(tmp_path, 'copied_background', move=move).run(3)
    plain, anchored = walk.begin(3), walk.begin(3, reanchor=True)
    assert torch.equal(plain[0]._earlier.offset, anchored[0]._earlier.offset)
    assert torch.equal(plain[0]._earlier.anchor, anchored[0]._earlier.anchor)
    assert loss_of(plain) == loss_of(anchored) > 0


def test_the_shift_is_that_of_the_published_initialisation(tmp_path):
    """G^T e_bg times minus the sum of ln(K + 1) over the steps since, for every kept step."""

    def train(model, step):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.02 * torch.randn(parameter.shape, generator=draw))

    draw = torch.Generator().manual_seed(3)
    walk = Walk(tmp_path, 'balanced', move=train, nodes='all').run(3)
    plain, anchored = walk.begin(3)[0]._earlier, walk.begin(3, reanchor=True)[0]._earlier
    for step in range(3):
        kept, _ = load_gradients(walk.path(step, 'vdfd.pth'))
        first = sum(kept.rows[: kept.names.index(BIAS)])
        slope = kept.dense()[first]
        expected = sum(math.log(count + 1) for count in COUNTS[step + 1 : 4]) * slope
        difference = anchored.changes() - plain.changes()
        torch.testing.assert_close(
            difference[step, : len(slope), 0], expected, rtol=1e-4, atol=1e-6
        )
    # A part of the shift is a part of the difference.
    half = walk.begin(3, reanchor=0.5)[0]._earlier
    torch.testing.assert_close(
        half.changes(), (anchored.changes() + plain.changes()) / 2, rtol=1e-4, atol=1e-5
    )


def test_what_training_moves_counts_as_before(tmp_path):
    walk = Walk(tmp_path, 'balanced').run(2)
    regulariser, model = walk.begin(2, reanchor=True)
    kept, _ = load_gradients(walk.path(1, 'vdfd.pth'))
    before = kept.project(dict(model.named_parameters()))
    with torch.no_grad():
        model.decode_head.conv_seg.bias[0] += 0.25
        model.backbone.conv1.weight[1] += 0.1
    changes = regulariser._earlier.changes()[1, : len(kept.nodes), 0]
    expected = kept.project(dict(model.named_parameters())) - before
    torch.testing.assert_close(changes.double(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('untrained', [(1,), (2,), (1, 2)])
def test_steps_that_did_not_train_moved_rows_too(tmp_path, untrained):
    walk = Walk(tmp_path, 'balanced', untrained=untrained).run(3)
    regulariser, model = walk.begin(3, reanchor=True)
    assert len(regulariser._earlier.nodes) == 3 - len(untrained)
    assert regulariser(model)['loss_dfd'] == 0
    assert loss_of(walk.begin(3)) > 0


@pytest.mark.parametrize('untrained', [(), (1,)])
def test_files_of_earlier_versions_are_told_from_checkpoints(tmp_path, untrained):
    walk = Walk(tmp_path, 'balanced', untrained=untrained).run(3)
    for step in range(3):
        path = walk.path(step, 'vdfd.pth')
        if path.is_file():
            content = torch.load(path, weights_only=True)
            del content['moved'], content['settings']['nodes']
            torch.save(content, path)
            assert load_gradients(path)[0].moved is None
    assert loss_of(walk.begin(3, reanchor=True)) == 0
    walk.path(0).unlink()
    assert loss_of(walk.begin(3)) > 0
    with pytest.raises(InputError, match=r'checkpoint\.pth of the previous step does not exist'):
        walk.begin(3, reanchor=True)


def test_later_steps_need_no_earlier_checkpoint_than_the_last(tmp_path):
    walk = Walk(tmp_path, 'balanced').run(3)
    for step in (0, 1):
        walk.path(step).unlink()
    assert loss_of(walk.begin(3, reanchor=True)) == 0
    # One number a step tells of the background's bias.
    moved = load_gradients(walk.path(2, 'vdfd.pth'))[0].moved
    assert list(moved) == [BIAS]
    expected = torch.tensor([-math.log(3.0), 0.0, 0.0, 0.0])
    torch.testing.assert_close(moved[BIAS].float(), expected, rtol=1e-5, atol=1e-6)


def test_single_weights_are_re_anchored(tmp_path):
    walk = Walk(tmp_path, 'halved', average=False).run(3)
    changes = walk.begin(3, reanchor=True)[0]._earlier.changes()
    assert changes.abs().max() < 1e-6
    assert loss_of(walk.begin(3)) > 1e-3


def test_a_resumed_step_is_anchored_where_it_began(tmp_path):
    walk = Walk(tmp_path, 'balanced').run(2)
    begun, model = walk.begin(2, reanchor=True)
    resumed, other = walk.begin(2, reanchor=True)
    with torch.no_grad():
        for parameter in (*other.parameters(),):
            parameter.add_(0.01)
    assert torch.equal(begun._earlier.anchor, resumed._earlier.anchor)
    assert resumed(other)['loss_dfd'] > 0 == begun(model)['loss_dfd']


def test_an_initialisation_by_chance_is_refused(tmp_path):
    walk = Walk(tmp_path, 'shaken').run(2)
    walk.begin(2)
    with pytest.raises(InputError, match='ShakenRows moves the weight of old classes by chance'):
        walk.begin(2, reanchor=True)


def test_asking_an_initialisation_leaves_the_random_streams_alone():
    state = dict(weight=torch.randn(3, 4), bias=torch.randn(3))
    named = {f'layer.{name}': tensor for name, tensor in state.items()}
    before, kept = torch.get_rng_state(), copy.deepcopy(named)
    rows = begun_rows(named, ['layer'], 2, HalvedRows())
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(tensor, kept[name]) for name, tensor in named.items())
    assert torch.equal(rows['layer.weight'], state['weight'] / 2)
    without = begun_rows({'layer.weight': state['weight']}, ['layer'], 2, HalvedRows())
    assert list(without) == ['layer.weight']


def test_moves_add_up_over_rows():
    first, second = dict(a=torch.ones(2)), dict(a=torch.full((3,), 2.0), b=torch.ones(1))
    for total in (added(first, second), added(second, first)):
        assert total['a'].tolist() == [3, 3, 2] and total['b'].tolist() == [1]
    assert first['a'].tolist() == [1, 1]


@pytest.mark.parametrize('value', [-0.1, 1.5, 'half', math.nan])
def test_only_parts_of_the_shift_can_be_taken(value):
    from mmseg_cil.methods.vdfd import DFDRegulariser

    with pytest.raises(InputError, match='reanchor must be a number'):
        DFDRegulariser(reanchor=value)
    assert DFDRegulariser(reanchor=True).reanchor == 1
