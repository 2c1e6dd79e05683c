"""Losses on batches that mix images of the step and exemplars."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from mmseg_cil.contracts import NetworkOutput
from mmseg_cil.losses.hidden_classes import hidden_mask, label_is_hidden
from mmseg_cil.methods.mib.reference import unbiased_cross_entropy
from mmseg_cil.methods.mib.unbiased_cross_entropy import (
    UnbiasedCrossEntropyLoss,
    unbiased_cross_entropy_by_image,
)
from mmseg_cil.methods.plop.pseudo_label_loss import PseudoLabelCrossEntropyLoss
from mmseg_cil.utils.step_context import StepContext

# Background and classes 1, 2 are old, 3 and 4 new.
STEP = StepContext.of_class_counts([3, 2])


@pytest.fixture
def batch():
    """Logits and labels of an image of the step and of an exemplar."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(2, 5, 6, 7, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 5, (2, 6, 7), generator=generator)
    # The labels of the step show new classes only.
    labels[0][(labels[0] == 1) | (labels[0] == 2)] = 0
    labels[:, 0] = 255
    return logits.requires_grad_(), labels


def test_the_mask_of_a_batch():
    assert hidden_mask([None, None], 3, 5) is None
    mask = hidden_mask([None, (), (2, 4)], 3, 5)
    assert mask.int().tolist() == [[1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [1, 0, 1, 0, 1]]
    # Where the step hides nothing an image's background is itself.
    assert hidden_mask([None, ()], 0, 3).int().tolist() == [[1, 0, 0], [1, 0, 0]]
    labels = torch.tensor([[[0, 1, 3, 255]], [[0, 1, 2, 255]], [[0, 1, 2, 4]]])
    assert label_is_hidden(labels, mask).int().tolist() == [
        [[1, 1, 0, 0]],
        [[1, 0, 0, 0]],
        [[1, 0, 1, 1]],
    ]


def test_each_image_has_the_loss_of_its_kind(batch):
    logits, labels = batch
    mixed = unbiased_cross_entropy_by_image(logits, labels, hidden_mask([None, ()], 3, 5))
    own = unbiased_cross_entropy(logits[:1], labels[:1], num_hidden=3)
    exemplar = cross_entropy(logits[1:], labels[1:], ignore_index=255, reduction='none')
    expected = torch.cat([own, exemplar])
    torch.testing.assert_close(mixed, expected, rtol=1e-12, atol=1e-12)
    grads = [
        torch.autograd.grad(loss.sum(), logits, retain_graph=True)[0] for loss in (mixed, expected)
    ]
    torch.testing.assert_close(*grads, rtol=1e-12, atol=1e-12)


def test_the_background_of_a_stored_exemplar_stands_for_what_came_later(batch):
    logits, labels = batch
    # Stored when background and class 1 were known; 2 came later, 3 and 4 are new.
    labels = labels.clone()
    labels[1][(labels[1] > 1) & (labels[1] < 255)] = 0
    loss = unbiased_cross_entropy_by_image(logits, labels, hidden_mask([None, (2, 3, 4)], 3, 5))[1]
    probability = logits[1].softmax(dim=0)
    told = torch.where(labels[1] == 1, probability[1], 1 - probability[1])
    expected = -told.log().masked_fill(labels[1] == 255, 0)
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-10)


def test_the_registered_loss_learns_old_classes_from_exemplars(batch):
    logits, labels = batch
    loss = UnbiasedCrossEntropyLoss()
    loss.set_step(STEP)
    hidden_old = loss(logits, labels)
    loss.receive_hidden(hidden_mask([None, ()], 3, 5))
    told = loss(logits, labels)
    exemplar = cross_entropy(logits[1:], labels[1:], ignore_index=255, reduction='none')
    own = unbiased_cross_entropy(logits[:1], labels[:1], 3)
    torch.testing.assert_close(told, torch.cat([own, exemplar]).mean())
    assert told > hidden_old
    # Another ignore_index means the same pixels.
    other = labels.masked_fill(labels == 255, 77)
    torch.testing.assert_close(loss(logits, other, ignore_index=77), told)
    loss.receive_hidden(None)
    assert loss(logits, labels) == hidden_old


@pytest.mark.parametrize('without', [1.0, 0.0])
def test_exemplars_keep_their_labels_and_their_weight_among_pseudo_labels(batch, without):
    logits, labels = batch
    generator = torch.Generator().manual_seed(1)
    teacher = NetworkOutput(
        (), torch.zeros(2, 1, 6, 7), 3 * torch.randn(2, 3, 6, 7, generator=generator)
    )
    loss = PseudoLabelCrossEntropyLoss(factor_without_background=without)
    loss.set_step(STEP)
    loss.set_thresholds(torch.full((5,), 0.05))

    def per_pixel(hidden):
        loss.receive_teacher(teacher)
        loss.receive_hidden(hidden)
        return loss(logits, labels, reduction_override='none')

    plain, mixed = per_pixel(None), per_pixel(hidden_mask([None, ()], 3, 5))
    torch.testing.assert_close(mixed[0], plain[0])
    exemplar = cross_entropy(logits[1:], labels[1:], ignore_index=255, reduction='none')[0]
    torch.testing.assert_close(mixed[1], exemplar)
    assert not torch.allclose(plain[1], exemplar)


def test_only_the_background_of_a_stored_exemplar_gets_pseudo_labels(batch):
    logits, labels = batch
    generator = torch.Generator().manual_seed(1)
    teacher = NetworkOutput(
        (), torch.zeros(2, 1, 6, 7), 3 * torch.randn(2, 3, 6, 7, generator=generator)
    )
    loss = PseudoLabelCrossEntropyLoss()
    loss.set_step(STEP)
    loss.set_thresholds(torch.full((5,), 1.0))
    loss.receive_teacher(teacher)
    # Class 1 was known at storage, 2 was not.
    labels = labels.clone()
    labels[1][labels[1] == 2] = 0
    loss.receive_hidden(hidden_mask([None, (2,)], 3, 5))
    found = loss(logits, labels, reduction_override='none')[1]
    completed = torch.where(labels[1] == 0, teacher.logits[1].argmax(dim=0), labels[1])
    expected = cross_entropy(logits[1:], completed[None], ignore_index=255, reduction='none')[0]
    # The factor of an image is the share of its candidates that got a label.
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
