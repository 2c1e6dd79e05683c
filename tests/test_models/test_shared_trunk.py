"""Student and teachers run frozen first layers once, with the same numbers."""

import copy
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from mmseg_cil.contracts import Distiller, Needs
from mmseg_cil.contracts.method import MethodConfig
from mmseg_cil.engine.config.compose import read_piece
from mmseg_cil.engine.config.method import OTHER_KEYS
from mmseg_cil.engine.config.protocol_pieces import settled
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.models import shared_trunk
from mmseg_cil.models.frozen_units import units_of
from mmseg_cil.registry import MODELS
from mmseg_cil.testing.method_checks import check_method
from mmseg_cil.testing.networks import UNKD, base_step, batch, network, next_step, snapshot
from mmseg_cil.testing.tiny import tiny_config
from mmseg_cil.testing.walks import assert_same_weights

STAGES = ['backbone.layer1', 'backbone.layer2', 'backbone.layer3', 'backbone.layer4']
STEM = ['backbone.conv1', 'backbone.bn1']
#: One of ResNet's units without parameters runs between stem and stages.
EARLY = [*STEM, *STAGES[:2]]
VIT = dict(
    type='VisionTransformer', img_size=(32, 32), patch_size=8, embed_dims=16, num_layers=4,
    num_heads=2, mlp_ratio=2, out_indices=(0, 1, 2, 3), drop_path_rate=0.2,
)  # fmt: skip
SWIN = dict(
    type='SwinTransformer', embed_dims=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1),
    window_size=4,
)  # fmt: skip


def frozen(*names):
    return dict(parameters=list(names), evaluation=list(names))


@pytest.fixture
def said(monkeypatch):
    """Return the lines of the log about sharing."""
    lines = []
    monkeypatch.setattr(shared_trunk, 'print_log', lambda text, logger: lines.append(text))
    return lines


@pytest.fixture
def taught(tmp_path):
    """Build a student of a second step with a teacher, in training mode."""

    def build(config=None, shared=True, **parts):
        config, path = config or network(), tmp_path / 'step.pth'
        base_step(config, path)
        form = {**(parts.pop('teacher_form', None) or {}), 'shared_trunk': shared}
        return next_step(config, path, teacher_form=form, **parts).train()

    return build


def runs(model, *names):
    """Count the runs of layers of the student and of its teachers, by name."""
    counts = dict.fromkeys(names, 0)

    def count(name, unit):
        kind = type(unit)

        def forward(own, *inputs, **options):
            counts[name] += 1
            return kind.forward(own, *inputs, **options)

        # The class is another one, but not its name: the network looks as before.
        unit.__class__ = type(kind.__name__, (kind,), {'forward': forward})

    for network_ in (model, *(teacher.network for teacher in model.teachers.networks)):
        for name in names:
            count(name, network_.get_submodule(name))
    return counts


