import pytest
import torch
from torch.nn import functional

from mmseg_cil.distillers import LogitDistiller
from mmseg_cil.errors import InputError
from mmseg_cil.losses import unbiased_knowledge_distillation
from mmseg_cil.models.network_output import NetworkOutput
from mmseg_cil.registry import MODELS

UNKD = dict(type='UnbiasedKnowledgeDistillationLoss', loss_weight=2.0)
SIZE = torch.Size((13, 17))


def record(num_classes, seed, align_corners=False):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, num_classes, 4, 5, generator=generator, dtype=torch.float64)
    return NetworkOutput((logits, ), logits, logits, align_corners)


@pytest.mark.parametrize('align_corners', [False, True])
def test_full_resolution_compares_what_the_label_sees(align_corners):
    student, teacher = (record(count, seed, align_corners) for seed, count in enumerate((5, 3)))
    losses = MODELS.build(dict(type='LogitDistiller', loss=UNKD))(student, teacher, SIZE)
    up = [functional.interpolate(one.logits, SIZE, mode='bilinear', align_corners=align_corners)
          for one in (student, teacher)]
    expected = 2 * unbiased_knowledge_distillation(*up).mean()
    assert list(losses) == ['loss_unkd']
    torch.testing.assert_close(losses['loss_unkd'], expected)


def test_low_resolution_compares_the_classifiers_output():
    student, teacher = record(5, 0), record(3, 1)
    losses = LogitDistiller(UNKD, resolution='low')(student, teacher, SIZE)
    expected = 2 * unbiased_knowledge_distillation(student.logits, teacher.logits).mean()
    torch.testing.assert_close(losses['loss_unkd'], expected)


def test_other_resolutions_are_refused():
    with pytest.raises(InputError, match='resolution'):
        LogitDistiller(UNKD, resolution='half')
