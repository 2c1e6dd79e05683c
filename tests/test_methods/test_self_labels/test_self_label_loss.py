"""The loss on self-labels against its plain statement, and in its limits."""

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch.nn import functional

from mmseg_cil.errors import InputError
from mmseg_cil.methods.mib.reference import unbiased_cross_entropy
from mmseg_cil.methods.plop.pseudo_labels import pseudo_labels
from mmseg_cil.methods.self_labels.hook import sure_labels
from mmseg_cil.methods.self_labels.loss import SelfLabelCrossEntropyLoss
from mmseg_cil.methods.self_labels.reference import self_label_cross_entropy
from mmseg_cil.utils.step_context import StepContext


def draw(seed=0, classes=5, old=3, count=2, size=6):
    generator = torch.Generator().manual_seed(seed)
    shape = (count, size, size)
    logits = torch.randn(count, classes, size, size, generator=generator)
    # Labels call old classes background.
    labels = torch.tensor([0, 0, 3, 4, 255])[torch.randint(0, 5, shape, generator=generator)]
    maps = torch.tensor([0, 1, 2, 255])[torch.randint(0, 4, shape, generator=generator)]
    return logits, labels, maps


def loss_of(maps, counts=(3, 2), hidden=None, **options):
    loss = SelfLabelCrossEntropyLoss(**options)
    loss.set_step(StepContext.of_class_counts(counts))
    loss.receive_hidden(hidden)
    loss.receive_samples(
        [SegDataSample(gt_edge_map=PixelData(data=image_labels[None])) for image_labels in maps]
    )
    return loss


@pytest.mark.parametrize('unsure', ['unbiased', 'ignore'])
def test_it_is_the_plain_statement(unsure):
    logits, labels, maps = draw()
    logits.requires_grad_()
    loss = loss_of(maps, unsure=unsure)
    found = loss(logits, labels, reduction_override='none')
    expected = self_label_cross_entropy(logits, labels, maps, 3, unsure)
    torch.testing.assert_close(found, expected)
    gradients = [
        torch.autograd.grad(value.sum(), logits, retain_graph=True)[0]
        for value in (found, expected)
    ]
    torch.testing.assert_close(*gradients)
    torch.testing.assert_close(loss(logits, labels), expected.mean())


def test_unsure_of_everything_it_is_the_unbiased_cross_entropy():
    logits, labels, maps = draw()
    found = loss_of(torch.full_like(maps, 255))(logits, labels, reduction_override='none')
    torch.testing.assert_close(found, unbiased_cross_entropy(logits, labels, 3))


def test_sure_of_everything_it_is_the_ordinary_cross_entropy_on_completed_labels():
    logits, labels, maps = draw()
    maps = maps.masked_fill(maps == 255, 0)
    found = loss_of(maps)(logits, labels, reduction_override='none')
    completed = torch.where(labels == 0, maps, labels)
    expected = functional.cross_entropy(logits, completed, ignore_index=255, reduction='none')
    torch.testing.assert_close(found, expected)


def test_labels_that_hide_nothing_are_learnt_as_they_are():
    logits, labels, maps = draw()
    loss = SelfLabelCrossEntropyLoss()
    loss.set_step(StepContext.of_class_counts((5,)))
    # No map is asked for.
    loss.receive_samples([SegDataSample() for _ in maps])
    expected = functional.cross_entropy(logits, labels, ignore_index=255, reduction='none')
    torch.testing.assert_close(loss(logits, labels, reduction_override='none'), expected)


@pytest.mark.parametrize('unsure', ['unbiased', 'ignore'])
def test_exemplars_keep_the_labels_of_what_they_show(unsure):
    logits, labels, maps = draw()
    labels[1] = labels[1].masked_fill(labels[1] == 4, 1)
    # The second image is an exemplar with complete labels.
    hidden = torch.tensor([[True] * 3 + [False] * 2, [True] + [False] * 4])
    found = loss_of(maps, hidden=hidden, unsure=unsure)(logits, labels, reduction_override='none')
    expected = self_label_cross_entropy(logits, labels, maps, 3, unsure)
    torch.testing.assert_close(found[0], expected[0])
    plain = functional.cross_entropy(logits, labels, ignore_index=255, reduction='none')
    torch.testing.assert_close(found[1], plain[1])
    # One that hides class 2 alone is not told that it shows class 1.
    hidden[1, 2] = True
    found = loss_of(maps, hidden=hidden)(logits, labels, reduction_override='none')[1]
    logs = logits.log_softmax(1)[1]
    told = (labels[1] == 0) & (maps[1] == 2)
    open_still = (labels[1] == 0) & ((maps[1] == 1) | (maps[1] == 255))
    assert told.any() and open_still.any()
    torch.testing.assert_close(found[told], -logs[2][told])
    torch.testing.assert_close(found[open_still], -logs[[0, 2]].logsumexp(0)[open_still])


def test_sure_pixels_are_those_of_plop():
    generator = torch.Generator().manual_seed(1)
    teacher = 3 * torch.randn(2, 3, 6, 6, generator=generator)
    thresholds = torch.tensor([0.3, 0.5, 0.1, 0.001, 0.001])
    labels = torch.zeros(2, 6, 6, dtype=torch.int64)
    expected = pseudo_labels(labels, teacher, thresholds)[0]
    found = sure_labels(teacher, thresholds)
    assert found.dtype == torch.uint8 and torch.equal(found.long(), expected)
    assert 0 < (found == 255).sum() < found.numel()


def test_what_does_not_fit_is_refused():
    logits, labels, maps = draw()
    with pytest.raises(InputError, match="further_map=dict\\(type='SelfLabelMap'\\)"):
        loss = SelfLabelCrossEntropyLoss()
        loss.set_step(StepContext.of_class_counts((3, 2)))
        loss.receive_samples([SegDataSample()])
    with pytest.raises(InputError, match='learns from points'):
        loss_of(maps)(logits[..., :1], labels[..., :1])
    with pytest.raises(InputError, match='unsure must be one of'):
        SelfLabelCrossEntropyLoss(unsure='maybe')
