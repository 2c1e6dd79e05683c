"""Losses of regions beside a method's own: where labels hide old classes, and where not."""

import pytest
import torch
from mmengine.registry import init_default_scope
from mmseg.models.losses import CrossEntropyLoss, DiceLoss, LovaszLoss, TverskyLoss

from mmseg_cil.losses import MergedBackgroundLoss, SummedLoss, VisibleClassesLoss
from mmseg_cil.utils.step_context import StepContext

LOSSES = [
    (dict(type='DiceLoss', use_sigmoid=False), DiceLoss(use_sigmoid=False)),
    (dict(type='LovaszLoss', reduction='none'), LovaszLoss(reduction='none')),
    (dict(type='TverskyLoss'), TverskyLoss()),
]


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg_cil')


def batch(classes=5):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, classes, 6, 7, generator=generator)
    labels = torch.randint(0, classes, (2, 6, 7), generator=generator)
    labels[:, 0] = 255
    return logits.requires_grad_(), labels


def merged(logits, labels, hidden):
    """The same with the hidden classes as one, the first."""
    rest = [label for label in range(logits.shape[1]) if label not in hidden]
    background = logits[:, hidden].exp().sum(dim=1, keepdim=True).log()
    place = (
        {label: 0 for label in hidden} | {label: 1 + i for i, label in enumerate(rest)} | {255: 255}
    )
    return (
        torch.cat([background, logits[:, rest]], dim=1),
        torch.tensor([place[label] for label in labels.flatten().tolist()]).view_as(labels),
    )


@pytest.mark.parametrize(('config', 'plain'), LOSSES)
def test_without_hidden_classes_it_is_the_loss_itself(config, plain):
    logits, labels = batch()
    loss = MergedBackgroundLoss(config)
    steps = (StepContext.of_class_counts([5]), StepContext.of_class_counts([3, 2], False))
    for step in (None, *steps):
        if step is not None:
            loss.set_step(step)
        assert loss(logits, labels) == plain(logits, labels)
    assert loss.loss_name == plain.loss_name


@pytest.mark.parametrize(('config', 'plain'), LOSSES[:2])
def test_hidden_classes_and_the_background_are_one_class(config, plain):
    logits, labels = batch()
    loss = MergedBackgroundLoss(config)
    loss.set_step(StepContext.of_class_counts([3, 2]))
    found = loss(logits, labels, weight=None, ignore_index=255)
    torch.testing.assert_close(found, plain(*merged(logits, labels, [0, 1, 2])))


@pytest.mark.parametrize(('config', 'plain'), LOSSES)
def test_a_pixel_of_the_background_may_show_any_hidden_class(config, plain):
    labels = torch.zeros(1, 4, 4, dtype=torch.long)
    loss = MergedBackgroundLoss(config)
    loss.set_step(StepContext.of_class_counts([3, 2]))
    values = []
    for shown in (0, 1, 2):
        logits = torch.zeros(1, 5, 4, 4)
        logits[:, shown] = 20.0
        values.append(loss(logits, labels))
    torch.testing.assert_close(values[1:], [values[0]] * 2)
    assert values[0] < 0.01


def test_an_image_that_hides_nothing_teaches_its_old_classes():
    logits, labels = batch()
    loss = MergedBackgroundLoss(dict(type='DiceLoss', use_sigmoid=False))
    loss.set_step(StepContext.of_class_counts([3, 2]))
    hidden = torch.tensor([[True, True, True, False, False], [True] + [False] * 4])
    loss.receive_hidden(hidden)
    plain = DiceLoss(use_sigmoid=False)
    first = plain(*merged(logits[:1], labels[:1], [0, 1, 2]))
    second = plain(logits[1:], labels[1:])
    torch.testing.assert_close(loss(logits, labels), (first + second) / 2)


def test_gradients_are_finite_in_half_precision():
    logits, labels = batch()
    half = logits.detach().to(torch.bfloat16).requires_grad_()
    for config, _ in LOSSES:
        loss = MergedBackgroundLoss(config)
        loss.set_step(StepContext.of_class_counts([3, 2]))
        loss(half, labels).backward()
        assert half.grad.isfinite().all()


def test_the_presence_of_hidden_classes_is_not_learnt():
    logits = torch.randn(2, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    presence = torch.tensor([[1, 0, 0, 1, 0], [1, 0, 0, 0, 1]])
    loss = VisibleClassesLoss(dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=0.2))
    plain = CrossEntropyLoss(use_sigmoid=True, loss_weight=0.2)
    assert loss(logits, presence) == plain(logits, presence)
    loss.set_step(StepContext.of_class_counts([3, 2]))
    loss(logits, presence).backward()
    assert torch.equal(logits.grad[:, 1:3], torch.zeros(2, 2))
    assert (logits.grad[:, [0, 3, 4]] != 0).all()
    # An exemplar tells of all its classes.
    logits.grad = None
    loss.receive_hidden(torch.tensor([[True, True, True, False, False], [True] + [False] * 4]))
    loss(logits, presence).backward()
    assert torch.equal(logits.grad[0, 1:3], torch.zeros(2)) and (logits.grad[1] != 0).all()


def test_several_losses_in_one_place_are_summed():
    logits, labels = batch()
    configs = [dict(type='CrossEntropyLoss'), dict(type='DiceLoss', use_sigmoid=False)]
    loss = SummedLoss(configs)
    expected = CrossEntropyLoss()(logits, labels, ignore_index=255) + DiceLoss(use_sigmoid=False)(
        logits, labels
    )
    torch.testing.assert_close(loss(logits, labels, ignore_index=255), expected)
    assert loss.loss_name == 'loss_ce'
