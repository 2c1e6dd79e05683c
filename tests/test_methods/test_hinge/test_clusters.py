"""Several means of the background: centres of clusters, on any number of processes."""

import pytest
import torch
from torch import nn

from mmseg_cil.errors import InputError
from mmseg_cil.methods.hinge import clusters as clusters_module
from mmseg_cil.methods.hinge.class_means import ClassMeans, mean_embeddings
from mmseg_cil.methods.hinge.clusters import ClassCells, clusters
from mmseg_cil.methods.hinge.hook import ClassMeansHook
from mmseg_cil.methods.hinge.regulariser import HingeRegulariser
from mmseg_cil.models.network_output import run_network
from mmseg_cil.testing.networks import base_step, batch, network
from mmseg_cil.utils.step_context import StepContext


def blobs(sizes, width=5, seed=0):
    """Return centres (K, D) far from each other, and cells around each, mixed."""
    generator = torch.Generator().manual_seed(seed)
    centres = 100 * torch.eye(len(sizes), width)
    cells = torch.cat(
        [
            centre + 0.1 * torch.randn(size, width, generator=generator)
            for centre, size in zip(centres, sizes, strict=True)
        ]
    )
    return centres, cells[torch.randperm(len(cells), generator=generator)]


def test_clusters_far_from_each_other_are_found():
    centres, cells = blobs([40, 20, 60])
    # With some more clusters than blobs every blob has at least one, and no cluster has two.
    found, counts = clusters(cells, 12)
    nearest = torch.cdist(found, centres).argmin(dim=1)
    assert torch.cdist(found, centres).min(dim=1).values.max() < 1
    of_blobs = torch.zeros(3, dtype=torch.int64).index_add_(0, nearest, counts)
    assert of_blobs.tolist() == [40, 20, 60]


@pytest.mark.parametrize('count', [1, 3, 8])
def test_centres_weighted_by_their_cells_give_the_mean(count):
    _, cells = blobs([30, 31])
    found, counts = clusters(cells, count)
    assert len(found) == len(counts) <= count and counts.sum() == len(cells) and counts.min() > 0
    mean = (found * counts[:, None]).sum(0) / counts.sum()
    torch.testing.assert_close(mean, cells.mean(0), rtol=1e-5, atol=1e-5)


def test_there_are_no_more_clusters_than_different_cells():
    found, counts = clusters(torch.tensor([[1.0, 2.0], [3.0, 4.0]]).repeat(5, 1), 32)
    assert sorted(found.tolist()) == [[1.0, 2.0], [3.0, 4.0]] and counts.tolist() == [5, 5]


def labelled(count=4):
    generator = torch.Generator().manual_seed(1)
    embedding = torch.randn(count, 3, 4, 5, generator=generator)
    labels = torch.randint(0, 3, (count, 1, 8, 10), generator=generator)
    return embedding, labels


def test_cells_are_those_of_the_classes_in_any_batches(monkeypatch):
    embedding, labels = labelled()
    whole, parts = ClassCells((0, 2)), ClassCells((0, 2))
    whole.add(embedding, labels)
    for place in range(4):
        parts.add(embedding[place : place + 1], labels[place : place + 1])
    small = nn.functional.interpolate(labels.float(), (4, 5), mode='nearest').squeeze(1)
    for cells in (whole, parts):
        found = cells.of_all_processes()
        assert list(found) == [0, 2]
        for class_id, own in found.items():
            assert torch.equal(own, embedding.movedim(1, -1)[small == class_id])
    monkeypatch.setattr(clusters_module, 'CELLS', 3)
    assert len(whole.of_all_processes()[0]) == 3


def test_a_class_without_cells_is_left_out():
    embedding, labels = labelled()
    cells = ClassCells((1, 9))
    assert cells.of_all_processes() == {}
    cells.add(embedding, labels)
    assert list(cells.of_all_processes()) == [1]


def test_images_of_all_processes_are_taken_in_turns(monkeypatch):
    embedding, labels = labelled(5)
    whole, ranks = ClassCells([0]), [ClassCells([0]), ClassCells([0])]
    whole.add(embedding, labels)
    for rank, part in enumerate(ranks):
        part.add(embedding[rank::2], labels[rank::2])
    expected = whole.of_all_processes()
    monkeypatch.setattr(
        clusters_module, 'all_gather_object', lambda _: [part._images for part in ranks]
    )
    assert torch.equal(ranks[0].of_all_processes()[0], expected[0])


