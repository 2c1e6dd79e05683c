"""The hinge on new rows: closed forms, and the means that it is computed at."""

import logging
import math
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from torch import nn

from mmseg_cil.errors import InputError
from mmseg_cil.methods.hinge import hook as hook_module
from mmseg_cil.methods.hinge.class_means import ClassMeans, mean_embeddings
from mmseg_cil.methods.hinge.hook import ClassMeansHook
from mmseg_cil.methods.hinge.reference import hinge
from mmseg_cil.methods.hinge.regulariser import AGAINST, HingeRegulariser
from mmseg_cil.models.network_output import run_network
from mmseg_cil.registry import HOOKS, MODELS
from mmseg_cil.testing.networks import base_step, batch, network, next_step
from mmseg_cil.utils.step_context import StepContext


class Toy(nn.Module):
    """A network of a classifier alone."""

    def __init__(self, weight, bias):
        super().__init__()
        rows, inputs = weight.shape
        self.decode_head = nn.Module()
        self.decode_head.conv_seg = nn.Conv2d(inputs, rows, 1)
        self.decode_head.conv_seg.weight.data.copy_(weight[:, :, None, None])
        self.decode_head.conv_seg.bias.data.copy_(bias)


def regulariser_of(toy, means, classes, counts=(3, 2), has_background=True, **options):
    regulariser = HingeRegulariser(**options)
    regulariser.set_step(StepContext.of_class_counts(counts, has_background))
    regulariser.attach(toy)
    kept = ClassMeans(tuple(classes), means, torch.ones(len(classes), dtype=torch.int64))
    regulariser.set_class_means(kept, toy)
    return regulariser


@pytest.fixture
def drawn():
    generator = torch.Generator().manual_seed(0)
    weight, bias, means = (
        torch.randn(*shape, generator=generator) for shape in ((5, 4), (5,), (3, 4))
    )
    return Toy(weight, bias), weight, bias, means


@pytest.mark.parametrize('margin', [0.0, 1.0, 20.0])
@pytest.mark.parametrize(('has_background', 'first'), [(True, 1), (False, 0)])
@pytest.mark.parametrize('against', AGAINST)
def test_the_loss_is_the_plain_statement(drawn, margin, has_background, first, against):
    toy, weight, bias, means = drawn
    options = dict(margin=margin, loss_weight=0.3, against=against)
    regulariser = regulariser_of(toy, means, [0, 1, 2], has_background=has_background, **options)
    found = regulariser(toy)['loss_hinge']
    expected = hinge(means[first:], range(first, 3), weight, bias, 3, margin, against)
    assert found.item() == pytest.approx(0.3 * expected, rel=1e-5)


def test_a_class_that_is_not_predicted_at_its_mean_holds_nothing_down_against_the_greatest():
    means, biases = torch.eye(2), torch.tensor([5.0, -3.0, 2.0])
    toy = Toy(torch.zeros(3, 2), biases)
    own, greatest = (
        regulariser_of(toy, means[:1], [1], counts=(2, 1), loss_weight=1.0, against=against)
        for against in AGAINST
    )
    # The new class stays 3 below the background, which is predicted there.
    assert greatest(toy)['loss_hinge'].item() == 0
    assert own(toy)['loss_hinge'].item() == pytest.approx(36.0)


def test_two_new_classes_are_no_higher_than_the_greatest_against_the_greatest():
    toy = Toy(torch.zeros(4, 2), torch.tensor([0.0, 1.0, 3.0, 3.0]))
    pair = regulariser_of(
        toy, torch.eye(2)[:1], [1], counts=(2, 2), loss_weight=1.0, against='greatest'
    )
    assert pair(toy)['loss_hinge'].item() == pytest.approx(9.0)


def test_a_class_that_scores_above_by_the_margin_costs_nothing_and_below_quadratically():
    means, toy = torch.eye(2), Toy(torch.zeros(3, 2), torch.zeros(3))
    single = regulariser_of(toy, means[:1], [1], counts=(2, 1), loss_weight=1.0, margin=1.0)
    bias = toy.decode_head.conv_seg.bias
    for own, new, expected in ((5.0, 4.0, 0.0), (5.0, 4.5, 0.25), (1.0, 3.0, 9.0)):
        bias.data.copy_(torch.tensor([100.0, own, new]))
        assert single(toy)['loss_hinge'].item() == pytest.approx(expected)
    # Two new classes of equal score are as one that scores ln 2 more.
    double = Toy(torch.zeros(4, 2), torch.tensor([0.0, 1.0, 3.0, 3.0]))
    pair = regulariser_of(double, means[:1], [1], counts=(2, 2), loss_weight=1.0)
    assert pair(double)['loss_hinge'].item() == pytest.approx((3 + math.log(2)) ** 2)


def test_it_pulls_the_new_rows_down_and_the_earlier_one_up(drawn):
    toy, _, _, means = drawn
    regulariser = regulariser_of(toy, means, [0, 1, 2], margin=30.0)
    regulariser(toy)['loss_hinge'].backward()
    grad = toy.decode_head.conv_seg.bias.grad
    assert grad[0] == 0 and (grad[1:3] < 0).all() and (grad[3:] > 0).all()
    assert float(grad.sum()) == pytest.approx(0, abs=1e-5)


