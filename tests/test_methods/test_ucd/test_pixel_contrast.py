"""UCD's contrast: its plain form, limits, labels of cells, and batches that lack something."""

import pytest
import torch
from exchanges import in_two_processes
from torch.nn.functional import normalize

from mmseg_cil.contracts import Batch, NetworkOutput
from mmseg_cil.errors import InputError
from mmseg_cil.losses.pixel_logits import PixelLogits
from mmseg_cil.methods.ucd import distiller as module
from mmseg_cil.methods.ucd.cells import cell_labels
from mmseg_cil.methods.ucd.distiller import PixelContrastDistiller
from mmseg_cil.methods.ucd.pairs import Cells, Pairing, contrast_sum
from mmseg_cil.methods.ucd.reference import contrast, official_labels, pair_weights
from mmseg_cil.utils.step_context import StepContext

OLD, NEW, SIZE = 3, 2, (4, 5)
STEP = StepContext.of_class_counts([OLD, NEW])


def draw(count=2, seed=0, dtype=torch.float64):
    """Embeddings of student and teacher, the teacher's logits, and labels of size (16, 20)."""
    generator = torch.Generator().manual_seed(seed)
    student, teacher, logits = (
        torch.randn(count, channels, *SIZE, generator=generator, dtype=dtype)
        for channels in (6, 6, OLD)
    )
    labels = torch.randint(OLD, OLD + NEW, (count, *SIZE), generator=generator)
    labels[:, 1:] = 0
    labels[:, 0, 0] = 255
    return student, teacher, 2 * logits, labels.repeat_interleave(4, 1).repeat_interleave(4, 2)


def distil(drawn, step=STEP, replayed=0, **options):
    student, teacher, logits, labels = drawn
    own = student.new_zeros(len(student), step.num_seen, *student.shape[2:])
    batch = Batch(
        NetworkOutput((), student, own),
        PixelLogits(own, labels, replayed=replayed),
        NetworkOutput((), teacher, logits),
    )
    distiller = PixelContrastDistiller(loss_weight=1.0, **options)
    distiller.set_step(step)
    return distiller(batch)['loss_ucd']


def with_labels(drawn, labels):
    return (*drawn[:3], labels)


def plain(drawn, temperature=0.07, shift='consistent'):
    """The loss with all pairs at once, over the cells that are compared."""
    student, teacher, logits, labels = drawn
    small = labels[:, ::4, ::4].flatten()
    predicted = logits.argmax(dim=1).flatten()
    given, void = small > 0, small == 255
    ids = torch.where(given, small, predicted)
    anchors, others = (ids > 0) & ~void, (ids > 0) & ~given
    vectors, old = (
        normalize(maps.movedim(1, -1).flatten(0, 2), dim=1) for maps in (student, teacher)
    )
    probabilities = logits.softmax(dim=1).movedim(1, -1).flatten(0, 2)

    def both(values):
        return torch.cat([values[anchors], values[others]])

    weights = pair_weights(probabilities[anchors], both(probabilities), given[anchors], both(given))
    everything = torch.cat([vectors[anchors], old[others]]).detach()
    return contrast(
        vectors[anchors], everything, ids[anchors], both(ids), weights, temperature, shift
    ).mean()


@pytest.mark.parametrize('shift', ['consistent', 'official'])
@pytest.mark.parametrize('count', [1, 2])
@pytest.mark.parametrize('most_pairs', [None, 1, 200])
def test_chunks_of_pairs_are_the_plain_form(shift, count, most_pairs):
    drawn = draw(count)
    student = drawn[0].requires_grad_()
    found = distil(drawn, shift=shift, most_pairs=most_pairs, temperature=0.2)
    expected = plain(drawn, 0.2, shift)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        torch.autograd.grad(found, student)[0], torch.autograd.grad(expected, student)[0]
    )


def test_gradient_is_that_of_finite_differences():
    student, _, logits, labels = draw(1)
    # The same cells are constants on the other side, so they must not move with the anchors.
    vectors = normalize(student.movedim(1, -1).flatten(0, 2), dim=1)
    ids = labels[:, ::4, ::4].flatten()
    shares = logits.softmax(dim=1).movedim(1, -1).flatten(0, 2)
    others = Cells(vectors.detach(), ids, ids > 0, shares)

    def total(x):
        return contrast_sum(Cells(x, ids, ids > 0, shares), others, Pairing(0.5, most_pairs=50))[0]

    assert torch.autograd.gradcheck(total, vectors.clone().requires_grad_())


