"""The losses of foreground outputs: closed forms, limits, and batches without what they need."""

import pytest
import torch

from mmseg_cil.errors import InputError
from mmseg_cil.losses.foreground import (
    foreground_cross_entropy,
    without_background,
)
from mmseg_cil.losses.pixel_logits import PixelLogits
from mmseg_cil.methods.dkd_decomposed import (
    AuxiliaryOutputLoss,
    DecomposedDistiller,
    ForegroundCrossEntropyLoss,
    RareRows,
)
from mmseg_cil.methods.dkd_decomposed.reference import foreground_cross_entropy as plain
from mmseg_cil.utils.step_context import StepContext

OLD, NEW = 4, 2
STEP = StepContext.of_class_counts([OLD, NEW])


def draw(count=2, dtype=torch.float64, scale=3.0, size=(5, 7)):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(count, OLD + NEW, *size, generator=generator, dtype=torch.float64) * scale
    labels = torch.randint(0, OLD + NEW, (count, *size), generator=generator)
    labels[:, 0] = 255
    return logits.to(dtype), labels


def loss_of(kind, step=STEP, **options):
    loss = kind(**options)
    loss.set_step(step)
    return loss


@pytest.mark.parametrize('void', ['ignored', 'background'])
@pytest.mark.parametrize('count', [1, 2])
def test_the_fast_form_is_the_plain_form(count, void):
    logits, labels = draw(count)
    logits.requires_grad_()
    found = loss_of(ForegroundCrossEntropyLoss, pos_weight=4.0, void=void)(logits, labels)
    expected = plain(logits, labels, OLD, 4.0, void).sum()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        torch.autograd.grad(found, logits)[0], torch.autograd.grad(expected, logits)[0]
    )


def test_labels_of_old_classes_are_negatives_as_the_background_is():
    logits, labels = draw()
    loss = loss_of(ForegroundCrossEntropyLoss)
    hidden = labels.masked_fill(labels < OLD, 0)
    torch.testing.assert_close(loss(logits, labels), loss(logits, hidden))


def test_the_first_step_learns_all_foreground_outputs_with_its_own_weight():
    logits, labels = draw()
    first = StepContext.of_class_counts([OLD + NEW])
    loss = loss_of(ForegroundCrossEntropyLoss, first, pos_weight=1.0, first_pos_weight=2.0)
    torch.testing.assert_close(loss(logits, labels), plain(logits, labels, 1, 2.0).sum())
    later = loss_of(ForegroundCrossEntropyLoss, pos_weight=1.0, first_pos_weight=2.0)
    torch.testing.assert_close(later(logits, labels), plain(logits, labels, OLD).sum())


def test_classes_of_a_step_without_training_learn_that_they_are_nowhere():
    """Step 1 did not train: no network knows its class when step 2 begins."""
    step = StepContext(2, (0, 0, 0, 0, 1, 2), True, True, trained=(0,))
    assert step.num_known == OLD and step.num_old == OLD + 1
    logits, labels = draw()
    labels = labels.masked_fill(labels == OLD, 0)
    found = loss_of(ForegroundCrossEntropyLoss, step)(logits.requires_grad_(), labels)
    (gradient,) = torch.autograd.grad(found, logits)
    assert (gradient[:, OLD, 1:] > 0).all() and not gradient[:, :OLD].any()
    assert StepContext.of_class_counts([OLD]).num_known == 0


@pytest.mark.parametrize(
    ('labels', 'zero'),
    [(255, True), (0, False), (1, False)],
)
@pytest.mark.parametrize('kind', [ForegroundCrossEntropyLoss, AuxiliaryOutputLoss])
def test_batches_without_new_classes_or_without_any_label_have_a_finite_gradient(
    kind, labels, zero
):
    logits, _ = draw(count=1)
    logits.requires_grad_()
    loss = loss_of(kind)(logits, torch.full((1, 5, 7), labels))
    loss.backward()
    assert torch.isfinite(logits.grad).all() and bool(logits.grad.any()) is not zero
    assert (loss == 0) == zero