def test_without_new_or_earlier_classes_there_is_no_loss(drawn):
    toy, _, _, means = drawn
    assert regulariser_of(toy, means[:1], [0])(toy) == {}
    by_domain = HingeRegulariser()
    by_domain.set_step(StepContext(1, (0,) * 5, True, False, by_domain=True, trained=(0,)))
    by_domain.set_class_means(ClassMeans((0, 1, 2), means, torch.ones(3)), toy)
    assert by_domain(toy) == {}
    by_domain.set_class_means(None, toy)
    assert by_domain(toy) == {}
    with pytest.raises(RuntimeError, match='needs a ClassMeansHook'):
        HingeRegulariser()(toy)


def test_what_does_not_fit_is_refused(drawn):
    toy, _, _, means = drawn
    with pytest.raises(InputError, match='must not change between steps'):
        regulariser_of(toy, means[:, :2], [0, 1, 2])
    toy.decode_head.conv_seg = nn.Conv2d(4, 5, 3)
    with pytest.raises(InputError, match='classifier conv_seg is 1x1'):
        regulariser_of(toy, means, [0, 1, 2])
    with pytest.raises(InputError, match='loss_weight'):
        HingeRegulariser(loss_weight=-1.0)
    with pytest.raises(InputError, match='max_images'):
        ClassMeansHook(max_images=0)


def collated(count=4, seed=0, classes=3):
    images, samples = batch(classes, count=count, seed=seed)
    return dict(inputs=list(images), data_samples=samples)


def test_means_are_over_the_pixels_of_each_class_in_evaluation(tmp_path):
    model = base_step(network('PSPHead', 'single'), tmp_path / 'base.pth')
    model.train()
    data = collated()
    found = mean_embeddings(model, [data], range(1, 5))
    assert model.training and found.classes == (1, 2)
    model.eval()
    images = torch.stack(data['inputs'])
    embedding = run_network(model, images).embedding
    labels = torch.stack([sample.gt_sem_seg.data for sample in data['data_samples']]).float()
    labels = nn.functional.interpolate(labels, embedding.shape[2:], mode='nearest').squeeze(1)
    for place, each in enumerate((1, 2)):
        pixels = embedding.movedim(1, -1)[labels == each]
        assert found.pixels[place] == len(pixels) > 0
        torch.testing.assert_close(found.means[place], pixels.mean(0), rtol=1e-5, atol=1e-6)
    # Batches do not matter.
    halves = [
        {key: value[part] for key, value in data.items()} for part in (slice(0, 1), slice(1, 4))
    ]
    torch.testing.assert_close(mean_embeddings(model, halves, range(1, 5)).means, found.means)


def test_means_of_predictions_do_not_read_labels(tmp_path):
    model = base_step(network('PSPHead', 'single'), tmp_path / 'base.pth').eval()
    data = collated()
    images = torch.stack(data['inputs'])
    output = run_network(model, images)
    predicted = output.logits.argmax(dim=1)
    for sample in data['data_samples']:
        sample.gt_sem_seg.data = torch.full_like(sample.gt_sem_seg.data, 255)
    assert mean_embeddings(model, [data], range(3)).classes == ()
    found = mean_embeddings(model, [data], range(3), predicted=True)
    assert list(found.classes) == predicted.unique().tolist()
    for place, each in enumerate(found.classes):
        pixels = output.embedding.movedim(1, -1)[predicted == each]
        torch.testing.assert_close(found.means[place], pixels.mean(0), rtol=1e-5, atol=1e-6)


def test_a_step_hands_its_means_on(tmp_path, monkeypatch):
    config = network('PSPHead')
    old = base_step(config, tmp_path / 'base.pth')
    monkeypatch.setattr(hook_module, 'step_batches', lambda *_: [collated()])
    monkeypatch.setattr(hook_module, 'images_stand_in', lambda runner: False)
    folder = tmp_path / 'step_00'
    folder.mkdir()
    hook, logger = ClassMeansHook(), logging.getLogger('hinge')
    assert not hook.has_kept(folder)
    hook.after_step(SimpleNamespace(model=old, work_dir=str(folder), logger=logger))
    assert hook.has_kept(folder) and not ClassMeansHook(max_images=3).has_kept(folder)
    kept = ClassMeans.load(folder / 'class_means.pth')[0]
    assert kept.classes == (0, 1, 2) and kept.means.shape == (3, 12)
    model = next_step(
        config, tmp_path / 'base.pth', distillers=(), regularisers=[dict(type='HingeRegulariser')]
    )
    runner = SimpleNamespace(model=model, work_dir=str(tmp_path / 'step_01'), logger=logger)
    hook.before_train(runner)
    classifier = model.decode_head.conv_seg
    expected = hinge(
        kept.means[1:], (1, 2), classifier.weight.detach().flatten(1), classifier.bias.detach(), 3
    )
    loss = model.loss(*batch(5))['regularise.loss_hinge']
    assert loss.item() == pytest.approx(0.1 * expected, rel=1e-4, abs=1e-6)
    (folder / 'class_means.pth').unlink()
    with pytest.raises(InputError, match=r'class_means.pth does not exist.*ClassMeansHook'):
        hook.before_train(runner)
    (folder / 'class_means.pth').write_bytes(b'no file of means')
    with pytest.raises(InputError, match='cannot be read'):
        hook.before_train(runner)


def test_parts_are_found_by_their_names():
    init_default_scope('mmseg_cil')
    assert isinstance(MODELS.build(ConfigDict(type='HingeRegulariser')), HingeRegulariser)
    assert isinstance(HOOKS.build(ConfigDict(type='ClassMeansHook')), ClassMeansHook)
