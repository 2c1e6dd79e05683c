"""Generated images have no labels, and yet every distillation of logits reads all their pixels."""

import inspect

import pytest
import torch

from mmseg_cil.contracts import Batch, NetworkOutput, Replay
from mmseg_cil.distillers import LogitDistiller
from mmseg_cil.losses.distillation_loss import DistillationLoss
from mmseg_cil.losses.pixel_logits import PixelLogits
from mmseg_cil.methods.m2kd.distiller import M2KDDistiller
from mmseg_cil.models.teachers import step_teacher_name
from mmseg_cil.registry import MODELS
from mmseg_cil.testing.networks import base_step, batch, network, next_step, snapshot
from mmseg_cil.utils.step_context import StepContext

LOSSES = sorted(
    name
    for name, kind in MODELS.module_dict.items()
    if inspect.isclass(kind) and issubclass(kind, DistillationLoss)
)
#: These leave out the unlabelled pixels of real images.
NOT_IGNORED = ('DenseKnowledgeDistillationLoss',)
SIZE, OLD, ALL, REPLAYED = (9, 13), 3, 5, 2


def logits_of(classes, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(5, classes, 4, 5, generator=generator, dtype=torch.float64)


def labels_of(high, ignored):
    """Return the labels of five images, of which the last two are generated."""
    labels = torch.randint(0, high, (5, *SIZE), generator=torch.Generator().manual_seed(3))
    labels[:, :ignored] = 255
    labels[-REPLAYED:] = 255
    return labels


def distilled(distiller, labels, replayed, student=None):
    student = logits_of(ALL, 0) if student is None else student
    records = [
        NetworkOutput((logits,), logits, logits, False) for logits in (student, logits_of(OLD, 1))
    ]
    cuts = (1, OLD, *distiller.cuts())
    pixels = PixelLogits(student, labels, cuts, replayed=replayed)
    losses = distiller(Batch(records[0], pixels, records[1], {step_teacher_name(0): records[1]}))
    return losses[distiller.loss.loss_name]


def distillers_of(loss):
    several = M2KDDistiller(dict(type=loss))
    several.set_step(StepContext.of_class_counts((OLD, ALL - OLD)))
    return [
        *(LogitDistiller(dict(type=loss), among=among) for among in ('all', 'old')),
        LogitDistiller(dict(type=loss), resolution='low'),
        several,
    ]


def test_there_are_losses_to_look_at():
    assert {
        'KnowledgeDistillationLoss',
        'UnbiasedKnowledgeDistillationLoss',
        'SigmoidDistillationLoss',
        'MatchingDistillationLoss',
        *NOT_IGNORED,
    } <= set(LOSSES)


@pytest.mark.parametrize('loss', LOSSES)
def test_real_and_generated_images_are_as_if_all_pixels_were_labelled(loss):
    labels = labels_of(OLD, 0)
    for distiller in distillers_of(loss):
        labelled = distilled(distiller, labels.where(labels != 255, 0), 0)
        assert torch.equal(distilled(distiller, labels, REPLAYED), labelled)


@pytest.mark.parametrize('among', ['all', 'old'])
@pytest.mark.parametrize('loss', LOSSES)
def test_the_mean_counts_every_pixel_of_a_generated_image(loss, among):
    distiller, labels = LogitDistiller(dict(type=loss), among=among), labels_of(ALL, 2)
    counted = (
        labels < OLD
        if among == 'old'
        else (labels != 255 if loss in NOT_IGNORED else torch.ones_like(labels, dtype=torch.bool))
    )
    counted[-REPLAYED:] = True
    assert counted[-REPLAYED:].numel() < counted.sum()
    student = logits_of(ALL, 0).requires_grad_()
    pixels = PixelLogits(student, labels, (1, OLD, *distiller.cuts()), size=SIZE)
    each = distiller.loss.per_pixel(pixels, logits_of(OLD, 1))
    expected = distiller.loss.loss_weight * each[counted].mean()
    found = distilled(distiller, labels, REPLAYED, student)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(value, student)[0] for value in (found, expected)]
    torch.testing.assert_close(*gradients)
    assert (gradients[0][-REPLAYED:].abs().sum((1, 2, 3)) > 0).all()


class RememberedReplay(Replay):
    """Appends images as the generator does, and remembers them."""

    def extend(self, inputs, samples):
        torch.manual_seed(5)
        self.images = torch.randn(REPLAYED, *inputs.shape[1:], requires_grad=True)
        unlabelled = batch(ALL, count=REPLAYED)[1]
        for sample in unlabelled:
            sample.gt_sem_seg.data.fill_(255)
        return torch.cat([inputs, self.images]), [*samples, *unlabelled], REPLAYED


@pytest.fixture(scope='module')
def base(tmp_path_factory):
    path = tmp_path_factory.mktemp('base') / 'step.pth'
    base_step(network(auxiliary='single'), path)
    return path


def gradient_of_replay(base, distillers, head=None, **arguments):
    """Return the size of the gradient of all losses with respect to each generated image."""
    model = next_step(
        network(auxiliary='single', **(head or {})),
        base,
        distillers=distillers,
        teachers={step_teacher_name(0): snapshot(base, OLD)},
        **arguments,
    )
    # In training mode the norms would make the images of a batch depend on one another.
    model.eval()
    for module in model.heads.values():
        module.conv_seg.train()
        # A student with the teacher's own outputs would have nothing to learn.
        torch.nn.init.normal_(module.conv_seg.weight)
    model._replay = RememberedReplay()
    losses = model.loss(*batch(ALL))
    total = sum(value for name, value in losses.items() if 'loss' in name)
    return torch.autograd.grad(total, model._replay.images)[0].abs().sum((1, 2, 3))


def test_without_distillation_generated_images_teach_nothing(base):
    assert (gradient_of_replay(base, []) == 0).all()


@pytest.mark.parametrize(
    'options',
    [dict(), dict(among='old'), dict(resolution='low'), dict(type='M2KDDistiller')],
    ids=['all', 'old', 'low', 'm2kd'],
)
@pytest.mark.parametrize('loss', LOSSES)
def test_the_segmentor_learns_from_generated_images(loss, options, base):
    distiller = dict(dict(type='LogitDistiller', loss=dict(type=loss)), **options)
    assert (gradient_of_replay(base, [distiller]) > 0).all()


@pytest.mark.parametrize('loss', NOT_IGNORED)
def test_so_it_does_beside_rotation_and_with_a_head_of_its_own_losses(loss, base):
    distiller = dict(type='LogitDistiller', loss=dict(type=loss), among='old')
    rotation = dict(type='RotationSelfSupervision')
    sampler = dict(sampler=dict(type='OHEMPixelSampler', thresh=0.7, min_kept=10))
    assert (gradient_of_replay(base, [distiller], self_supervision=rotation) > 0).all()
    assert (
        gradient_of_replay(base, [distiller], head=dict(loss='CrossEntropyLoss', **sampler)) > 0
    ).all()
