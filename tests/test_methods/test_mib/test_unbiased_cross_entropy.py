import pytest
import torch
from mmseg.models.losses import CrossEntropyLoss
from torch.nn import functional

from mmseg_cil.methods.mib.reference import unbiased_cross_entropy
from mmseg_cil.methods.mib.unbiased_cross_entropy import UnbiasedCrossEntropyLoss
from mmseg_cil.registry import MODELS
from mmseg_cil.utils.step_context import StepContext


def draw(num_classes=6, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, num_classes, 5, 7, generator=generator, dtype=dtype) * 3
    labels = torch.randint(0, num_classes, (2, 5, 7), generator=generator)
    labels[0, 0] = 255
    return logits, labels


def plainly(logits, labels, num_hidden):
    """The formula read off the paper."""
    probability = logits.softmax(dim=1)
    loss = torch.zeros(labels.shape, dtype=logits.dtype)
    for n, y, x in torch.cartesian_prod(*(torch.arange(size) for size in labels.shape)):
        label = int(labels[n, y, x])
        if label == 255:
            continue
        mass = (
            probability[n, :num_hidden, y, x].sum()
            if label < num_hidden
            else probability[n, label, y, x]
        )
        loss[n, y, x] = -mass.log()
    return loss


@pytest.mark.parametrize('num_hidden', [1, 2, 4, 6])
def test_it_is_the_formula(num_hidden):
    logits, labels = draw()
    expected = plainly(logits, labels, num_hidden)
    torch.testing.assert_close(unbiased_cross_entropy(logits, labels, num_hidden), expected)


@pytest.mark.parametrize('num_hidden', [0, 1])
def test_with_nothing_hidden_it_is_cross_entropy(num_hidden):
    logits, labels = draw()
    expected = functional.cross_entropy(logits, labels, ignore_index=255, reduction='none')
    torch.testing.assert_close(unbiased_cross_entropy(logits, labels, num_hidden), expected)


@pytest.mark.parametrize('avg_non_ignore', [False, True])
def test_at_step_0_the_module_is_mmsegs_cross_entropy(avg_non_ignore):
    logits, labels = draw()
    ours = UnbiasedCrossEntropyLoss(loss_weight=0.4, avg_non_ignore=avg_non_ignore)
    ours.set_step(StepContext.of_class_counts([6]))
    theirs = CrossEntropyLoss(loss_weight=0.4, avg_non_ignore=avg_non_ignore)
    torch.testing.assert_close(ours(logits, labels), theirs(logits, labels, ignore_index=255))


def test_where_labels_hide_nothing_old_classes_are_learnt_as_labelled():
    logits, labels = draw()
    ours = UnbiasedCrossEntropyLoss()
    ours.set_step(StepContext(1, (0, 0, 0, 1, 1, 1), True, old_labels_hidden=False))
    torch.testing.assert_close(
        ours(logits, labels), CrossEntropyLoss()(logits, labels, ignore_index=255)
    )


def test_labels_of_hidden_classes_count_as_background():
    logits, labels = draw()
    merged = labels.masked_fill(labels < 4, 0)
    torch.testing.assert_close(
        unbiased_cross_entropy(logits, labels, 4), unbiased_cross_entropy(logits, merged, 4)
    )


def test_the_order_of_hidden_classes_does_not_matter():
    logits, labels = draw()
    permuted = logits[:, [0, 3, 1, 2, 4, 5]]
    torch.testing.assert_close(
        unbiased_cross_entropy(permuted, labels, 4), unbiased_cross_entropy(logits, labels, 4)
    )


def test_a_constant_per_pixel_does_not_matter():
    logits, labels = draw()
    shift = torch.randn(2, 1, 5, 7, dtype=torch.float64) * 20
    torch.testing.assert_close(
        unbiased_cross_entropy(logits + shift, labels, 4), unbiased_cross_entropy(logits, labels, 4)
    )


@pytest.mark.parametrize('avg_non_ignore', [False, True])
def test_a_batch_without_labels_has_zero_loss_and_gradient(avg_non_ignore):
    logits, labels = draw()
    logits.requires_grad_()
    module = UnbiasedCrossEntropyLoss(avg_non_ignore=avg_non_ignore)
    module.set_step(StepContext.of_class_counts([4, 2]))
    loss = module(logits, torch.full_like(labels, 255))
    loss.backward()
    assert loss == 0
    assert (logits.grad == 0).all()


def test_ignored_pixels_have_no_gradient_even_with_infinite_logits():
    logits, labels = draw()
    logits[0, 1, 0] = float('inf')
    logits.requires_grad_()
    loss = unbiased_cross_entropy(logits, labels, 4)
    loss[0, 1:].sum().backward()
    assert (loss[0, 0] == 0).all()
    assert torch.isfinite(logits.grad[:, :, 1:]).all()


def test_gradient_is_that_of_finite_differences():
    logits, labels = draw(num_classes=4)
    logits = logits[:1, :, :2, :3].clone().requires_grad_()
    labels = labels[:1, :2, :3]
    assert torch.autograd.gradcheck(lambda x: unbiased_cross_entropy(x, labels, 2), logits)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    logits, labels = draw(dtype=torch.float32)
    logits = (logits * 2000).to(dtype)
    loss = unbiased_cross_entropy(logits, labels, 4)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, unbiased_cross_entropy(logits.float(), labels, 4))
    # Outside of float16's range (65504), and no infinity.
    huge = torch.tensor([[60000.0, -60000.0]], dtype=dtype)[:, :, None, None]
    loss = unbiased_cross_entropy(huge, torch.ones(1, 1, 1, dtype=torch.long), 1)
    assert loss.item() == pytest.approx(120000, rel=0.01)


def test_half_precision_gradients_are_finite():
    logits, labels = draw(dtype=torch.float32)
    logits = logits.half().requires_grad_()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        unbiased_cross_entropy(logits, labels, 4).mean().backward()
    assert logits.grad.dtype == torch.float16
    assert torch.isfinite(logits.grad).all()


def test_weights_multiply_the_pixels_and_the_sampler_sees_every_pixel():
    logits, labels = draw()
    module = UnbiasedCrossEntropyLoss(loss_weight=3.0)
    module.set_step(StepContext.of_class_counts([4, 2]))
    each = unbiased_cross_entropy(logits, labels, 4)
    weight = torch.rand(labels.shape, dtype=torch.float64)
    torch.testing.assert_close(module(logits, labels, weight=weight), 3 * (each * weight).mean())
    torch.testing.assert_close(module(logits, labels, reduction_override='none'), 3 * each)
    with pytest.raises(ValueError, match='reduction_override'):
        module(logits, labels, reduction_override='sum')


def test_labels_may_be_bytes():
    logits, labels = draw()
    torch.testing.assert_close(
        unbiased_cross_entropy(logits, labels.to(torch.uint8), 4),
        unbiased_cross_entropy(logits, labels, 4),
    )


def test_a_config_can_name_it():
    module = MODELS.build(dict(type='UnbiasedCrossEntropyLoss', loss_name='loss_mine'))
    assert module.loss_name == 'loss_mine'
