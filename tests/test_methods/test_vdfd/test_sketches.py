"""Sketches of the second moment of the outputs' gradients."""

import itertools

import pytest
import torch

from mmseg_cil.methods.vdfd.hook import VDFDHook
from mmseg_cil.methods.vdfd.reference import second_moment, sketch
from mmseg_cil.methods.vdfd.sketches import signs_of, sketch_sums, sketched_gradients
from mmseg_cil.testing.networks import base_step, batch, network
from mmseg_cil.testing.processes import in_two_processes

IMAGES, PIXELS, NODES, WEIGHTS = 2, 2, 3, 5
#: Jacobians of every pixel's logits.
JACOBIANS = torch.randn(
    IMAGES, PIXELS, WEIGHTS, NODES, generator=torch.Generator().manual_seed(0), dtype=torch.float64
)


def samples_of(samples):
    """Jacobians of the samples ``(X, W, N)``."""
    return JACOBIANS.flatten(0, 1) if samples == 'pixels' else JACOBIANS.mean(dim=1)


def gradients_with(signs):
    """The gradients ``(W, N, 1 + S)`` as a pass over two batches of one image makes them."""
    sums, beside, cells = 0.0, 0.0, 1 + signs.shape[1]
    for image in range(IMAGES):
        weights = torch.zeros(WEIGHTS, dtype=torch.float64, requires_grad=True)
        own = torch.einsum('pwn,w->np', JACOBIANS[image], weights).reshape(1, NODES, PIXELS, 1)
        values, counts = sketch_sums(own, signs[image : image + 1])
        gradients = [torch.autograd.grad(value, weights, retain_graph=True)[0] for value in values]
        sums, beside = sums + torch.stack(gradients, dim=1), beside + counts
    return sketched_gradients(sums, beside, cells).unflatten(1, (NODES, cells))


def patterns(samples, sketches):
    """All signs that there are, ``(images, sketches, h, w)`` each."""
    size = (IMAGES, sketches, PIXELS if samples == 'pixels' else 1, 1)
    count = size[0] * size[1] * size[2]
    for signs in itertools.product((1.0, -1.0), repeat=count):
        yield torch.tensor(signs, dtype=torch.float64).reshape(size)


@pytest.mark.parametrize(('samples', 'sketches'), [('images', 1), ('images', 3), ('pixels', 2)])
def test_the_form_of_the_sketches_is_the_full_one_in_expectation(samples, sketches):
    """Exactly so in the mean over all signs, under any covariance of the nodes."""
    draw = torch.Generator().manual_seed(1)
    moved = torch.randn(WEIGHTS, generator=draw, dtype=torch.float64)
    factors = torch.randn(NODES, NODES, generator=draw, dtype=torch.float64)
    precision = factors @ factors.T
    jacobians = samples_of(samples)
    shares = torch.full((len(jacobians),), 1 / len(jacobians), dtype=torch.float64)
    forms = []
    for signs in patterns(samples, sketches):
        changes = torch.einsum('wnk,w->nk', gradients_with(signs), moved)
        forms.append(torch.einsum('nk,nm,mk->', changes, precision, changes))
    expected = second_moment(jacobians, shares, moved, precision)
    torch.testing.assert_close(torch.stack(forms).mean(), expected)
    # The mean output alone costs less, and single sketches differ.
    mean = torch.einsum('x,xwn,w->n', shares, jacobians, moved)
    assert mean @ precision @ mean < 0.9 * expected
    assert torch.stack(forms).std() > 0.01 * expected


@pytest.mark.parametrize('samples', ['images', 'pixels'])
def test_the_pass_makes_the_sketch_of_the_formula(samples):
    jacobians = samples_of(samples)
    shares = torch.full((len(jacobians),), 1 / len(jacobians), dtype=torch.float64)
    for signs in itertools.islice(patterns(samples, 2), 3, None, 37):
        flat = signs.movedim(1, 3).reshape(-1, 2)
        torch.testing.assert_close(gradients_with(signs), sketch(jacobians, shares, flat))


