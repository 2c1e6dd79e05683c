"""SDR's losses: plain forms, limits, batches that lack something, several processes."""

import pytest
import torch
from exchanges import in_two_processes

from mmseg_cil.contracts import Batch, NetworkOutput
from mmseg_cil.errors import InputError
from mmseg_cil.losses.cells import at_cells
from mmseg_cil.losses.pixel_logits import PixelLogits
from mmseg_cil.methods.sdr import class_sums, reference
from mmseg_cil.methods.sdr.class_sums import NO_CLASS, ClassCells
from mmseg_cil.methods.sdr.distiller import (
    Means,
    RepresentationDistiller,
    classes_with_prototype,
    old_classes,
)
from mmseg_cil.methods.sdr.hook import PrototypesHook
from mmseg_cil.methods.sdr.prototypes import Prototypes
from mmseg_cil.methods.sdr.terms import attraction, matching, separation, sparsity
from mmseg_cil.utils.step_context import StepContext

OLD, NEW, SIZE, CHANNELS = 3, 2, (4, 5), 6
CLASSES = OLD + NEW
STEP = StepContext.of_class_counts([OLD, NEW])
ALL = dict(match_weight=1.0, attraction_weight=1.0, separation_weight=1.0, sparsity_weight=1.0)
NAMES = tuple(f'loss_sdr_{name}' for name in ('match', 'attraction', 'separation', 'sparsity'))


