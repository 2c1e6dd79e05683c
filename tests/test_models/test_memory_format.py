"""A student with the channels last in memory is the same student."""

import pytest
import torch

from mmseg_cil.engine.export.checkpoint import export_checkpoint
from mmseg_cil.models.memory_format import arrange_state
from mmseg_cil.models.plain import plain_model_config
from mmseg_cil.testing.networks import HEADS, base_step, batch, network, next_step

#: Relative to the greatest loss or gradient of a tensor, in float32.
BOUND = 1e-4


def is_last(value):
    return value.is_contiguous(memory_format=torch.channels_last)


def gradients(model, size=64):
    torch.manual_seed(2)
    loss, _ = model.parse_losses(model.train().loss(*batch(5, size=size)))
    model.zero_grad()
    loss.backward()
    return loss.detach(), [value.grad for value in model.parameters() if value.requires_grad]


@pytest.mark.parametrize('head', HEADS)
def test_losses_and_gradients_are_those_of_the_plain_student(head, tmp_path):
    config, path = network(head, 'single'), tmp_path / 'step.pth'
    base_step(config, path)
    plain, arranged = (
        next_step(config, path, channels_last=channels_last) for channels_last in (False, True)
    )
    # Weights that are drawn are drawn alike.
    for own, other in zip(arranged.parameters(), plain.parameters(), strict=True):
        assert torch.equal(own, other) and (own.dim() != 4 or is_last(own))
    (found, own), (expected, others) = gradients(arranged), gradients(plain)
    assert (found - expected).abs() <= BOUND * expected
    scale = max(float(value.abs().max()) for value in others)
    for value, other, parameter in zip(own, others, arranged.parameters(), strict=True):
        assert (value - other).abs().max() <= BOUND * scale
        # Fused optimizers and buckets of several processes rely on this.
        assert value.stride() == parameter.stride()


def test_a_network_drawn_in_any_order_is_the_same(tmp_path):
    plain, arranged = (
        base_step(network(), tmp_path / f'{order}.pth', channels_last=order).state_dict()
        for order in (False, True)
    )
    assert all(torch.equal(value, plain[key]) for key, value in arranged.items())


def test_maps_of_the_backbone_have_the_channels_last_in_training_and_evaluation(tmp_path):
    model = base_step(network(), tmp_path / 'step.pth', channels_last=True)
    for mode in (True, False):
        maps = model.train(mode).extract_feat(batch(3)[0])
        assert all(is_last(each) and not each.is_contiguous() for each in maps)
    plain = base_step(network(), tmp_path / 'step.pth')
    assert all(each.is_contiguous() for each in plain.extract_feat(batch(3)[0]))


@pytest.mark.parametrize(
    ('student', 'form', 'expected'),
    [
        (False, None, False),
        (True, None, True),
        (True, dict(fold_norms=True), True),
        (True, dict(channels_last=False), False),
        (False, dict(channels_last=True), True),
        (True, dict(channels_last=None), True),
    ],
)
def test_a_teacher_computes_as_the_student_does_unless_it_has_a_form(
    student, form, expected, tmp_path
):
    path = tmp_path / 'step.pth'
    base_step(network(), path)
    model = next_step(network(), path, channels_last=student, teacher_form=form)
    record = model.teacher(batch(3)[0])
    assert (not record.features[-1].is_contiguous()) == expected


def test_checkpoint_and_plain_config_do_not_tell_the_order(tmp_path):
    model = base_step(network(), tmp_path / 'step.pth', channels_last=True)
    state = torch.load(export_checkpoint(model, tmp_path, {}))['state_dict']
    for value in state.values():
        assert value.stride() == torch.empty(value.shape).stride()
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in state.items())
    assert 'channels_last' not in plain_model_config(dict(network(), channels_last=True), 3)


@pytest.mark.parametrize('kind', [torch.optim.SGD, torch.optim.AdamW])
def test_a_fused_optimizer_goes_on_from_a_state_in_another_order(kind):
    settings = dict(lr=0.1, **(dict(momentum=0.9) if kind is torch.optim.SGD else {}))
    generator = torch.Generator().manual_seed(0)
    begun, *updates = (torch.randn(4, 3, 3, 3, generator=generator) for _ in range(3))

    def stepped(fused, orders):
        """Take a step in each order in memory, with a new optimizer that loads the state."""
        value, state = begun.clone(), None
        for order, update in zip(orders, updates, strict=True):
            parameter = torch.nn.Parameter(value.contiguous(memory_format=order))
            optimizer = kind([parameter], fused=fused, **settings)
            if state is not None:
                optimizer.load_state_dict(state)
                arrange_state(optimizer)
            parameter.grad = update.contiguous(memory_format=order)
            optimizer.step()
            value, state = parameter.detach(), optimizer.state_dict()
        return value

    plain, last = torch.contiguous_format, torch.channels_last
    expected = stepped(False, [plain, plain])
    for orders in ([plain, last], [last, plain], [last, last]):
        torch.testing.assert_close(stepped(True, orders), expected)
