"""The M2KD distiller compares the right snapshots, classes and heads."""

import pytest
import torch
from mmengine.registry import init_default_scope
from torch.nn import functional

from mmseg_cil.contracts import Batch, NetworkOutput
from mmseg_cil.distillers import LogitDistiller
from mmseg_cil.errors import InputError
from mmseg_cil.losses.pixel_logits import PixelLogits
from mmseg_cil.methods.m2kd.distiller import M2KDDistiller
from mmseg_cil.methods.m2kd.reference import multi_model_distillation
from mmseg_cil.utils.step_context import StepContext

STEP = StepContext.of_class_counts([3, 2, 1, 1])
MATCHING = dict(type='MatchingDistillationLoss')
UNBIASED = dict(type='UnbiasedKnowledgeDistillationLoss', loss_weight=1.0)


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg_cil')


def random(*shape, seed=0):
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def record(logits, auxiliary=()):
    return NetworkOutput((), logits, logits, auxiliary=tuple(auxiliary))


STUDENT = random(2, 7, 4, 4)
TEACHERS = {
    f'step_{step:02d}': record(
        random(2, known, 4, 4, seed=1 + step), [random(2, known, 4, 4, seed=9 + step)]
    )
    for step, known in enumerate((3, 5, 6))
}
STARTS = {'step_00': 0, 'step_01': 3, 'step_02': 5}
CUTS = (1, 3, 5, 6)


def distil(distiller, step=STEP, teachers=TEACHERS, auxiliary=(), size=(9, 9)):
    distiller.set_step(step)
    pixels = PixelLogits(STUDENT, torch.zeros(2, *size).long(), CUTS)
    return distiller(Batch(record(STUDENT), pixels, None, teachers, auxiliary))


def expected(starts, size, teachers=TEACHERS):
    def large(x):
        return functional.interpolate(x, size, mode='bilinear')

    return multi_model_distillation(
        large(STUDENT), [(large(output.logits), starts[name]) for name, output in teachers.items()]
    ).mean()


@pytest.mark.parametrize(
    ('arguments', 'starts', 'size'),
    [
        (dict(), STARTS, (9, 9)),
        (dict(classes='known'), dict.fromkeys(STARTS, 0), (9, 9)),
        (dict(resolution='low'), STARTS, (4, 4)),
    ],
)
def test_it_is_the_mean_over_snapshots(arguments, starts, size):
    losses = distil(M2KDDistiller(MATCHING, **arguments))
    torch.testing.assert_close(losses, {'loss_mmd': expected(starts, size)})


def test_of_snapshots_that_were_drawn_it_is_the_mean():
    drawn = {name: TEACHERS[name] for name in ('step_00', 'step_02')}
    losses = distil(M2KDDistiller(MATCHING), teachers={**drawn, 'new_data': TEACHERS['step_01']})
    torch.testing.assert_close(losses['loss_mmd'], expected(STARTS, (9, 9), drawn))
    # An unbiased estimate: the mean over all draws of one is the mean over all.
    single = [
        distil(M2KDDistiller(MATCHING), teachers={name: output})['loss_mmd']
        for name, output in TEACHERS.items()
    ]
    torch.testing.assert_close(torch.stack(single).mean(), expected(STARTS, (9, 9)))


def test_with_one_snapshot_it_is_a_logit_distiller_of_the_same_loss():
    step = StepContext.of_class_counts([6, 1])
    last = TEACHERS['step_02']
    pixels = PixelLogits(STUDENT, torch.zeros(2, 9, 9).long(), CUTS)
    for loss in (UNBIASED, MATCHING, dict(type='KnowledgeDistillationLoss')):
        single = LogitDistiller(loss)(Batch(record(STUDENT), pixels, last))
        torch.testing.assert_close(distil(M2KDDistiller(loss), step, {'step_00': last}), single)


def test_any_loss_sees_the_snapshot_s_classes_alone():
    losses = distil(M2KDDistiller(UNBIASED))
    # The mean over classes of UNKD is over those of the view.
    parts = []
    for name, known in (('step_00', 3), ('step_01', 3), ('step_02', 2)):
        teacher = TEACHERS[name].logits
        large = functional.interpolate(teacher, (9, 9), mode='bilinear')
        start = STARTS[name]
        own = large[:, [0, *range(max(1, start), large.shape[1])]]
        entropy = -(own.softmax(dim=1) * own.log_softmax(dim=1)).sum(dim=1).mean()
        divergence = expected(STARTS, (9, 9), {name: TEACHERS[name]})
        parts.append((divergence + entropy) / known)
    torch.testing.assert_close(losses['loss_unkd'], torch.stack(parts).mean())


