import pytest
import torch

from mmseg_cil.contracts import Batch, NetworkOutput
from mmseg_cil.errors import InputError
from mmseg_cil.registry import MODELS

LOSS = dict(type='FeatureDistillationLoss', loss_weight=2.0)


def record(seed):
    generator = torch.Generator().manual_seed(seed)
    maps = tuple(torch.randn(1, size, 4, 4, generator=generator) for size in (2, 3))
    return NetworkOutput(maps, maps[0], maps[0])


@pytest.mark.parametrize('stage', [-1, 0])
def test_it_compares_one_stage(stage):
    student, teacher = record(0), record(1)
    losses = MODELS.build(dict(type='FeatureDistiller', loss=LOSS, stage=stage))(
        Batch(student, None, teacher)
    )
    difference = student.features[stage] - teacher.features[stage]
    assert list(losses) == ['loss_features']
    torch.testing.assert_close(losses['loss_features'], 2 * difference.square().mean())


def test_it_compares_embeddings():
    student, teacher = (
        NetworkOutput(output.features, output.features[1], output.logits)
        for output in (record(0), record(1))
    )
    distiller = MODELS.build(dict(type='FeatureDistiller', loss=LOSS, stage='embedding'))
    losses = distiller(Batch(student, None, teacher))
    difference = student.embedding - teacher.embedding
    torch.testing.assert_close(losses['loss_features'], 2 * difference.square().mean())


@pytest.mark.parametrize(
    ('stage', 'message'),
    [('embeding', "did you mean 'embedding'"), (0.5, 'stage must be a whole number')],
)
def test_a_stage_of_another_kind_is_refused(stage, message):
    with pytest.raises(InputError, match=message):
        MODELS.build(dict(type='FeatureDistiller', loss=LOSS, stage=stage))


def test_a_stage_that_is_not_there_is_refused():
    distiller = MODELS.build(dict(type='FeatureDistiller', loss=LOSS, stage=2))
    with pytest.raises(InputError, match='stage 2'):
        distiller(Batch(record(0), None, record(1)))
