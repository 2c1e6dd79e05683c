"""Cross-entropy that leaves the logits of old classes alone."""

import pytest
import torch
from torch.nn import functional

from mmseg_cil.methods.vdfd.reference import step_classes_cross_entropy
from mmseg_cil.methods.vdfd.step_classes_cross_entropy import StepClassesCrossEntropyLoss
from mmseg_cil.utils.step_context import StepContext


def draw(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 6, 5, 7, generator=generator, dtype=dtype) * 3
    labels = torch.randint(0, 6, (2, 5, 7), generator=generator)
    labels[0, 0] = 255
    return logits, labels


@pytest.mark.parametrize('num_hidden', [2, 4, 6])
def test_it_is_cross_entropy_among_background_and_new_classes(num_hidden):
    logits, labels = draw()
    kept = [0, *range(num_hidden, 6)]
    among = torch.full_like(labels, 255)
    for place, label in enumerate(kept):
        among[labels == label] = place
    expected = functional.cross_entropy(logits[:, kept], among, ignore_index=255, reduction='none')
    torch.testing.assert_close(step_classes_cross_entropy(logits, labels, num_hidden), expected)


@pytest.mark.parametrize('num_hidden', [0, 1])
def test_with_nothing_hidden_it_is_cross_entropy(num_hidden):
    logits, labels = draw()
    expected = functional.cross_entropy(logits, labels, ignore_index=255, reduction='none')
    torch.testing.assert_close(step_classes_cross_entropy(logits, labels, num_hidden), expected)


def test_logits_of_old_classes_have_no_gradient():
    logits, labels = draw()
    logits.requires_grad_()
    step_classes_cross_entropy(logits, labels, 4).sum().backward()
    assert not logits.grad[:, 1:4].any()
    assert logits.grad[:, [0, 4, 5]].abs().sum() > 1
    # Where the label is an old class nothing is learnt at all.
    assert not logits.grad.movedim(1, -1)[(labels > 0) & (labels < 4)].any()


@pytest.mark.parametrize(
    ('step', 'num_hidden'),
    [
        (StepContext.of_class_counts([6]), 0),
        (StepContext.of_class_counts([4, 2]), 4),
        (StepContext(1, (0, 0, 0, 0, 1, 1), True, old_labels_hidden=False), 0),
    ],
)
def test_the_module_knows_what_hides(step, num_hidden):
    logits, labels = draw()
    loss = StepClassesCrossEntropyLoss(loss_weight=0.5)
    loss.set_step(step)
    expected = step_classes_cross_entropy(logits, labels, num_hidden)
    torch.testing.assert_close(loss(logits, labels), 0.5 * expected.mean())
    counted = (labels != 255) & ~((labels > 0) & (labels < num_hidden))
    loss = StepClassesCrossEntropyLoss(avg_non_ignore=True)
    loss.set_step(step)
    torch.testing.assert_close(loss(logits, labels), expected.sum() / counted.sum())


def draw_turns():
    """Three classes, each with an output for every of four turns."""
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 12, 5, 7, generator=generator, dtype=torch.float64) * 3
    labels = torch.randint(0, 3, (2, 5, 7), generator=generator)
    labels[0, 0] = 255
    return logits, labels


@pytest.mark.parametrize(
    ('num_hidden', 'kept'),
    [(2, [0, 2, 3, 5, 6, 8, 9, 11]), (3, [0, 3, 6, 9]), (1, list(range(12)))],
)
def test_old_classes_are_left_out_in_every_turn(num_hidden, kept):
    logits, labels = draw_turns()
    among = torch.full_like(labels, 255)
    for place, output in enumerate(kept):
        among[labels == output] = place
    expected = functional.cross_entropy(logits[:, kept], among, ignore_index=255, reduction='none')
    logits.requires_grad_()
    loss = step_classes_cross_entropy(logits, labels, num_hidden, num_classes=3)
    torch.testing.assert_close(loss, expected)
    loss.sum().backward()
    seen = logits.grad.abs().sum(dim=(0, 2, 3)) > 0
    assert seen.nonzero().flatten().tolist() == kept


@pytest.mark.parametrize('counts', [[1, 2], [2, 1], [3]])
def test_the_module_leaves_them_out_too(counts):
    logits, labels = draw_turns()
    step = StepContext.of_class_counts(counts)
    loss = StepClassesCrossEntropyLoss()
    loss.set_step(step)
    loss.set_turns(4)
    expected = step_classes_cross_entropy(logits, labels, step.num_hidden, num_classes=3).mean()
    torch.testing.assert_close(loss(logits, labels), expected)
    # Without self-supervision a head has the outputs of one turn.
    plain = step_classes_cross_entropy(logits[:, :3], labels, step.num_hidden).mean()
    torch.testing.assert_close(loss(logits[:, :3], labels), plain)


def test_half_precision_is_computed_in_float32():
    logits, labels = draw(torch.float32)
    half = logits.bfloat16()
    assert step_classes_cross_entropy(half, labels, 4).dtype == torch.float32
    torch.testing.assert_close(
        step_classes_cross_entropy(half, labels, 4),
        step_classes_cross_entropy(half.float(), labels, 4),
    )
