import pytest
import torch
from torch.nn import functional

from mmseg_cil.contracts import Batch, NetworkOutput
from mmseg_cil.distillers import LogitDistiller
from mmseg_cil.errors import InputError
from mmseg_cil.losses.pixel_logits import PixelLogits
from mmseg_cil.methods.baselines.reference import knowledge_distillation
from mmseg_cil.methods.mib.reference import unbiased_knowledge_distillation
from mmseg_cil.registry import MODELS

UNKD = dict(type='UnbiasedKnowledgeDistillationLoss', loss_weight=2.0)
SIZE = torch.Size((13, 17))


def record(num_classes, seed, align_corners=False):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, num_classes, 4, 5, generator=generator, dtype=torch.float64)
    return NetworkOutput((logits,), logits, logits, align_corners)


def pixels_of(student, labels=None):
    return PixelLogits(
        student.logits, labels, cuts=(1, 3), size=SIZE, align_corners=student.align_corners
    )


@pytest.mark.parametrize('align_corners', [False, True])
def test_full_resolution_compares_what_the_label_sees(align_corners):
    student, teacher = (record(count, seed, align_corners) for seed, count in enumerate((5, 3)))
    losses = MODELS.build(dict(type='LogitDistiller', loss=UNKD))(
        Batch(student, pixels_of(student), teacher)
    )
    up = [
        functional.interpolate(output.logits, SIZE, mode='bilinear', align_corners=align_corners)
        for output in (student, teacher)
    ]
    expected = 2 * unbiased_knowledge_distillation(*up).mean()
    assert list(losses) == ['loss_unkd']
    torch.testing.assert_close(losses['loss_unkd'], expected)


def test_low_resolution_compares_the_classifiers_output():
    student, teacher = record(5, 0), record(3, 1)
    losses = LogitDistiller(UNKD, resolution='low')(Batch(student, pixels_of(student), teacher))
    expected = 2 * unbiased_knowledge_distillation(student.logits, teacher.logits).mean()
    torch.testing.assert_close(losses['loss_unkd'], expected)


def test_other_resolutions_are_refused():
    with pytest.raises(InputError, match='resolution'):
        LogitDistiller(UNKD, resolution='half')


class Distance(torch.nn.Module):
    """A loss that knows nothing of shared pixels."""

    loss_name = 'loss_distance'

    def forward(self, student, teacher):
        return (student[:, :3] - teacher).abs().mean()


def test_any_loss_of_two_logits_will_do():
    student, teacher = record(5, 0), record(3, 1)
    distiller = LogitDistiller(UNKD)
    distiller.loss, distiller._shares = Distance(), False
    up = [
        functional.interpolate(output.logits, SIZE, mode='bilinear')
        for output in (student, teacher)
    ]
    torch.testing.assert_close(
        distiller(Batch(student, pixels_of(student), teacher))['loss_distance'],
        (up[0][:, :3] - up[1]).abs().mean(),
    )


def test_the_mean_may_be_over_pixels_of_old_classes_alone():
    student, teacher = record(5, 0), record(3, 1)
    kd = dict(type='KnowledgeDistillationLoss', loss_weight=2.0, over_all=True, class_mean=False)
    distiller = LogitDistiller(kd, among='old')
    generator = torch.Generator().manual_seed(2)
    labels = torch.randint(0, 5, (2, *SIZE), generator=generator)
    labels[:, 0] = 255
    up = [
        functional.interpolate(output.logits, SIZE, mode='bilinear')
        for output in (student, teacher)
    ]
    each = knowledge_distillation(*up, over_all=True, class_mean=False)
    loss = distiller(Batch(student, pixels_of(student, labels), teacher))['loss_kd']
    torch.testing.assert_close(loss, 2 * each[labels < 3].mean())
    # Where every pixel is new or ignored there is nothing to average over, and no NaN.
    loss = distiller(Batch(student, pixels_of(student, torch.full_like(labels, 255)), teacher))
    assert loss['loss_kd'] == 0


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(among='new'), 'among must be one of'),
        (dict(among='old', resolution='low'), 'low'),
    ],
)
def test_pixels_that_cannot_be_chosen_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        LogitDistiller(UNKD, **changes)