def test_the_background_alone_has_several_means(tmp_path):
    model = base_step(network('PSPHead', 'single'), tmp_path / 'base.pth').eval()
    images, samples = batch(3, count=4, seed=0)
    data = dict(inputs=list(images), data_samples=samples)
    plain = mean_embeddings(model, [data], range(3))
    found = mean_embeddings(model, [data], range(3), background=4)
    own = [place for place, class_id in enumerate(found.classes) if class_id == 0]
    assert own == list(range(len(own))) and 1 < len(own) <= 4
    assert found.classes[len(own) :] == plain.classes[1:] == (1, 2)
    assert torch.equal(found.means[len(own) :], plain.means[1:])
    # The few cells here are all clustered.
    assert found.pixels[own].sum() == plain.pixels[0]
    mean = (found.means[own] * found.pixels[own, None]).sum(0) / plain.pixels[0]
    torch.testing.assert_close(mean, plain.means[0], rtol=1e-4, atol=1e-5)
    embedding = run_network(model, images).embedding
    assert found.means.shape[1] == embedding.shape[1]
    # A step that does not bring the background has none of its means.
    assert 0 not in mean_embeddings(model, [data], range(1, 3), background=4).classes


def test_every_class_may_have_several_means(tmp_path):
    model = base_step(network('PSPHead', 'single'), tmp_path / 'base.pth').eval()
    images, samples = batch(3, count=4, seed=0)
    data = dict(inputs=list(images), data_samples=samples)
    plain = mean_embeddings(model, [data], range(3))
    found = mean_embeddings(model, [data], range(3), background=2, foreground=3)
    for class_id, most in ((0, 2), (1, 3), (2, 3)):
        own = [place for place, held in enumerate(found.classes) if held == class_id]
        assert own == list(range(own[0], own[0] + len(own))) and 1 < len(own) <= most
        mean = (found.means[own] * found.pixels[own, None]).sum(0) / found.pixels[own].sum()
        torch.testing.assert_close(mean, plain.means[class_id], rtol=1e-4, atol=1e-5)


def test_classes_count_alike_and_means_of_a_class_by_their_cells():
    torch.manual_seed(0)
    toy = nn.Module()
    toy.decode_head = nn.Module()
    toy.decode_head.conv_seg = nn.Conv2d(4, 5, 1)
    means = torch.randn(4, 4)
    kept = ClassMeans((0, 0, 1, 2), means, torch.tensor([30, 10, 7, 9]))
    regulariser = HingeRegulariser(loss_weight=0.5, margin=2.0, background=True)
    regulariser.set_step(StepContext.of_class_counts([3, 2]))
    regulariser.set_class_means(kept, toy)
    logits = toy.decode_head.conv_seg(means[:, :, None, None]).flatten(1)
    own = logits[torch.arange(4), torch.tensor(kept.classes)]
    terms = (logits[:, 3:].logsumexp(1) - own + 2.0).clamp(min=0) ** 2
    expected = 0.5 * ((0.75 * terms[0] + 0.25 * terms[1]) + terms[2] + terms[3]) / 3
    torch.testing.assert_close(regulariser(toy)['loss_hinge'], expected)


def test_a_file_tells_how_many_means_a_class_has(tmp_path):
    kept = ClassMeans((0, 1), torch.randn(2, 3), torch.tensor([5, 6]))
    kept.save(tmp_path / 'class_means.pth', ClassMeansHook()._settings())
    assert ClassMeansHook().has_kept(tmp_path)
    assert not ClassMeansHook(background=32).has_kept(tmp_path)
    assert not ClassMeansHook(foreground=2).has_kept(tmp_path)
    for name in ('background', 'foreground'):
        with pytest.raises(InputError, match=name):
            ClassMeansHook(**{name: 0})


def test_a_file_holds_half_the_bytes_unless_a_number_is_too_great(tmp_path):
    path = tmp_path / 'class_means.pth'
    means = torch.randn(40, 512)
    sizes = []
    for factor in (1.0, 1e6):
        kept = ClassMeans((0,) * 40, factor * means, torch.ones(40, dtype=torch.int64))
        kept.save(path, {})
        sizes.append(path.stat().st_size)
        found = ClassMeans.load(path)[0]
        assert found.means.dtype == torch.float32
        # Half a unit in the last of eleven binary places.
        torch.testing.assert_close(found.means, kept.means, rtol=2**-11, atol=1e-7)
    assert torch.equal(found.means, kept.means)
    assert sizes[1] - sizes[0] == means.numel() * 2
