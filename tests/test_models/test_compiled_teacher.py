"""Teachers whose backbones are compiled."""

import pytest
import torch

from mmseg_cil.contracts import Needs, TeacherForm
from mmseg_cil.contracts.method import MethodConfig
from mmseg_cil.errors import InputError
from mmseg_cil.models.teacher import Teacher
from mmseg_cil.models.teachers import Teachers
from mmseg_cil.testing.networks import HEADS, base_step, batch, network, next_step

EAGER = dict(compile=dict(backend='eager'))


@pytest.fixture
def teacher(tmp_path):
    """Make teachers of one snapshot, each in a form of its own."""

    def make(head='FCNHead', **form):
        config, path = network(head, 'single'), tmp_path / f'{head}.pth'
        if not path.exists():
            base_step(config, path)
        return Teacher(config, str(path), num_classes=3, form=TeacherForm.from_config(form or None))

    return make


def maps_of(record):
    return [*record.features, record.embedding, record.logits, *record.auxiliary]


def test_the_backbone_runs_as_the_backend_made_it(teacher):
    seen = []

    def backend(graph, inputs):
        seen.append(len(list(graph.graph.nodes)))
        return graph.forward

    compiled, (images, _) = teacher(compile=dict(backend=backend)), batch(3)
    expected = maps_of(teacher()(images, False, True))
    for _ in range(2):
        found = maps_of(compiled(images, False, True))
        assert all(map(torch.equal, found, expected))
    # Compiled once, with all layers of the backbone in it.
    assert seen and max(seen) > 40
    before = len(seen)
    # Whole images of other sizes, for hooks, are computed as ever.
    assert torch.equal(compiled.image_logits(images), teacher().image_logits(images))
    assert len(seen) == before
    assert 'forward' not in vars(compiled.network.backbone)


def test_a_step_learns_from_a_compiled_teacher_and_shares_no_layers_with_it(tmp_path):
    path, config = tmp_path / 'step.pth', network()
    base_step(config, path)
    freezing = dict(parameters=['backbone'], evaluation=['backbone'])
    models = [
        next_step(config, path, freezing=freezing, teacher_form=form).train()
        for form in (EAGER, dict(shared_trunk=False))
    ]
    for seed in range(2):
        found = []
        for model in models:
            torch.manual_seed(seed)  # of the dropout in the head
            found.append(model.loss(*batch(5, seed=seed)))
        own, plain = found
        assert all(torch.equal(own[name], plain[name]) for name in plain)


def test_a_compiler_that_fails_is_told(teacher):
    def broken(graph, inputs):
        raise RuntimeError('no C++ compiler')

    compiled = teacher(compile=dict(backend=broken))
    with pytest.raises(InputError, match=r'form\.compile.*no C\+\+ compiler.*leave compile'):
        compiled(batch(3)[0])
    with pytest.raises(InputError, match=r'teacher_form\.compile'):
        teacher(compile=dict(backend='nobody'))(batch(3)[0])
    with pytest.raises(InputError, match=r'teacher_form\.compile has the unknown key'):
        teacher(compile=dict(fast=True))


def test_graphs_that_reuse_the_memory_of_records_are_refused(teacher):
    with pytest.raises(InputError, match=r'teacher_form\.compile\.mode .* CUDA graphs'):
        teacher(compile=dict(mode='reduce-overhead'))


def test_wrong_settings_are_refused():
    with pytest.raises(InputError, match='or a dict of arguments'):
        MethodConfig.from_config(dict(name='mine', teacher_form=dict(compile='fast')))
    with pytest.raises(InputError, match='True or False'):
        MethodConfig.from_config(dict(name='mine', teacher_form=dict(shared_trunk={})))


def test_a_distiller_that_reads_pre_activations_is_refused():
    needs = [Needs(teacher=True, pre_activations=True)]
    with pytest.raises(InputError, match='pre_activations'):
        Teachers(None, {}, needs, form=TeacherForm.from_config(EAGER))
    assert Teachers(None, {}, needs, form=TeacherForm()).networks == []


@pytest.mark.slow
@pytest.mark.parametrize('head', HEADS)
@pytest.mark.parametrize(
    ('form', 'amp', 'bound'),
    [
        (dict(compile=True), False, 1e-4),
        (dict(compile=True), True, 5e-2),
        (dict(compile=True, fold_norms=True, channels_last=True), False, 1e-4),
        (dict(compile=True, dtype='bfloat16'), False, 5e-2),
    ],
)
def test_records_of_compiled_teachers_are_within_the_stated_bound(head, form, amp, bound, teacher):
    images, _ = batch(3, size=64)
    plain = {key: value for key, value in form.items() if key == 'dtype'}
    with torch.autocast('cpu', torch.bfloat16, enabled=amp):
        expected = maps_of(teacher(head, **plain)(images, False, True))
        found = maps_of(teacher(head, **form)(images, False, True))
    for own, other in zip(found, expected, strict=True):
        assert own.dtype == other.dtype and own.shape == other.shape
        assert (own - other).abs().max() <= bound * other.abs().max()