def draw(count=2, seed=0, dtype=torch.float64):
    """Features as of a ReLU, the teacher's logits, and labels of size (16, 20)."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.rand(count, CHANNELS, *SIZE, generator=generator, dtype=dtype)
    logits = torch.randn(count, OLD, *SIZE, generator=generator, dtype=dtype)
    labels = torch.randint(OLD, CLASSES, (count, *SIZE), generator=generator)
    labels[:, 1:] = 0
    labels[:, 0, 0] = 255
    return features, logits, labels.repeat_interleave(4, 1).repeat_interleave(4, 2)


def known():
    """Prototypes of the old foreground classes."""
    generator = torch.Generator().manual_seed(7)
    means = torch.rand(CLASSES, CHANNELS, generator=generator)
    counts = torch.tensor([0, 30, 40, 0, 0])
    return Prototypes(means * (counts > 0).unsqueeze(1), counts)


def distil(drawn, prototypes=None, step=STEP, replayed=0, **options):
    features, logits, labels = drawn
    own = features.new_zeros(len(features), step.num_seen, *features.shape[2:])
    distiller = RepresentationDistiller(**{**ALL, **options})
    distiller.set_step(step)
    distiller.set_prototypes(known() if prototypes is None else prototypes)
    return distiller(
        Batch(
            NetworkOutput((features,), features, own),
            PixelLogits(own, labels, replayed=replayed),
            NetworkOutput((features,), features, logits),
        )
    )


@pytest.mark.parametrize('count', [1, 2, 3])
@pytest.mark.parametrize('cut', [None, 'lines', 'columns'])
def test_sums_of_classes_are_those_of_the_plain_form(cut, count):
    features, _, labels = draw(count)
    features.requires_grad_()
    small = at_cells(labels, SIZE)
    cells = ClassCells(features, small, CLASSES, cut)
    points = torch.rand(CLASSES, CHANNELS, dtype=torch.float64)
    weights = torch.rand(CLASSES, CHANNELS, dtype=torch.float64)
    found = (cells.sums() * weights).sum() + cells.squares(points).sum()
    expected = 0
    for class_id in range(CLASSES):
        own = reference.features_of(features, small, class_id, cut)
        assert cells.counts[class_id] == own.shape[1]
        expected += (own.sum(dim=1) * weights[class_id]).sum()
        expected += (own - points[class_id].unsqueeze(1)).square().sum()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        torch.autograd.grad(found, features)[0], torch.autograd.grad(expected, features)[0]
    )


def test_the_losses_of_a_batch_are_those_of_the_plain_form():
    drawn = draw()
    features = drawn[0].requires_grad_()
    before = known()
    found = distil(drawn, prototypes=before)
    assert tuple(found) == NAMES
    small = at_cells(drawn[2], SIZE)
    means, counts = reference.running_means(features.detach(), small, known().means, known().counts)
    torch.testing.assert_close(before.means, means.float())
    assert torch.equal(before.counts, counts)
    # The background has no prototype, so it is not drawn to any.
    foreground = small.masked_fill(small == 0, 255)
    pixels = PixelLogits(features.new_zeros(2, CLASSES, *SIZE), drawn[2])
    old = old_classes(small, pixels, drawn[1], STEP)
    assert (old > 0).any()
    expected = (
        reference.matching(features, old.clamp(min=0), before.means.double()),
        reference.attraction(features, foreground, before.means.double()),
        reference.separation(features, small),
        reference.sparsity(features, small),
    )
    torch.testing.assert_close(torch.stack(list(found.values())), torch.stack(expected))
    torch.testing.assert_close(
        torch.autograd.grad(sum(found.values()), features)[0],
        torch.autograd.grad(sum(expected), features)[0],
    )


def test_a_prototype_is_the_mean_over_all_cells_of_all_iterations():
    prototypes = Prototypes.empty(CLASSES, CHANNELS, 'cpu')
    cells = {class_id: [] for class_id in (3, 4)}
    for seed in range(5):
        drawn = draw(seed=seed)
        distil(drawn, prototypes=prototypes)
        for class_id, own in cells.items():
            own.append(reference.features_of(drawn[0], at_cells(drawn[2], SIZE), class_id))
    for class_id, own in cells.items():
        everything = torch.cat(own, dim=1)
        torch.testing.assert_close(
            prototypes.means[class_id].double(), everything.mean(dim=1), rtol=1e-5, atol=0
        )
        assert prototypes.counts[class_id] == everything.shape[1]
    assert not prototypes.counts[:3].any() and not prototypes.means[:3].any()


def test_grown_prototypes_keep_what_there_is():
    before = known()
    grown = before.grown(7)
    assert grown.means.shape == (7, CHANNELS) and torch.equal(grown.means[:5], before.means)
    assert grown.counts.tolist() == [0, 30, 40, 0, 0, 0, 0]
    with pytest.raises(InputError, match='prototypes of 5 classes, and the step has 4'):
        before.grown(4)


def test_features_at_their_prototypes_cost_nothing_and_have_no_gradient():
    means = known().means.double()
    labels = torch.tensor([1, 2, 2, 1]).view(1, 2, 2)
    features = means[labels].movedim(-1, 1).contiguous().requires_grad_()
    batch = Means.of(ClassCells(features, labels, CLASSES))
    chosen = batch.present
    own = batch.sums / batch.counts.clamp(min=1).unsqueeze(1)
    loss = matching(own, means, chosen) + attraction(batch.cells, batch.counts, means, chosen)
    assert loss < 1e-12
    torch.testing.assert_close(
        torch.autograd.grad(loss, features)[0], torch.zeros_like(features), atol=1e-12, rtol=0
    )


def test_separation_is_the_mean_inverse_distance_of_pairs():
    means = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0], [6.0, 8.0]]).double().requires_grad_()
    everything = torch.tensor([True, True, False, True])
    torch.testing.assert_close(
        separation(means, everything), torch.tensor((1 / 5 + 1 / 5 + 1 / 10) / 3).double()
    )
    for chosen in ([True, False, True, False], [True, False, False, False], [False] * 4):
        # Two classes at one point, a single class, none.
        loss = separation(means, torch.tensor(chosen))
        assert loss == 0 and not torch.autograd.grad(loss, means)[0].any()


def test_attraction_weighs_classes_by_their_place_in_the_official_form():
    drawn = draw()
    small = at_cells(drawn[2], SIZE)
    batch = Means.of(ClassCells(drawn[0], small, CLASSES))
    points = torch.zeros(CLASSES, CHANNELS, dtype=torch.float64)
    each = [
        reference.features_of(drawn[0], small, class_id).square().mean() for class_id in (0, 3, 4)
    ]
    found = attraction(batch.cells, batch.counts, points, batch.present, official=True)
    torch.testing.assert_close(found, each[0] / 27 + each[1] / 9 + each[2] / 3)


def test_sparsity_is_least_for_equal_features_and_does_not_depend_on_their_size():
    labels = torch.zeros(1, 2, 2, dtype=torch.long)
    flat = torch.ones(1, 8, 2, 2)
    torch.testing.assert_close(sparsity(flat, labels, 2), torch.tensor(1.0).exp())
    features = torch.rand(1, 8, 2, 2)
    torch.testing.assert_close(sparsity(features, labels, 2), sparsity(9 * features, labels, 2))
    # Cells without a feature have no ratio.
    features[..., 0, 0] = 0
    some = sparsity(features, labels, 2)
    rest = features.flatten(2)[:, :, 1:].unsqueeze(2)
    torch.testing.assert_close(some, sparsity(rest, labels.flatten(1)[:, 1:].unsqueeze(1), 2))


def test_the_official_sparsity_is_0_where_only_background_is():
    features, labels = torch.rand(1, 8, 2, 2), torch.zeros(1, 2, 2, dtype=torch.long)
    assert sparsity(features, labels, 2, official=True) == 0 < sparsity(features, labels, 2)


@pytest.mark.parametrize('form', ['fixed', 'official'])
@pytest.mark.parametrize('kind', ['ReLU', 'zero', 'negative', 'leaky'])
@pytest.mark.parametrize('content', [255, 0, OLD, 1, None])
def test_every_batch_has_finite_losses_that_keep_the_graph(content, kind, form):
    for count in (1, 2):
        features, logits, labels = draw(count)
        if content is not None:
            labels = torch.full_like(labels, content)
        features = {
            'ReLU': features,
            'zero': 0 * features,
            'negative': -features,
            'leaky': torch.where(features > 0.5, features, -0.01 * features),
        }[kind].requires_grad_()
        for teacher in (logits, torch.zeros_like(logits)):  # the latter: all background
            losses = distil((features, teacher, labels), form=form)
            (gradient,) = torch.autograd.grad(sum(losses.values()), features)
            assert all(torch.isfinite(loss) for loss in losses.values())
            assert torch.isfinite(gradient).all()
            if form == 'fixed':
                assert all(loss >= 0 for loss in losses.values())
            if content == 255:
                assert losses['loss_sdr_attraction'] == losses['loss_sdr_match'] == 0


def test_gradient_is_that_of_finite_differences():
    features, logits, labels = draw(1)
    features = features.requires_grad_()

    def total(x):
        # The batch's own features in prototypes are constants.
        prototypes = known()
        prototypes.add = lambda *batch: None
        return sum(distil((x, logits, labels), prototypes=prototypes).values())

    assert torch.autograd.gradcheck(total, features)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    features, logits, labels = draw(dtype=torch.float32)
    half = features.to(dtype)
    with torch.autocast('cpu', torch.bfloat16):
        found = distil((half, logits, labels))
    expected = distil((half.float(), logits, labels))
    for name, loss in found.items():
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, expected[name])


def test_old_classes_come_from_the_teacher_only_where_labels_hide_them():
    _, logits, labels = draw()
    labels[:, 4:8] = 1  # as on exemplars
    small, pixels = at_cells(labels, SIZE), PixelLogits(logits.new_zeros(2, CLASSES, *SIZE), labels)
    found = old_classes(small, pixels, logits, STEP)
    assert (found[small == 1] == 1).all()
    assert (found[small >= OLD] == NO_CLASS).all() and (found != 0).all()
    assert (found[small == 0] > 0).any()
    shown = old_classes(small, pixels, logits, StepContext(1, STEP.class_steps, True, False))
    assert (shown[small == 0] == NO_CLASS).all() and (shown[small == 1] == 1).all()
    without = old_classes(small, pixels, logits, StepContext(1, STEP.class_steps, False, True))
    assert (without[small == 0] >= 0).all() and (without == 0).any()
    replayed = PixelLogits(logits.new_zeros(2, CLASSES, *SIZE), labels, replayed=1)
    assert (old_classes(small, replayed, logits, STEP)[1][small[1] >= OLD] != NO_CLASS).any()


@pytest.mark.parametrize(
    ('step', 'first'),
    [
        (STEP, 1),
        (StepContext(1, STEP.class_steps, has_background=True, old_labels_hidden=False), 1),
        (StepContext(1, STEP.class_steps, has_background=False, old_labels_hidden=True), 1),
        (StepContext(1, STEP.class_steps, has_background=False, old_labels_hidden=False), 0),
        (StepContext(1, (0,) * CLASSES, True, False, by_domain=True), 0),
    ],
)
def test_classes_whose_label_changes_its_meaning_have_no_prototype(step, first):
    found = classes_with_prototype(step, torch.device('cpu'))
    assert found.tolist() == [class_id >= first for class_id in range(CLASSES)]


@pytest.mark.parametrize('form', ['fixed', 'official'])
def test_two_processes_have_the_losses_gradients_and_prototypes_of_one(monkeypatch, form):
    drawn = draw()
    drawn[2][1] = OLD  # each process has another number of classes
    whole, prototypes = drawn[0].clone().requires_grad_(), known()
    # In the official form, the channel of a number depends on the images in the process: there,
    # both processes have the same values, but not those of a single process.
    expected = distil((whole, *drawn[1:]), prototypes=prototypes, form='fixed')
    sum(expected.values()).backward()

    def run(rank):
        features, *others = (part[rank : rank + 1].clone() for part in drawn)
        own = known()
        losses = distil((features.requires_grad_(), *others), prototypes=own, form=form)
        (gradient,) = torch.autograd.grad(sum(losses.values()), features)
        return torch.stack(list(losses.values())).detach(), gradient, own.means, own.counts

    both = in_two_processes(monkeypatch, class_sums, run, rounds=8)
    for place in (0, 2, 3):
        torch.testing.assert_close(both[0][place], both[1][place], rtol=0, atol=0)
    if form == 'fixed':
        torch.testing.assert_close(both[0][0], torch.stack(list(expected.values())).detach())
        torch.testing.assert_close((both[0][1], both[1][1]), (2 * whole.grad).split(1))
        torch.testing.assert_close(both[0][2], prototypes.means)
        assert torch.equal(both[0][3], prototypes.counts)


@pytest.mark.parametrize(
    ('options', 'message'),
    [(dict(match_weight=-1.0), 'match_weight must be a number'), (dict(form='right'), 'form must')],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        RepresentationDistiller(**options)
    with pytest.raises(InputError, match='form must be one of'):
        PrototypesHook(form='right')
    with pytest.raises(InputError, match='max_images must be a whole number'):
        PrototypesHook(max_images=0)


def test_forms_of_distiller_and_hook_must_agree():
    network = torch.nn.ModuleList([RepresentationDistiller(form='official')])
    with pytest.raises(InputError, match='give both the same'):
        PrototypesHook().check_network(network)
    PrototypesHook(form='official').check_network(network)
    network.self_supervision = torch.nn.Identity()
    with pytest.raises(InputError, match=r'set method\.self_supervision=None'):
        PrototypesHook(form='official').check_network(network)


def test_a_distiller_without_its_hook_says_so():
    features, logits, labels = draw()
    with pytest.raises(RuntimeError, match='needs a PrototypesHook'):
        RepresentationDistiller()(
            Batch(
                NetworkOutput((features,), features, logits),
                PixelLogits(logits, labels),
                NetworkOutput((features,), features, logits),
            )
        )


def test_damaged_files_are_told_of(tmp_path):
    path = tmp_path / 'prototypes.pth'
    with pytest.raises(InputError, match='the prototypes of that step were not kept'):
        Prototypes.load(path)
    before = known()
    before.save(path, dict(form='fixed'))
    found, settings = Prototypes.load(path)
    assert torch.equal(found.means, before.means) and torch.equal(found.counts, before.counts)
    assert settings == dict(form='fixed')
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match='the file is damaged or of another version'):
        Prototypes.load(path)
    before.means[0, 0] = torch.nan
    before.save(path, {})
    with pytest.raises(InputError, match='not finite'):
        Prototypes.load(path)
