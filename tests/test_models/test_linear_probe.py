"""A linear classifier of a frozen embedding, trained anew."""

import pytest
import torch
from golden_cases import deviation

from mmseg_cil.errors import InputError
from mmseg_cil.models.linear_probe import fit_probe, probed_classifier
from mmseg_cil.testing.networks import network, segmentor


def cells(count=40, classes=3, scale=1.0, shift=0.0, void=0):
    """Batches of embeddings in which each class has a channel of its own."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        labels = torch.randint(0, classes, (2, 1, 4, 4), generator=generator)
        embedding = torch.randn(2, 5, 4, 4, generator=generator) * 0.2
        embedding[:, :classes] += torch.eye(classes)[labels[:, 0]].movedim(-1, 1)
        labels[:, :, :void] = 255
        yield shift + scale * embedding, labels


def accuracy(weight, bias, **kwargs):
    right = total = 0
    for embedding, labels in cells(**kwargs):
        logits = torch.einsum('cd,ndhw->nchw', weight, embedding) + bias[:, None, None]
        right += int((logits.argmax(1) == labels[:, 0]).sum())
        total += labels.numel()
    return right / total


def test_it_finds_what_is_linear_in_the_embedding():
    weight, bias = fit_probe(cells(), 3, 40, 0.05)
    assert weight.shape == (3, 5) and bias.shape == (3,)
    assert accuracy(weight, bias) > 0.95
    # Without an iteration's worth of rate nothing is learnt: rows begin as zeros.
    weight, bias = fit_probe(cells(), 3, 40, 1e-12)
    assert weight.abs().max() < 1e-9 and bias.abs().max() < 1e-9


def test_the_size_of_the_embedding_does_not_matter():
    plain = fit_probe(cells(), 3, 40, 0.05)
    for options in (dict(scale=1e-3), dict(scale=100.0, shift=50.0)):
        weight, bias = fit_probe(cells(**options), 3, 40, 0.05)
        assert deviation(weight * options['scale'], plain[0]) < 1e-2
        assert accuracy(weight, bias, **options) > 0.95


def test_it_is_the_same_every_time_and_draws_nothing():
    state = torch.random.get_rng_state()
    first, again = (fit_probe(cells(), 3, 40, 0.05) for _ in range(2))
    assert all(torch.equal(*pair) for pair in zip(first, again, strict=True))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_void_teaches_nothing_and_never_ends_in_nan():
    weight, bias = fit_probe(cells(void=4), 3, 40, 0.05)
    assert not weight.any() and not bias.any()
    dead = ((torch.zeros_like(e), y) for e, y in cells(count=3))
    assert all(torch.isfinite(value).all() for value in fit_probe(dead, 3, 3, 0.05))


def test_networks_that_do_not_end_with_a_linear_classifier_are_refused():
    model = segmentor(network(), [3])
    assert probed_classifier(model) is model.decode_head.conv_seg
    model.decode_head.conv_seg = torch.nn.Conv2d(12, 3, 3)
    with pytest.raises(InputError, match=r'kernel of \(3, 3\)'):
        probed_classifier(model)