def test_a_step_of_the_background_alone_has_nothing_to_learn():
    logits = torch.randn(2, 1, 5, 7, requires_grad=True)
    loss = loss_of(ForegroundCrossEntropyLoss, StepContext.of_class_counts([1]))
    found = loss(logits, torch.zeros(2, 5, 7, dtype=torch.long))
    found.backward()
    assert found == 0 and not logits.grad.any()


@pytest.mark.parametrize('kind', [ForegroundCrossEntropyLoss, AuxiliaryOutputLoss])
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(kind, dtype):
    logits, labels = draw(dtype=dtype, scale=300.0)
    loss = loss_of(kind)
    found = loss(logits, labels)
    assert found.dtype == torch.float32 and torch.isfinite(found)
    torch.testing.assert_close(found, loss(logits.float(), labels))


def test_the_auxiliary_output_learns_from_itself_alone():
    logits, labels = draw()
    logits.requires_grad_()
    pixels = PixelLogits(logits, labels)
    loss = loss_of(AuxiliaryOutputLoss, void='background').of_pixels(pixels)
    torch.testing.assert_close(loss, -torch.log(1 - logits[:, 0].sigmoid()).mean())
    (gradient,) = torch.autograd.grad(loss, logits)
    assert (gradient[:, 0] > 0).all() and not gradient[:, 1:].any()


def test_large_logits_keep_their_precision():
    logits = torch.tensor([80.0, -80.0]).view(1, 2, 1, 1)
    label = torch.ones(1, 1, 1, dtype=torch.long)
    assert foreground_cross_entropy(logits, label, 1).item() == 80.0
    assert foreground_cross_entropy(logits, 0 * label, 1).item() < 1e-30


def test_differences_to_the_background_predict_the_same():
    logits, _ = draw()
    foreground = without_background(logits)
    zero = torch.zeros_like(logits[:, :1])
    assert torch.equal(torch.cat([zero, foreground], 1).argmax(1), logits.argmax(1))
    logits[:, 0] = 0
    assert torch.equal(without_background(logits), logits[:, 1:])


def test_rows_without_an_auxiliary_row_begin_improbable():
    weight, bias = torch.randn(OLD, 8), torch.randn(OLD)
    rows, biases = RareRows(0.02)(weight, bias, torch.randn(NEW, 8), torch.zeros(NEW))
    assert torch.equal(rows[:OLD], weight) and torch.equal(biases[:OLD], bias)
    torch.testing.assert_close(biases[OLD:].sigmoid(), torch.full((NEW,), 0.02))


PARTS = (ForegroundCrossEntropyLoss, AuxiliaryOutputLoss, DecomposedDistiller)


@pytest.mark.parametrize('kind', PARTS)
def test_walks_by_domain_and_classes_without_background_are_refused(kind):
    with pytest.raises(InputError, match='a walk by domain brings none: take --method plop'):
        kind().set_step(StepContext(1, (0, 0, 0), True, False, by_domain=True))
    with pytest.raises(InputError, match='no background: take --method mib'):
        kind().set_step(StepContext.of_class_counts([3, 1], has_background=False))


@pytest.mark.parametrize(
    ('build', 'message'),
    [
        (lambda: ForegroundCrossEntropyLoss(void='black'), 'void must be one of'),
        (lambda: ForegroundCrossEntropyLoss(pos_weight=-1), 'pos_weight must be a number'),
        (lambda: ForegroundCrossEntropyLoss(first_pos_weight='2'), 'first_pos_weight must be'),
        (lambda: AuxiliaryOutputLoss(void=None), 'void must be one of'),
        (lambda: DecomposedDistiller(logit_weight=-1), 'logit_weight must be a number'),
        (lambda: RareRows(1.5), 'probability must be a number'),
        (lambda: ForegroundCrossEntropyLoss().set_turns(4), 'leave it out'),
    ],
)
def test_wrong_options_are_refused(build, message):
    with pytest.raises(InputError, match=message):
        build()
