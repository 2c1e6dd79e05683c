"""The network of foreground classes: training, evaluation, and what goes from step to step."""

from types import SimpleNamespace

import pytest
import torch
from mmseg.models.decode_heads import PointHead

from mmseg_cil.errors import InputError
from mmseg_cil.methods.dkd_decomposed import DecomposedDistiller, ForegroundRows
from mmseg_cil.models.freezing import norms_with_statistics
from mmseg_cil.models.network_change import CHANGE_NAME
from mmseg_cil.models.plain import plain_state_dict
from mmseg_cil.testing.networks import base_step, batch, network, next_step, segmentor
from mmseg_cil.utils.step_context import StepContext

CHANGE = dict(type='ForegroundRows')
LOSSES = [dict(type='ForegroundCrossEntropyLoss'), dict(type='AuxiliaryOutputLoss')]
PARTS = dict(
    distillers=[dict(type='DecomposedDistiller')], network_change=CHANGE, classifier_init='rare'
)


def config(head='FCNHead', auxiliary='single'):
    found = network(head, auxiliary)
    heads = [found['decode_head']]
    if auxiliary == 'single':
        heads.append(found['auxiliary_head'])
    for each in heads:
        each['loss_decode'] = LOSSES
    return found


def outputs(model, images):
    with torch.no_grad():
        return model.encode_decode(images, [dict(ori_shape=(32, 32), img_shape=(32, 32))] * 2)


def rows(model, name='decode_head'):
    classifier = model.get_submodule(name).conv_seg
    return classifier.weight.detach().clone(), classifier.bias.detach().clone()


@pytest.fixture
def first(tmp_path):
    """A step 0 whose rows are drawn, and its folder with all that the next step reads."""
    model = segmentor(config(), [3], network_change=CHANGE)
    model.init_weights()
    torch.manual_seed(0)
    with torch.no_grad():
        for head in model.heads.values():
            head.conv_seg.weight.normal_()
            head.conv_seg.bias.normal_()
    return model, tmp_path / 'step.pth'


def left(model, path):
    """The tensors that the step hands on, beside its checkpoint."""
    kept = model.make_plain()
    torch.save(dict(state_dict=plain_state_dict(model.state_dict()), meta={}), path)
    torch.save(kept, path.parent / CHANGE_NAME)
    return kept


def test_output_0_is_a_row_of_its_own_in_training_and_0_in_evaluation(first):
    model, _ = first
    weight, bias = rows(model)
    features = torch.randn(2, 12, 4, 4, requires_grad=True)
    head = model.decode_head
    model.train()
    trained = head.conv_seg(features)
    plain = torch.nn.functional.conv2d(features, weight, bias)
    torch.testing.assert_close(trained, plain)
    # The auxiliary row does not move the embedding.
    assert not torch.autograd.grad(trained[:, 0].sum(), features, retain_graph=True)[0].any()
    (gradient,) = torch.autograd.grad(trained[:, 0].sum(), head.conv_seg.weight, retain_graph=True)
    torch.testing.assert_close(gradient[0, :, 0, 0], features.sum(dim=(0, 2, 3)))
    assert torch.autograd.grad(trained[:, 1].sum(), features)[0].any()
    model.eval()
    assert not head.conv_seg(features)[:, 0].any()
    torch.testing.assert_close(head.conv_seg(features)[:, 1:], plain[:, 1:])


def test_the_plain_network_predicts_what_the_changed_one_predicts(first):
    model, path = first
    images, _ = batch(3)
    model.eval()
    before = outputs(model, images)
    auxiliary = {name: rows(model, name) for name in model.heads}
    kept = left(model, path)
    assert torch.equal(outputs(model, images), before) and not before[:, 0].any()
    for name, (weight, bias) in auxiliary.items():
        assert torch.equal(kept[f'{name}.weight'], weight[0])
        assert torch.equal(kept[f'{name}.bias'], bias[0])
        assert not any(row[0].any() for row in rows(model, name))
    # The hooks are gone: the row decides.
    with torch.no_grad():
        model.decode_head.conv_seg.bias[0] = 1.0
    assert (outputs(model, images)[:, 0] == 1).all()


def test_new_rows_begin_as_copies_of_the_auxiliary_row(first):
    model, path = first
    kept = left(model, path)
    old = {name: rows(model, name) for name in model.heads}
    later = next_step(config(), path, **PARTS)
    for name, (weight, bias) in old.items():
        grown, biases = rows(later, name)
        assert torch.equal(grown[1:3], weight[1:]) and torch.equal(biases[1:3], bias[1:])
        for place in (0, 3, 4):
            assert torch.equal(grown[place], kept[f'{name}.weight'])
            assert torch.equal(biases[place], kept[f'{name}.bias'])