def learn(model, iterations=4, amp=False, num_classes=5):
    """Train, and return all losses and the weights at the end."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01)
    found = []
    for iteration in range(iterations):
        torch.manual_seed(iteration)
        with torch.autocast('cpu', torch.bfloat16) if amp else nullcontext():
            losses = model.loss(*batch(num_classes, seed=iteration))
            loss, _ = model.parse_losses(losses)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append({name: value for name, value in losses.items() if 'loss' in name})
    return found, copy.deepcopy(model.state_dict())


def assert_equal(found, expected):
    (losses, weights), (others, other_weights) = found, expected
    assert weights.keys() == other_weights.keys()
    for own, plain in zip(losses, others, strict=True):
        assert own.keys() == plain.keys()
        assert all(torch.equal(own[name], plain[name]) for name in plain)
    assert all(torch.equal(value, other_weights[name]) for name, value in weights.items())


def method(name):
    """The parts of a method, but for the form of its teachers."""
    settings = settled(read_piece('method', name)['method'], 'voc_19-1')
    parts = MethodConfig.from_config(settings, OTHER_KEYS).for_network()
    return {key: value for key, value in parts.items() if key != 'teacher_form'}


CASES = {
    'first stages': (network(), frozen(*EARLY), STAGES[1]),
    'whole backbone': (network('ASPPHead', 'list'), frozen('backbone'), STAGES[3]),
    'maps of all stages': (network('UPerHead'), frozen(*EARLY), STAGES[0]),
    'norm statistics alone held': (
        network(),
        dict(parameters=EARLY, norm_statistics=['backbone']),
        STAGES[1],
    ),
    'MixVisionTransformer': (
        network('SegformerHead'),
        frozen('backbone.layers.0', 'backbone.layers.1.0'),
        'backbone.layers.0.0',
    ),
}


@pytest.mark.parametrize('case', CASES)
@pytest.mark.parametrize('amp', [False, True])
def test_losses_and_weights_are_those_without_sharing(case, amp, taught, said):
    config, freezing, watched = CASES[case]
    expected = learn(taught(config, shared=False, freezing=freezing), amp=amp)
    assert said == []
    model = taught(config, freezing=freezing)
    counts = runs(model, watched)
    assert_equal(learn(model, amp=amp), expected)
    # The teacher runs its own layers in the first iteration alone.
    assert counts == {watched: 4 + 1}, said
    assert len(said) == 1 and 'frozen layers once' in said[0]


@pytest.mark.parametrize('backbone', [VIT, SWIN], ids=['ViT', 'Swin'])
def test_transformers_share_what_runs_before_the_first_trained_layer(backbone, taught, said):
    config = network('UPerHead')
    config['backbone'] = copy.deepcopy(backbone)
    sizes = [16] * 4 if backbone is VIT else [8, 16, 32, 64]
    config['decode_head']['in_channels'] = sizes
    lists = 'layers' if backbone is VIT else 'stages'
    names = ['backbone.patch_embed', f'backbone.{lists}.0', 'backbone.drop_after_pos']
    freezing = dict(
        evaluation=names,
        parameters=['backbone.patch_embed', f'backbone.{lists}.0', 'backbone.*_token',
                    'backbone.pos_embed', 'backbone.norm0'][: 5 if backbone is VIT else 2],
    )  # fmt: skip
    if backbone is VIT:
        freezing['parameters'].remove('backbone.norm0')
    expected = learn(taught(config, shared=False, freezing=freezing))
    model = taught(config, freezing=freezing)
    watched = f'backbone.{lists}.0'
    counts = runs(model, watched)
    assert_equal(learn(model), expected)
    assert counts == {watched: 5}, said
    assert watched in said[0]


@pytest.mark.parametrize(
    ('name', 'stages'), [('mib', 1), ('plop', 1), ('plop', 4), ('ilt', 4), ('rcil', 1)]
)
def test_frozen_stages_of_mmsegmentation_are_shared_by_methods(name, stages, taught, said):
    config = network(auxiliary='single')
    config['backbone'].update(frozen_stages=stages, norm_eval=True)
    parts = method(name)
    model = taught(config, **parts)
    counts = runs(model, STAGES[0])
    expected = learn(taught(config, shared=False, **parts))
    assert_equal(learn(model), expected)
    assert counts == {STAGES[0]: 5} and len(said) == 1, said


def test_pre_activations_of_shared_stages_are_in_the_teachers_record(taught):
    parts = method('plop')
    model = taught(freezing=frozen(*EARLY), **parts)
    images, samples = batch(5)
    expected = model.teacher(images, pre_activations=True).pre_activations
    found = []
    run = model._trunk.run
    model._trunk.run = lambda *given: found.append(run(*given)) or found[-1]
    for _ in range(2):
        model.loss(images, samples)
    for record in found:
        assert len(record.pre_activations) == 4
        assert all(map(torch.equal, record.pre_activations, expected))


@MODELS.register_module()
class EveryTeacher(Distiller):
    """Holds the last maps to those of all teachers, and runs the student on other images."""

    needs = Needs(teacher=True, teachers='all')

    def attach(self, model):
        # In a list, the network is no part of this module.
        self.network = [model]

    def forward(self, batch):
        teachers = [batch.teacher, *batch.teachers.values()]
        far = [(t.features[-1] - batch.student.features[-1]).square().mean() for t in teachers]
        turned = torch.ones(1, 3, 32, 32)
        other = self.network[0].extract_feat(turned)[-1].square().mean()
        return {'loss_far': sum(far), 'loss_other': other}


def test_each_of_several_teachers_is_compared_by_itself(taught, said, tmp_path):
    path = tmp_path / 'other.pth'
    model = taught()
    with torch.no_grad():
        model.teacher.network.backbone.layer2[0].conv1.weight.mul_(1.01)
    torch.save(dict(state_dict=model.teacher.network.state_dict(), meta={}), path)
    parts = dict(
        freezing=frozen(*EARLY),
        distillers=[dict(type='EveryTeacher'), UNKD],
        teachers={'step_00': snapshot(path, 3)},
    )
    expected = learn(taught(shared=False, **parts))
    shared = taught(**parts)
    counts = runs(shared, *STAGES[:2])
    assert_equal(learn(shared), expected)
    # The student runs for the batch and for the distiller's image, each teacher in the first
    # iteration. The second stage of the other teacher runs anew where it tries, and ever after.
    assert counts == {STAGES[0]: 8 + 2, STAGES[1]: 8 + 2 + 4}
    assert len(said) == 2 and STAGES[1] in said[0] and said[1].endswith(f'conv1 to {STAGES[0]}')


@pytest.mark.parametrize(
    ('parts', 'reason'),
    [
        (dict(freezing=dict(parameters=EARLY[1:])), 'conv1 runs first and is trained'),
        (dict(freezing=frozen(*STAGES[:1])), 'conv1 runs first and is trained'),
        (
            dict(freezing=frozen(*EARLY), teacher_form=dict(fold_norms=True)),
            'conv1 is made of other layers',
        ),
        (
            dict(freezing=frozen(*EARLY), teacher_form=dict(channels_last=True)),
            'another layout in memory',
        ),
        (
            dict(freezing=frozen(*EARLY), teacher_form=dict(dtype='bfloat16')),
            'its outputs with the frozen layers of the student are others',
        ),
    ],
)
def test_the_reason_is_said_once_where_frozen_layers_are_not_shared(parts, reason, taught, said):
    expected = learn(taught(shared=False, **parts))
    model = taught(**parts)
    assert_equal(learn(model), expected)
    assert len(said) == 1 and reason in said[0]


@pytest.mark.parametrize('parameters', [[], ['backbone.*bn?']])
def test_nothing_is_said_where_no_layer_is_frozen(parameters, taught, said):
    model = taught(freezing=dict(norm_statistics=['backbone'], parameters=parameters))
    order = []
    model.backbone.register_forward_hook(lambda *_: order.append('student'))
    model.teacher.network.backbone.register_forward_hook(lambda *_: order.append('teacher'))
    learn(model, 2)
    assert order == ['teacher', 'student'] * 2 and said == []


def test_a_teacher_whose_weights_are_converted_once_shares(taught, said):
    parts = dict(freezing=frozen(*EARLY), teacher_form=dict(dtype='run'))
    expected = learn(taught(shared=False, **parts), amp=True)
    assert_equal(learn(taught(**parts), amp=True), expected)
    assert 'frozen layers once' in said[0]


@pytest.mark.parametrize('rate', [0.0, 0.5])
def test_a_layer_with_dropout_is_not_shared(rate, taught, said):
    model = taught(freezing=frozen(*EARLY))
    model.backbone.layer2.add_module('drop', nn.Dropout(rate))
    model.teacher.network.backbone.layer2.add_module('drop', nn.Dropout(rate).eval())
    counts = runs(model, *STAGES[:2])
    learn(model, 3)
    assert counts == {STAGES[0]: 4, STAGES[1]: 7}, said


def test_layers_whose_insides_are_watched_run(taught, said):
    model = taught(freezing=frozen(*EARLY))
    seen = []
    teacher = model.teacher.network
    learn(model, 2)
    teacher.backbone.layer2[0].conv2.register_forward_hook(lambda *_: seen.append(1))
    learn(model, 2)
    assert len(seen) == 2
    watched = taught(freezing=frozen(*EARLY))
    watched.teacher.network.backbone.layer1[0].register_forward_hook(lambda *_: seen.append(1))
    learn(watched, 2)
    assert len(seen) == 2 + 3 and 'maxpool' in said[-1]


@pytest.mark.parametrize('change', ['weight', 'mode', 'gradient', 'statistics'])
def test_sharing_ends_where_the_frozen_part_changes(change, taught, said):
    model = taught(freezing=frozen(*EARLY))
    learn(model, 2)
    norm = model.backbone.bn1
    if change == 'weight':
        with torch.no_grad():
            model.backbone.conv1.weight.add_(0.1)
    elif change == 'mode':
        norm.train()
    elif change == 'gradient':
        norm.weight.requires_grad_()
    else:
        norm.running_mean.add_(0.1)
    images, samples = batch(5)
    expected = model.teacher(images).logits
    records = []
    run = model._trunk.run
    model._trunk.run = lambda *given: records.append(run(*given)) or records[-1]
    for _ in range(2):
        model.loss(images, samples)
    assert all(torch.equal(record.logits, expected) for record in records)
    assert len(said) == 2 and 'it was trained, loaded or set to another mode' in said[1]


def test_a_copy_of_the_network_runs_its_own_layers(taught):
    model = taught(freezing=frozen('backbone'))
    learn(model, 2)
    twin = copy.deepcopy(model)
    assert all('forward' not in vars(unit) for unit in units_of(model.teacher.network).values())
    assert_equal(learn(twin), learn(model))
    images, _ = batch(5, seed=9)
    assert torch.equal(twin.teacher(images).logits, model.teacher(images).logits)


def test_a_compiled_student_shares_nothing(taught, said):
    model = taught(freezing=frozen(*EARLY))
    model.extract_feat = torch.compile(model.extract_feat, backend='eager')
    expected = learn(taught(shared=False, freezing=frozen(*EARLY)), 2)
    assert_equal(learn(model, 2), expected)
    assert said == [said[0]] and 'compiled' in said[0]


@pytest.mark.slow
@pytest.mark.walk
@pytest.mark.parametrize('stages', [2, 4])
def test_a_walk_that_shares_resumes_and_runs_in_two_processes(stages, tmp_path):
    changes = {'model.backbone.frozen_stages': stages, 'model.backbone.norm_eval': True}
    check_method('mib', tmp_path, checks=['resume', 'processes', 'mixed_precision'], **changes)


@pytest.mark.slow
@pytest.mark.walk
def test_a_walk_ends_with_the_weights_of_one_that_shares_nothing(data_root, tmp_path):
    for name, shared in (('shared', True), ('apart', False)):
        changes = {'model.backbone.frozen_stages': 2, 'step_overrides.later.max_iters': 20}
        cfg = tiny_config(data_root, 'plop', **changes)
        cfg.log_level = 'INFO'
        cfg.method.teacher_form = dict(shared_trunk=shared)
        WalkRunner(cfg, tmp_path / name).run()
        logs = ''.join(path.read_text() for path in (tmp_path / name).rglob('*.log'))
        assert ('frozen layers once' in logs) == shared
    assert_same_weights(tmp_path / 'shared', tmp_path / 'apart', 1, 2)
