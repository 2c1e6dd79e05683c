from pathlib import Path

import numpy as np
import pytest
import torch

from mmseg_cil.contracts import Batch, NetworkOutput
from mmseg_cil.errors import InputError
from mmseg_cil.methods.plop.distiller import LocalPODDistiller
from mmseg_cil.utils.step_context import StepContext

GOLDEN = Path(__file__).parents[2] / 'golden'


def record(case, who, count, stages='pre_activations'):
    maps = [
        torch.from_numpy(case[f'{who}_{i}']).requires_grad_(who == 'student') for i in range(count)
    ]
    inner = tuple(maps[:-2])
    other = tuple(feature_map.detach().relu() for feature_map in inner)
    features, before = (other, inner) if stages == 'pre_activations' else (inner, ())
    return NetworkOutput(features, maps[-2], maps[-1], pre_activations=before), maps


@pytest.mark.parametrize('name', ['15-1', '15-5', 'odd'])
@pytest.mark.parametrize('stages', ['pre_activations', 'features'])
def test_a_record_gives_the_official_loss_and_gradients(name, stages):
    case = np.load(GOLDEN / f'pod_local__voc_{name}.npz')
    count = sum(key.startswith('student_') for key in case)
    distiller = LocalPODDistiller(
        float(case['pod_factor']), float(case['logits_factor']), regions='official'
    )
    distiller.set_step(StepContext.of_class_counts([int(case['n_old']), int(case['n_new'])]))
    student, maps = record(case, 'student', count, stages)
    teacher, _ = record(case, 'teacher', count, stages)
    losses = distiller(Batch(student, None, teacher))
    losses['loss_pod'].backward()
    assert losses['loss_pod'].item() == pytest.approx(case['loss'].item(), rel=1e-5)
    for i, feature_map in enumerate(maps):
        expected = torch.from_numpy(case[f'grad_student_{i}'])
        torch.testing.assert_close(feature_map.grad, expected, atol=1e-7, rtol=1e-4)


def test_without_new_classes_nothing_grows():
    maps = torch.randn(2, 3, 8, 6)
    student = NetworkOutput((maps,), maps, maps)
    teacher = NetworkOutput((maps * 0,), maps * 0, maps * 0)
    domain = LocalPODDistiller()
    domain.set_step(StepContext(1, (0, 0, 0), False, False))
    constant = LocalPODDistiller(grows=False)
    constant.set_step(StepContext.of_class_counts([2, 1]))
    values = [
        distiller(Batch(student, None, teacher))['loss_pod'] for distiller in (domain, constant)
    ]
    assert values[0] == values[1] > 0


def test_unknown_regions_are_refused():
    with pytest.raises(InputError, match='regions'):
        LocalPODDistiller(regions='round')
