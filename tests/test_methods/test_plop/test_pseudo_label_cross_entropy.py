"""The registered decode loss of PLOP."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from mmseg_cil.contracts import NetworkOutput
from mmseg_cil.methods.plop.pseudo_label_loss import PseudoLabelCrossEntropyLoss
from mmseg_cil.methods.plop.pseudo_labels import official_scale
from mmseg_cil.utils.step_context import StepContext

GOLDEN = Path(__file__).parents[2] / 'golden'


def record(logits):
    return NetworkOutput((), logits, logits)


def at_step(counts, teacher_logits, thresholds, **arguments):
    loss = PseudoLabelCrossEntropyLoss(**arguments)
    loss.set_step(StepContext.of_class_counts(counts))
    loss.set_thresholds(thresholds)
    loss.receive_teacher(record(teacher_logits))
    return loss


@pytest.mark.parametrize('name', ['15-1', '3-2_nobg'])
def test_it_is_the_official_loss(name):
    case = {
        key: torch.from_numpy(value)
        for key, value in np.load(GOLDEN / f'plop_pseudo__{name}.npz').items()
    }
    old, current = int(case['n_old']), int(case['n_current'])
    loss = at_step(
        [old, current - old],
        case['teacher_logits'],
        case['thresholds'] * official_scale(old, current),
        loss_weight=2.0,
        factor_without_background=0.0,
    )
    logits = case['student_logits'].requires_grad_()
    value = loss(logits, case['labels'])
    value.backward()
    torch.testing.assert_close(value, 2 * case['loss'])
    torch.testing.assert_close(logits.grad, 2 * case['grad_student_logits'], atol=1e-8, rtol=1e-5)


def test_the_teacher_is_upsampled_to_the_labels():
    teacher = torch.zeros(1, 2, 2, 2)
    teacher[:, 1] = 20.0
    loss = at_step([2, 1], teacher, torch.ones(3))
    labels = torch.zeros(1, 8, 8, dtype=torch.long)
    logits = torch.zeros(1, 3, 8, 8)
    logits[:, 1] = 50.0
    # Everywhere class 1 by the teacher and by the student; 0 by the labels.
    assert loss(logits, labels).item() == pytest.approx(0.0, abs=1e-6)


def test_without_old_classes_or_teacher_it_is_cross_entropy():
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4))
    labels[:, 0] = 255
    plain = functional.cross_entropy(logits, labels, ignore_index=255, reduction='sum')
    loss = PseudoLabelCrossEntropyLoss()
    torch.testing.assert_close(loss(logits, labels), plain / labels.numel())
    loss.set_step(StepContext.of_class_counts([2, 1]))
    torch.testing.assert_close(loss(logits, labels), plain / labels.numel())
    loss.set_step(StepContext(1, (0, 0, 0), False, False))
    loss.receive_teacher(record(torch.randn(2, 3, 4, 4)))
    torch.testing.assert_close(loss(logits, labels), plain / labels.numel())
    mean = PseudoLabelCrossEntropyLoss(avg_non_ignore=True)(logits, labels)
    torch.testing.assert_close(mean, plain / (labels != 255).sum())


def test_another_ignore_index_and_weights():
    logits, labels = torch.randn(1, 3, 2, 2), torch.tensor([[[1, 7], [2, 0]]])
    weight = torch.tensor([[[2.0, 1.0], [0.0, 1.0]]])
    loss = PseudoLabelCrossEntropyLoss()(
        logits, labels, weight=weight, ignore_index=7, reduction_override='none'
    )
    expected = functional.cross_entropy(logits, labels, ignore_index=7, reduction='none')
    torch.testing.assert_close(loss, expected * weight)
    with pytest.raises(ValueError, match='reduction_override'):
        PseudoLabelCrossEntropyLoss()(logits, labels, reduction_override='sum')


def test_missing_thresholds_are_told_and_none_are_saved():
    loss = PseudoLabelCrossEntropyLoss()
    loss.set_step(StepContext.of_class_counts([2, 1]))
    loss.receive_teacher(record(torch.randn(1, 2, 2, 2)))
    with pytest.raises(RuntimeError, match='PseudoLabelThresholdsHook'):
        loss(torch.randn(1, 3, 2, 2), torch.zeros(1, 2, 2, dtype=torch.long))
    loss.set_thresholds(torch.zeros(3))
    assert not loss.state_dict()
