"""STAR's parts: closed forms, limits, and batches without the thing that a part needs."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from mmseg_cil.contracts import Batch, NetworkOutput
from mmseg_cil.errors import InputError
from mmseg_cil.losses.pixel_logits import PixelLogits
from mmseg_cil.methods.dkd_decomposed import ForegroundCrossEntropyLoss
from mmseg_cil.methods.star import (
    KaimingRows,
    ReplayedCrossEntropyLoss,
    StarDistiller,
    StarStatisticsHook,
    reference,
)
from mmseg_cil.methods.star.distiller import contrast
from mmseg_cil.methods.star.replay import Replay, replay_of, teacher_classes
from mmseg_cil.methods.star.statistics import (
    FILE_NAME,
    ClassStatistics,
    cells_of,
    joined,
    moments,
    statistics_of,
)
from mmseg_cil.testing.networks import network, segmentor
from mmseg_cil.utils.step_context import StepContext

OLD, NEW, CHANNELS = 4, 2, 6
STEP = StepContext.of_class_counts([OLD, NEW])
CELLS, PIXELS = (5, 4), (20, 16)


def draw(count=2, seed=0):
    """Embeddings of student and teacher, their classifier, and labels of which some are void."""
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (
        torch.randn(count, CHANNELS, *CELLS, generator=generator, dtype=torch.float64)
        for _ in range(2)
    )
    classifier = nn.Conv2d(CHANNELS, OLD + NEW, 1).double()
    with torch.no_grad():
        for value in classifier.parameters():
            value.copy_(torch.randn(value.shape, generator=generator))
            value[0] = 0.0
    labels = torch.randint(OLD, OLD + NEW, (count, *PIXELS), generator=generator)
    labels[:, :, ::2], labels[:, 0] = 0, 255
    return student, teacher, classifier, labels


def replay(numbers=(3, 0, 2), ratio=0.5):
    generator = torch.Generator().manual_seed(1)
    prototypes = functional.normalize(torch.randn(3, CHANNELS, generator=generator), dim=1)
    index = torch.arange(3).repeat_interleave(torch.tensor(numbers))
    noise, unit = 0.1 * torch.rand(3, CHANNELS, generator=generator), torch.ones(3)
    return Replay(prototypes, noise, 5 * unit, unit, index, ratio)


def loss_of(classifier, teacher_logits, given=None, **options):
    loss = ReplayedCrossEntropyLoss(**options)
    loss.set_step(STEP)
    if given is not None:
        loss.set_replay(given, classifier)
    loss.receive_teacher(NetworkOutput((), teacher_logits, teacher_logits))
    return loss


def test_the_loss_of_training_is_the_plain_form():
    student, _, classifier, labels = draw()
    teacher = torch.randn(2, OLD, *CELLS, dtype=torch.float64)
    given = replay()
    loss = loss_of(classifier, teacher, given, pos_weight=4.0)
    loss.set_iteration_seed(7)
    logits = classifier(student)
    found = loss.of_pixels(PixelLogits(logits, labels))
    nothing = (teacher_classes(teacher, 'fixed') == 0) & (cells_of(labels, CELLS) == 0)
    assert nothing.any()
    drawn = functional.linear(
        given.draw(7).double(), classifier.weight[OLD:, :, 0, 0], classifier.bias[OLD:]
    )
    data = ForegroundCrossEntropyLoss(pos_weight=4.0)
    data.set_step(STEP)
    # Split evenly over the outputs, whose sum alone counts.
    halves = data.of_pixels(PixelLogits(logits, labels)).expand(NEW) / NEW
    expected = reference.replayed_cross_entropy(
        halves, drawn, logits[:, OLD:].movedim(1, -1)[nothing], 0.5, nothing.numel()
    )
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize('given', [None, replay((0, 0, 0), 0.0)])
def test_without_replay_it_is_the_cross_entropy_of_new_outputs(given):
    student, _, classifier, labels = draw()
    plain = ForegroundCrossEntropyLoss(pos_weight=4.0)
    plain.set_step(STEP)
    pixels = PixelLogits(classifier(student), labels)
    loss = loss_of(classifier, torch.randn(2, OLD, *CELLS), given)
    assert torch.equal(loss.of_pixels(pixels), plain.of_pixels(pixels))


@pytest.mark.parametrize('label', [0, 255, OLD])
def test_any_batch_has_a_finite_loss_and_gradient(label):
    student, teacher, classifier, labels = draw(count=1)
    student.requires_grad_()
    logits = classifier(student)
    pixels = PixelLogits(logits, torch.full_like(labels, label))
    for value in (-1.0, 1.0):
        old = torch.cat([torch.zeros(1, 1, *CELLS), torch.full((1, OLD - 1, *CELLS), value)], 1)
        loss = loss_of(classifier, old, replay()).of_pixels(pixels)
        parts = distil(logits, student, teacher, pixels, old)
        total = loss + sum(parts.values())
        (gradient,) = torch.autograd.grad(total, student, retain_graph=True)
        assert torch.isfinite(total) and torch.isfinite(gradient).all()
        if label or value < 0:
            assert parts['loss_pkd'] == 0
        if label != OLD:
            assert parts['loss_cont'] == 0


def distil(logits, student, teacher, pixels, teacher_logits, prototypes=None, **options):
    distiller = StarDistiller(**options)
    distiller.set_step(STEP)
    given = replay().prototypes if prototypes is None else prototypes
    distiller.set_star_prototypes(given)
    return distiller(
        Batch(
            NetworkOutput((), student, logits), pixels, NetworkOutput((), teacher, teacher_logits)
        )
    )


def test_embeddings_are_kept_where_the_teacher_sees_old_classes_alone():
    student, teacher, classifier, labels = draw()
    student.requires_grad_()
    old = torch.full((2, OLD, *CELLS), -1.0)
    old[:, 0] = 0.0
    old[0, 2] = 1.0  # the first image shows class 2 everywhere
    labels = labels.clamp(max=0)
    labels[:, :12] = OLD
    logits = classifier(student)
    parts = distil(logits, student, teacher, PixelLogits(logits, labels), old)
    (gradient,) = torch.autograd.grad(parts['loss_pkd'], student)
    moved = gradient.abs().sum(dim=1) > 0
    assert not moved[1].any() and not moved[0, :3].any() and moved[0, 3:].all()
    difference = (student - teacher)[0, :, 3:].square().mean()
    torch.testing.assert_close(parts['loss_pkd'], 5.0 * difference)


def test_labels_of_old_classes_count_as_background():
    student, teacher, classifier, labels = draw()
    logits, old = classifier(student), torch.randn(2, OLD, *CELLS)
    hidden = labels.clone()
    shown = torch.where(labels == 0, torch.ones_like(labels), labels)
    first, second = (
        (
            loss_of(classifier, old, replay()).of_pixels(PixelLogits(logits, each)),
            *distil(logits, student, teacher, PixelLogits(logits, each), old).values(),
        )
        for each in (hidden, shown)
    )
    assert all(torch.equal(*pair) for pair in zip(first, second, strict=True))


def test_a_class_that_the_batch_lacks_costs_a_constant_in_the_official_form_alone():
    student, _, _, labels = draw()
    labels = labels.masked_fill(labels == OLD + 1, 0)
    prototypes = replay().prototypes
    classes = range(OLD, OLD + NEW)
    fixed, official = (
        contrast(student, labels, classes, prototypes, form) for form in (False, True)
    )
    torch.testing.assert_close(official - fixed, torch.tensor(1 / NEW, dtype=torch.float64))
    torch.testing.assert_close(official, reference.contrast(student, labels, OLD, NEW, prototypes))


def test_without_an_old_class_there_is_nothing_to_be_near_to():
    student, teacher, classifier, labels = draw()
    student.requires_grad_()
    logits = classifier(student)
    pixels = PixelLogits(logits, labels)
    parts = distil(logits, student, teacher, pixels, torch.zeros(2, 1, *CELLS), torch.zeros(0, 6))
    assert parts['loss_cont'] == parts['loss_pkd'] == 0
    (parts['loss_cont'] + parts['loss_pkd']).backward()
    assert not student.grad.any()


def test_draws_depend_on_the_seed_alone_and_have_the_statistics_of_their_class():
    given = replay((20000, 0, 1))
    first, again, other = (given.draw(seed) for seed in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)
    of_class = first[:-1]
    torch.testing.assert_close(of_class.mean(0), 5 * given.prototypes[0], atol=0.05, rtol=0)


def statistics(counts=(100.0, 50.0, 10.0), background=1000.0, predicted=None):
    count = torch.tensor(counts, dtype=torch.float64)
    table, row = torch.ones(len(counts), CHANNELS), torch.ones(len(counts))
    predicted = None if predicted is None else torch.tensor(predicted, dtype=torch.float64)
    return ClassStatistics(table, row, row, table, count, background, predicted)


def test_so_many_are_drawn_that_a_pass_shows_what_the_classs_own_step_showed():
    seen = torch.tensor([400.0, 20.0, 60.0, 0.0], dtype=torch.float64)
    found = replay_of(statistics(), seen, iterations=4.0, num_new=2, subtract=True)
    # (100 - 20) / 4, (50 - 60) / 4 and 10 / 4, rounded down and never below 0.
    assert torch.bincount(found.index, minlength=3).tolist() == [20, 0, 2]
    assert found.background_ratio == pytest.approx(1000 * 0.98 / 400 - 0.5)
    disjoint = replay_of(statistics(), seen, iterations=4.0, num_new=2, subtract=False)
    assert torch.bincount(disjoint.index, minlength=3).tolist() == [25, 12, 2]
    assert disjoint.background_ratio == pytest.approx(2.5)
    nothing = replay_of(statistics(), seen * 0, iterations=4.0, num_new=2, subtract=True)
    assert nothing.background_ratio == 0


def test_numbers_of_cells_add_up_over_steps_as_in_the_official_code():
    parts = [statistics(), statistics((7.0, 3.0), 5.0, predicted=(400.0, 20.0, 60.0, 1.0))]
    overlapped = joined(parts, subtract=True)
    assert overlapped.counts.tolist() == [100, 50, 10, 7, 3] and len(overlapped.prototypes) == 5
    assert overlapped.background == pytest.approx(1000 * 0.98 + 200)
    disjoint = joined(parts, subtract=False)
    assert disjoint.counts.tolist() == [120, 110, 11, 7, 3] and disjoint.background == 1400
    # A step that another method trained did not count.
    assert joined([statistics(), statistics((7.0,))], True).background == pytest.approx(990)
    with pytest.raises(InputError, match='do not fit each other'):
        joined([statistics(), statistics((7.0,), 5.0, predicted=(1.0, 2.0))], True)


def test_a_class_without_a_cell_or_with_one_has_finite_statistics():
    labels = torch.zeros(1, *CELLS, dtype=torch.long)
    labels[0, 0, 0] = 1
    embedding = torch.randn(1, CHANNELS, *CELLS)
    found = statistics_of(moments(embedding, labels, range(1, 3)), 19.0)
    assert found.counts.tolist() == [1, 0] and not found.prototypes[1].any()
    torch.testing.assert_close(found.norm_mean[0], embedding[0, :, 0, 0].norm())
    assert not found.norm_std.any()
    torch.testing.assert_close(found.noise, torch.zeros(2, CHANNELS), atol=1e-6, rtol=0)


def test_a_cell_has_the_label_of_its_middle():
    labels = torch.arange(64 * 48).view(1, 64, 48)
    assert torch.equal(cells_of(labels, (4, 3)), labels[:, 8::16, 8::16])


@pytest.mark.parametrize('kind', ['missing', 'damaged', 'infinite', 'of another version'])
def test_a_damaged_file_is_refused(kind, tmp_path):
    path = tmp_path / FILE_NAME
    statistics().save(path, dict(form='fixed'))
    found, settings = ClassStatistics.load(path)
    assert settings == dict(form='fixed') and torch.equal(found.counts, statistics().counts)
    content = torch.load(path)
    if kind == 'missing':
        path.unlink()
    elif kind == 'damaged':
        path.write_bytes(b'nothing')
    elif kind == 'infinite':
        torch.save({**content, 'noise': content['noise'] / 0}, path)
    else:
        torch.save({**content, 'format': 2}, path)
    with pytest.raises(
        InputError, match='does not exist' if kind == 'missing' else 'cannot be read'
    ):
        ClassStatistics.load(path)


def test_new_rows_have_the_official_spread():
    torch.manual_seed(0)
    weight, bias = torch.randn(OLD, 256, 1, 1), torch.randn(OLD)
    rows, biases = KaimingRows()(weight, bias, torch.zeros(40, 256, 1, 1), torch.zeros(40))
    assert torch.equal(rows[:OLD], weight) and torch.equal(biases[:OLD], bias)
    assert rows[OLD:].std().item() == pytest.approx((2 / 256) ** 0.5, rel=0.05)
    assert biases[OLD:].abs().max() <= 1 / 16 and biases[OLD:].std() > 0.02


@pytest.mark.parametrize(
    ('build', 'message'),
    [
        (lambda: ReplayedCrossEntropyLoss(form='old'), 'form must be one of'),
        (lambda: ReplayedCrossEntropyLoss(pos_weight=-1), 'pos_weight must be a number'),
        (lambda: StarDistiller(form=None), 'form must be one of'),
        (lambda: StarDistiller(feature_weight='a'), 'feature_weight must be a number'),
        (lambda: StarStatisticsHook(form='old'), 'form must be one of'),
        (lambda: StarStatisticsHook(setting='sequential'), 'setting must be one of'),
    ],
)
def test_wrong_options_are_refused(build, message):
    with pytest.raises(InputError, match=message):
        build()


def test_a_head_with_losses_of_its_own_is_refused():
    sampler = dict(type='OHEMPixelSampler', thresh=0.7, min_kept=50)
    model = segmentor(network(sampler=sampler), [3])
    with pytest.raises(InputError, match='drawn embeddings cannot join them'):
        StarStatisticsHook().check_network(model)
    StarStatisticsHook().check_network(segmentor(network(), [3]))


def test_a_kernel_that_looks_at_neighbours_is_refused():
    model = segmentor(network(), [3])
    model.decode_head.conv_seg = nn.Conv2d(12, 3, 3)
    with pytest.raises(InputError, match='embeddings are drawn for 1x1 alone'):
        StarStatisticsHook().check_network(model)
