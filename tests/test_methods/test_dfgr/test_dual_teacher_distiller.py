"""The distiller of two teachers: which images and outputs each of them teaches."""

import pytest
import torch

from mmseg_cil.contracts import Batch, NetworkOutput
from mmseg_cil.errors import InputError
from mmseg_cil.methods.dfgr.dual_teacher import variational_loss
from mmseg_cil.methods.dfgr.dual_teacher_distiller import DualTeacherDistiller
from mmseg_cil.utils.step_context import StepContext

STEP = StepContext.of_class_counts([3, 2])


def output(logits):
    return NetworkOutput((), logits, logits)


def batch(seed=0):
    """Four images, the last generated; the new teacher's outputs are background and two classes."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(4, channels, 3, 3, generator=generator) for channels in (5, 3, 3)]


def made(**options):
    distiller = DualTeacherDistiller(**options)
    distiller.set_step(STEP)
    return distiller


def loss(distiller, student, old, new, replayed=1):
    batch = Batch(output(student), None, output(old), {'new_data': output(new)}, replayed=replayed)
    return distiller(batch)['loss_dual']


def test_the_joined_teachers_leave_the_variances_alone_to_learn():
    _, old, new = batch()
    distiller = made(variance=1.0)
    student = torch.cat([old, new[:, 1:]], 1).requires_grad_()
    found = loss(distiller, student, old, new)
    assert found.item() == pytest.approx(0, abs=1e-6)
    found.backward()
    assert student.grad.abs().max() == 0
    # Without a residual a smaller variance is more likely.
    assert (distiller.spread.grad > 0).all()


def test_the_old_teacher_teaches_on_generated_images_and_the_new_one_on_real_ones():
    student, old, new = batch()
    distiller = made()
    student.requires_grad_()
    loss(distiller, student, old, new).backward()
    taught = student.grad.abs().amax((2, 3)) > 0
    assert taught[:3].tolist() == [[False] * 3 + [True] * 2] * 3
    assert taught[3].tolist() == [True] * 3 + [False] * 2
    student.grad = None
    loss(made(old_on='all'), student, old, new).backward()
    assert (student.grad[:, :3].abs().amax((2, 3)) > 0).all()
    # Nothing generated: the old teacher has all images.
    everywhere = loss(distiller, student, old, new, replayed=0)
    torch.testing.assert_close(everywhere, loss(made(old_on='all'), student, old, new, 0))


def test_it_is_the_sum_of_both_teachers_losses():
    student, old, new = batch()
    spread = torch.full((5,), 5.0)
    expected = variational_loss(student[3:, :3], old[3:], spread[:3]) + variational_loss(
        student[:3, 3:], new[:3, 1:], spread[3:]
    )
    torch.testing.assert_close(loss(made(loss_weight=2.0), student, old, new), 2 * expected)


def test_the_simple_limit_has_no_variances_and_all_images():
    student, old, new = batch()
    distiller = made(form='double')
    assert not list(distiller.parameters())
    targets = torch.cat([old, new[:, 1:]], 1)
    targets = targets - targets.mean((0, 2, 3), keepdim=True)
    torch.testing.assert_close(
        loss(distiller, student, old, new), torch.nn.functional.mse_loss(student, targets)
    )


@pytest.mark.parametrize('background', [True, False])
@pytest.mark.parametrize('form', ['variational', 'double'])
def test_classes_of_a_step_that_did_not_train_have_no_teacher(form, background):
    """One new class, two of the step before: broadcasting would hide a wrong slice."""
    step = StepContext(2, (0, 0, 0, 1, 1, 2), background, background, trained=(0,))
    generator = torch.Generator().manual_seed(1)
    student, old, new = (
        torch.randn(4, channels, 3, 3, generator=generator) for channels in (6, 3, 1 + background)
    )
    distiller = DualTeacherDistiller(form=form)
    distiller.set_step(step)
    student.requires_grad_()
    found = loss(distiller, student, old, new)
    found.backward()
    taught = student.grad.abs().amax((0, 2, 3)) > 0
    assert taught.tolist() == [True] * 3 + [False] * 2 + [True]
    # As if those two outputs were not there.
    alone = DualTeacherDistiller(form=form)
    alone.set_step(StepContext.of_class_counts([3, 1], background))
    torch.testing.assert_close(found, loss(alone, student[:, [0, 1, 2, 5]], old, new))


@pytest.mark.parametrize('options', [dict(form='triple'), dict(old_on='real'), dict(variance=0.0)])
def test_unknown_options_are_refused(options):
    with pytest.raises(InputError, match='DualTeacherDistiller'):
        DualTeacherDistiller(**options)