def test_cells_of_one_class_alone_have_nothing_to_be_told_from():
    drawn = draw()
    student = drawn[0].requires_grad_()
    loss = distil(with_labels(drawn, torch.full_like(drawn[3], OLD)))
    loss.backward()
    assert loss == 0 and not student.grad.any()


def test_a_pair_of_given_labels_weighs_1_and_others_what_the_teacher_believes():
    """Two cells of a class and one of another; the loss of the two is known in closed form."""
    vectors = normalize(torch.tensor([[3.0, 1.0], [1.0, 2.0], [0.0, 1.0]]).double(), dim=1)
    ids, shares = torch.tensor([3, 3, 4]), torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.5, 0.5]])
    scores = vectors @ vectors.T / 0.3
    each = [
        (1 + (scores[i, 2] - scores[i, 1 - i]).exp()).log() for i in (0, 1)
    ]  # log(1 + e^(negative - positive))
    for sure, weight in (([True] * 3, 1.0), ([True, False, True], 0.9 * 0.4 + 0.1 * 0.6)):
        cells = Cells(vectors, ids, torch.tensor(sure), shares.double())
        total, number = contrast_sum(cells, cells, Pairing(0.3))
        assert number == 2
        torch.testing.assert_close(total, weight * sum(each))


def test_the_official_shift_weighs_negatives_by_the_exponential_of_the_greatest_score():
    drawn = draw()
    gap = distil(drawn, shift='official', temperature=0.07) - distil(drawn, temperature=0.07)
    # Every score is 1 / 0.07 too large against the negatives; the softplus is nearly linear there.
    assert gap > 1
    torch.testing.assert_close(
        plain(drawn, 0.07, 'official'), distil(drawn, shift='official', temperature=0.07)
    )


def test_constants_of_embeddings_and_the_order_of_images_do_not_matter():
    drawn = draw()
    expected = distil(drawn)
    student, teacher, logits, labels = drawn
    factors = torch.rand(2, 1, *SIZE, dtype=torch.float64) + 0.1
    torch.testing.assert_close(
        distil((student * factors, teacher / factors, logits + factors, labels)), expected
    )
    torch.testing.assert_close(distil(tuple(part.flip(0) for part in drawn)), expected)


def labels_of(drawn, step, form='nearest', replayed=0):
    _, _, logits, labels = drawn
    own = logits.new_zeros(len(labels), step.num_seen, *SIZE)
    return cell_labels(PixelLogits(own, labels, replayed=replayed), logits, step, form)


def test_the_teacher_names_what_labels_hide_and_nothing_else():
    drawn = draw()
    small, predicted = drawn[3][:, ::4, ::4], drawn[2].argmax(dim=1)
    found = labels_of(drawn, STEP)
    assert torch.equal(found.ids[found.given], small[found.given])
    assert torch.equal(found.ids[~found.given], predicted[~found.given])
    assert torch.equal(found.given, small > 0)
    assert not found.used[small == 255].any()
    assert not found.used[(small == 0) & (predicted == 0)].any()
    assert found.used[(small == 0) & (predicted > 0)].all()
    # Where labels hide nothing, the label 0 is the background.
    shown = StepContext(1, STEP.class_steps, True, False)
    found = labels_of(drawn, shown)
    assert torch.equal(found.used, (small > 0) & (small < 255))


def test_without_a_background_no_cell_is_one():
    drawn = draw()
    small = drawn[3][:, ::4, ::4]
    hidden = labels_of(drawn, StepContext(1, STEP.class_steps, False, True))
    assert torch.equal(hidden.used, small != 255)
    assert torch.equal(hidden.ids[small == 0], drawn[2].argmax(dim=1)[small == 0])
    by_domain = labels_of(drawn, StepContext(1, (0,) * 5, False, False, by_domain=True))
    assert torch.equal(by_domain.ids, small) and by_domain.sure.all()


