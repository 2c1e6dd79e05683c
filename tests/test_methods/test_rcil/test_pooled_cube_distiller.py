from pathlib import Path

import numpy as np
import pytest
import torch

from mmseg_cil.contracts import Batch, NetworkOutput
from mmseg_cil.methods.rcil.distiller import PooledCubeDistiller
from mmseg_cil.utils.step_context import StepContext

GOLDEN = Path(__file__).parents[2] / 'golden'


def record(case, who, count):
    maps = [
        torch.from_numpy(case[f'{who}_{i}']).requires_grad_(who == 'student') for i in range(count)
    ]
    # The maps before the activations must not matter.
    before = tuple(feature_map.detach() - 1 for feature_map in maps[:-2])
    return NetworkOutput(tuple(maps[:-2]), maps[-2], maps[-1], pre_activations=before), maps


@pytest.mark.parametrize('task', ['15-1', '15-5'])
@pytest.mark.parametrize('kind', ['spatial', 'channel'])
def test_a_record_gives_the_official_loss_and_gradients(task, kind):
    case = np.load(GOLDEN / f'rcil_{kind}__voc_{task}.npz')
    count = sum(key.startswith('student_') for key in case)
    without = (
        dict(channel_factor=0.0, channel_last_factor=0.0)
        if kind == 'spatial'
        else dict(factor=0.0, last_factor=0.0)
    )
    distiller = PooledCubeDistiller(**without)
    distiller.set_step(StepContext.of_class_counts([int(case['n_old']), int(case['n_new'])]))
    student, maps = record(case, 'student', count)
    teacher, _ = record(case, 'teacher', count)
    losses = distiller(Batch(student, None, teacher))
    losses['loss_cube'].backward()
    assert losses['loss_cube'].item() == pytest.approx(case['loss'].item(), rel=2e-6)
    for i, feature_map in enumerate(maps):
        expected = torch.from_numpy(case[f'grad_student_{i}'])
        largest = expected.abs().max().item()
        torch.testing.assert_close(feature_map.grad, expected, atol=2e-6 * largest, rtol=0)


def test_both_distances_are_added():
    maps = torch.randn(2, 3, 8, 6)
    student, teacher = (
        NetworkOutput((maps,), maps, maps),
        NetworkOutput((maps * 0,), maps * 0, maps * 0),
    )
    parts = [
        PooledCubeDistiller(1.0, 2.0, 3.0, 4.0),
        PooledCubeDistiller(1.0, 2.0, 0.0, 0.0),
        PooledCubeDistiller(0.0, 0.0, 3.0, 4.0),
    ]
    both, spatial, channel = (
        distiller(Batch(student, None, teacher))['loss_cube'] for distiller in parts
    )
    torch.testing.assert_close(both, spatial + channel)


def test_without_new_classes_nothing_grows():
    maps = torch.randn(2, 3, 8, 6)
    student = NetworkOutput((maps,), maps, maps)
    teacher = NetworkOutput((maps * 0,), maps * 0, maps * 0)
    domain, constant = PooledCubeDistiller(), PooledCubeDistiller(grows=False)
    domain.set_step(StepContext(1, (0, 0, 0), False, False))
    constant.set_step(StepContext.of_class_counts([2, 1]))
    values = [
        distiller(Batch(student, None, teacher))['loss_cube'] for distiller in (domain, constant)
    ]
    assert values[0] == values[1] > 0