def test_auxiliary_heads_are_distilled_from_the_snapshots_own():
    heads = [PixelLogits(STUDENT, torch.zeros(2, 9, 9).long(), CUTS)]
    loss = dict(MATCHING, loss_weight=0.5, loss_name='loss_ad')
    losses = distil(M2KDDistiller(MATCHING, loss), auxiliary=heads)
    theirs = {name: record(output.auxiliary[0]) for name, output in TEACHERS.items()}
    torch.testing.assert_close(losses['loss_ad'], 0.5 * expected(STARTS, (9, 9), theirs))
    twice = {
        name: record(output.logits, [output.auxiliary[0]] * 2) for name, output in TEACHERS.items()
    }
    both = distil(M2KDDistiller(MATCHING, loss), teachers=twice, auxiliary=heads * 2)
    torch.testing.assert_close(both['loss_ad'], 2 * losses['loss_ad'])


@pytest.mark.parametrize('classes', ['new', 'known'])
@pytest.mark.parametrize('name', TEACHERS)
def test_ignored_pixels_are_left_out_for_every_snapshot(name, classes):
    distiller = M2KDDistiller(
        dict(type='DenseKnowledgeDistillationLoss', weighting='constant'), classes=classes
    )
    distiller.set_step(STEP)
    distiller.loss.set_step(STEP)
    labels = torch.full((2, 4, 4), 6)
    labels[:, 0] = 255

    def of(student, teacher, labels=None, replayed=0):
        pixels = PixelLogits(student, labels, CUTS, replayed=replayed)
        return distiller(Batch(record(student), pixels, None, {name: record(teacher)}))

    teacher, student = TEACHERS[name].logits, STUDENT.clone().requires_grad_()
    found = of(student, teacher, labels)
    torch.testing.assert_close(found, of(STUDENT[:, :, 1:], teacher[:, :, 1:]))
    (gradient,) = torch.autograd.grad(found['loss_dkd'], student)
    used = gradient.abs().amax(1) > 0
    assert not used[:, 0].any() and used[:, 1:].all()
    # Generated images have no labels, and all their pixels count.
    labels[1] = 255
    (gradient,) = torch.autograd.grad(of(student, teacher, labels, 1)['loss_dkd'], student)
    used = gradient.abs().amax(1) > 0
    assert not used[0, 0].any() and used[0, 1:].all() and used[1].all()


def test_a_network_without_auxiliary_head_learns_without_it():
    distiller = M2KDDistiller(MATCHING, dict(MATCHING, loss_name='loss_ad'))
    assert distiller.needs.auxiliary and set(distil(distiller)) == {'loss_mmd'}


def test_in_a_domain_walk_every_snapshot_teaches_all_classes():
    step = StepContext(3, (0,) * 7, True, False, by_domain=True, trained=(0, 1, 2))
    teachers = {name: record(random(2, 7, 4, 4, seed=i)) for i, name in enumerate(TEACHERS)}
    losses = distil(M2KDDistiller(MATCHING), step, teachers)
    torch.testing.assert_close(
        losses['loss_mmd'], expected(dict.fromkeys(STARTS, 0), (9, 9), teachers)
    )


def test_classes_of_a_step_that_did_not_train_are_the_next_one_s():
    step = StepContext(3, (0, 1, 1, 2, 3), True, True, trained=(1, 2))
    assert [step.classes_of(index) for index in step.trained] == [range(0, 3), range(3, 4)]
    assert [STEP.classes_of(index) for index in STEP.trained] == [
        range(0, 3),
        range(3, 5),
        range(5, 6),
    ]


def test_wrong_input_is_refused():
    for arguments in (dict(classes='some'), dict(resolution='half')):
        with pytest.raises(InputError, match='must be one of'):
            M2KDDistiller(MATCHING, **arguments)
    with pytest.raises(InputError, match="teachers='all'"):
        distil(M2KDDistiller(MATCHING), teachers={})