def test_the_student_begins_as_its_teacher_and_distillation_at_its_minimum(first):
    model, path = first
    left(model, path)
    freezing = dict(norm_statistics=['*'])
    later = next_step(config(), path, freezing=freezing, **PARTS).train()
    losses = later.loss(*batch(5))
    names = ('distill.loss_kd', 'distill.loss_dkd_pos', 'distill.loss_dkd_neg')
    gradients = torch.autograd.grad(
        sum(losses[name] for name in names), later.decode_head.conv_seg.weight
    )
    assert all(losses[name] > 0 for name in names)
    torch.testing.assert_close(gradients[0], torch.zeros_like(gradients[0]), atol=1e-6, rtol=0)
    # A moved row pays in all three.
    with torch.no_grad():
        later.decode_head.conv_seg.weight[1] += 1.0
    moved = later.loss(*batch(5))
    assert all(moved[name] > losses[name] for name in names)


def test_after_a_step_of_another_method_predictions_stay_and_new_classes_are_rare(tmp_path):
    path = tmp_path / 'step.pth'
    old = base_step(config(), path)
    images, _ = batch(3)
    expected = outputs(old, images)
    later = next_step(config(), path, **PARTS).eval()
    found = outputs(later, images)
    torch.testing.assert_close(found[:, 1:3], expected[:, 1:] - expected[:, :1])
    assert (found[:, 3:].sigmoid() < 0.3).all()
    losses = later.train().loss(*batch(5))
    assert all(torch.isfinite(value).all() for value in losses.values())
    # Weights of the step's beginning in the form of its end, which EWF mixes.
    state = later.in_finished_form(later.previous_state())
    assert not state['decode_head.conv_seg.weight'][0].any()
    torch.testing.assert_close(state['decode_head.conv_seg.weight'][1:], rows(later)[0][1:3])


def test_norms_and_dropout_stand_still_in_later_steps_alone(first):
    model, path = first
    assert all(norm.weight.requires_grad for _, norm in norms_with_statistics(model))
    assert model.decode_head.dropout.p == 0.1
    left(model, path)
    later = next_step(config(), path, **PARTS)
    assert not any(norm.weight.requires_grad for _, norm in norms_with_statistics(later))
    assert later.decode_head.dropout.p == later.auxiliary_head.dropout.p == 0
    later.make_plain()
    assert later.decode_head.dropout.p == 0.1
    free = dict(CHANGE, train_norms=True, dropout=True)
    trained = next_step(config(), path, **{**PARTS, 'network_change': free})
    assert all(norm.weight.requires_grad for _, norm in norms_with_statistics(trained))
    assert trained.decode_head.dropout.p == 0.1


def test_a_damaged_or_foreign_auxiliary_row_is_refused(first):
    model, path = first
    kept = left(model, path)
    file = path.parent / CHANGE_NAME
    torch.save({'decode_head.weight': torch.zeros(5, 1, 1)}, file)
    with pytest.raises(InputError, match=r'the auxiliary row in .* is of another network'):
        next_step(config(), path, **PARTS)
    torch.save({**kept, 'decode_head.bias': torch.tensor(torch.nan)}, file)
    with pytest.raises(InputError, match=r'cannot be read .*not finite'):
        next_step(config(), path, **PARTS)
    file.write_bytes(b'nothing')
    with pytest.raises(InputError, match='cannot be read'):
        next_step(config(), path, **PARTS)


def test_without_an_auxiliary_row_output_0_is_always_0(tmp_path):
    change = dict(CHANGE, auxiliary=False)
    model = segmentor(config(auxiliary='none'), [3], network_change=change)
    model.init_weights()
    images, _ = batch(3)
    assert not outputs(model.train(), images)[:, 0].any()
    assert model.make_plain() == {} and not rows(model)[0][0].any()


def test_networks_without_background_or_by_other_rows_are_refused():
    with pytest.raises(InputError, match='ForegroundRows: this method'):
        segmentor(network(), [3], has_background=False, network_change=CHANGE)
    heads = {'decode_head': object.__new__(PointHead)}
    points = SimpleNamespace(step=StepContext.of_class_counts([3]), heads=heads)
    with pytest.raises(InputError, match=r'\(PointHead\) does not predict by the rows'):
        ForegroundRows().install(points, learnt=False)


def test_a_kernel_that_looks_at_neighbours_is_refused():
    model = segmentor(config(), [3])
    model.decode_head.conv_seg = torch.nn.Conv2d(12, 3, 3)
    with pytest.raises(InputError, match='logits are decomposed for 1x1 alone'):
        DecomposedDistiller().attach(model)