@pytest.mark.parametrize('samples', ['images', 'pixels'])
def test_signs_are_those_of_what_is_seen(samples):
    images = [torch.randint(256, (3, 8, 8), dtype=torch.uint8) for _ in range(3)]
    signs = signs_of(images, 5, samples, (4, 6))
    assert signs.shape == (3, 5, *((4, 6) if samples == 'pixels' else (1, 1)))
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    again = signs_of(images[1:], 5, samples, (4, 6))
    assert torch.equal(again, signs[1:])
    assert not torch.equal(signs[0], signs[1])
    state = torch.get_rng_state()
    signs_of(images, 2, samples, (4, 6))
    assert torch.equal(torch.get_rng_state(), state)
    # Signs have mean 0 and are uncorrelated.
    many = signs_of(images, 64, 'pixels', (16, 16)).flatten(1, 3)
    assert many.mean().abs() < 0.02 and (many[0] * many[1]).mean().abs() < 0.03


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    return base_step(network(), tmp_path_factory.mktemp('base') / 'base.pth', count=4)


def parts(sizes):
    """The same images however they are divided."""
    images, samples = batch(4, count=4, seed=0)
    places = torch.arange(4).split(list(sizes))
    return [
        dict(inputs=[images[i] for i in part], data_samples=[samples[i] for i in part])
        for part in places
    ]


@pytest.mark.parametrize(
    'options',
    [dict(sketches=2), dict(sketches=2, samples='images'), dict(outputs='conditional')],
    ids=str,
)
def test_batches_do_not_matter(model, options):
    hook = VDFDHook(rank=None, **options)
    nodes = ((0,), (1,), (2, 3))
    whole, ragged = (hook.keep(model, parts(sizes), nodes) for sizes in ([4], [3, 1]))
    assert whole.cells == (4 if 'outputs' in options else 3)
    assert whole.dense().shape[1] == 3 * whole.cells
    torch.testing.assert_close(ragged.dense(), whole.dense(), rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(ragged.projection, whole.projection, rtol=1e-3, atol=1e-5)


def test_the_first_cell_is_the_mean_output(model):
    nodes = ((0,), (1,), (2,))
    plain = VDFDHook(rank=None).keep(model, parts([4]), nodes)
    kept = VDFDHook(rank=None, sketches=3).keep(model, parts([4]), nodes)
    own = kept.dense().unflatten(1, (3, 4))
    torch.testing.assert_close(own[..., 0], plain.dense(), rtol=1e-4, atol=1e-7)
    # The bias of a class moves all of its pixels alike: deviations do not feel it.
    first = sum(kept.rows[: kept.names.index('decode_head.conv_seg.bias')])
    torch.testing.assert_close(
        own[first], torch.eye(3, 4)[:, :1] @ torch.eye(1, 4), atol=1e-6, rtol=0
    )
    assert own[..., 1:].abs().max() > 1e-3


def keep_a_part(folder):
    from mmengine.dist import get_rank

    for name, hook in HOOKS.items():
        model = base_step(network(), f'{folder}/base_{get_rank()}.pth', count=4)
        data = parts([1, 1, 1, 1])[get_rank() :: 2]
        kept = hook.keep(model, data, ((0,), (1,), (2, 3)))
        torch.save((kept.dense(), kept.projection), f'{folder}/{name}_{get_rank()}.pth')


HOOKS = {
    'conditional': VDFDHook(rank=None, outputs='conditional'),
    'pixels': VDFDHook(rank=None, sketches=2),
    'images': VDFDHook(rank=None, sketches=2, samples='images'),
}


@pytest.mark.walk
def test_two_processes_keep_what_one_keeps(model, tmp_path):
    in_two_processes(keep_a_part, tmp_path, log=tmp_path / 'log')
    for name, hook in HOOKS.items():
        first, second = (torch.load(tmp_path / f'{name}_{rank}.pth') for rank in range(2))
        whole = hook.keep(model, parts([4]), ((0,), (1,), (2, 3)))
        for found, twin, expected in zip(
            first, second, (whole.dense(), whole.projection), strict=True
        ):
            assert torch.equal(found, twin)
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