def test_generated_images_are_labelled_by_the_teacher():
    drawn = draw()
    drawn[3][1] = 255
    found = labels_of(drawn, STEP, replayed=1)
    predicted = drawn[2].argmax(dim=1)[1]
    assert torch.equal(found.ids[1], predicted) and torch.equal(found.used[1], predicted > 0)
    assert not found.given[1].any()


def test_official_labels_have_classes_that_nobody_saw():
    labels = torch.zeros(1, 2, 4, dtype=torch.long)
    labels[..., 1:] = 6
    assert official_labels(labels, (1, 2)).tolist() == [[[3, 6]]]
    assert official_labels(torch.full_like(labels, 255), (1, 2)).tolist() == [[[0, 0]]]
    assert official_labels(torch.full_like(labels, 21), (1, 2)).tolist() == [[[0, 0]]]


@pytest.mark.parametrize('labels', ['nearest', 'official'])
@pytest.mark.parametrize('count', [1, 2])
@pytest.mark.parametrize('content', [255, 0, OLD, 1])
def test_every_batch_has_a_finite_loss_that_keeps_the_graph(content, count, labels):
    drawn = draw(count)
    student = drawn[0].requires_grad_()
    for logits in (drawn[2], torch.zeros_like(drawn[2])):  # the latter: all background
        batch = (drawn[0], drawn[1], logits, torch.full_like(drawn[3], content))
        loss = distil(batch, labels=labels)
        (gradient,) = torch.autograd.grad(loss, student)
        assert torch.isfinite(loss) and loss >= 0 and torch.isfinite(gradient).all()
        if content == 255 and labels == 'nearest':
            assert loss == 0


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    student, teacher, logits, labels = draw(dtype=torch.float32)
    half = (100 * student).to(dtype), (100 * teacher).to(dtype), logits.to(dtype), labels
    with torch.autocast('cpu', torch.bfloat16):
        loss = distil(half)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, distil((*(part.float() for part in half[:3]), labels)))


def test_cells_of_all_processes_are_compared(monkeypatch):
    """Two processes with an image each have, on average, the loss and gradient of both images."""
    drawn = [part.float() if part.is_floating_point() else part for part in draw()]
    drawn[3][1] = OLD  # the processes have different numbers of anchors

    def run(rank, **options):
        student, *others = (part[rank : rank + 1] for part in drawn)
        student = student.clone().requires_grad_()
        loss = distil((student, *others), **options)
        return loss.detach(), torch.autograd.grad(loss, student)[0]

    alone = [run(rank) for rank in range(2)]
    whole = drawn[0].clone().requires_grad_()
    expected = distil((whole, *drawn[1:]))
    expected.backward()
    both = in_two_processes(monkeypatch, module, run)
    torch.testing.assert_close((both[0][0] + both[1][0]) / 2, expected.detach())
    torch.testing.assert_close(torch.cat([own for _, own in both]) / 2, whole.grad)
    # As in the official code, each process has its own pairs.
    apart = in_two_processes(monkeypatch, module, lambda rank: run(rank, across_processes=False))
    torch.testing.assert_close(apart, alone)
    assert abs(apart[0][0] + apart[1][0] - 2 * expected) > 0.01


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(temperature=0.0), 'temperature must be a number'),
        (dict(shift='both'), 'shift must be one of'),
        (dict(labels='bilinear'), 'labels must be one of'),
        (dict(most_pairs=0), 'most_pairs must be a whole number'),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        PixelContrastDistiller(**options)


def test_official_labels_are_refused_where_they_know_the_classes_not():
    distiller = PixelContrastDistiller(labels='official')
    with pytest.raises(InputError, match='step 1 has 22 classes: set'):
        distiller.set_step(StepContext.of_class_counts([16, 6]))
    with pytest.raises(InputError, match='this protocol has none'):
        distiller.set_step(StepContext(1, STEP.class_steps, False, True))
    distiller.set_step(StepContext.of_class_counts([16, 5]))


def test_embeddings_of_another_size_than_the_logits_are_refused():
    student, teacher, logits, labels = draw()
    with pytest.raises(InputError, match='take a head that classifies cell by cell'):
        distil((student[..., 1:], teacher[..., 1:], logits, labels))
