"""AWT against the official numbers, integrated gradients, its limits, and one process."""

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from golden_cases import deviation, load
from mmengine.dataset import pseudo_collate
from mmengine.dist import get_rank
from mmseg.models.utils import resize
from torch import nn
from torch.utils.data import DataLoader, Dataset

from mmseg_cil.errors import InputError
from mmseg_cil.methods.awt import AttributionTransferHook
from mmseg_cil.methods.awt import attribution as awt
from mmseg_cil.methods.awt.reference import (
    attribution_map,
    channel_attribution,
    top_channels,
    transferred_row,
)
from mmseg_cil.models.classifier import balanced_rows, conv_default_rows, find_classifier_init
from mmseg_cil.models.heads import classifier_of
from mmseg_cil.models.network_output import run_heads
from mmseg_cil.testing.networks import base_step, batch, network, next_step
from mmseg_cil.testing.processes import in_two_processes

#: Three heads, with maps of 2 x 2, 4 x 4 and 2 x 2 cells.
CONFIG = network('PSPHead', 'list', align_corners=True)


def test_choice_and_transfer_are_the_official_ones():
    case = load('awt_init__3-2')
    fresh, background = case['weight_1'], case['weight_0'][0]
    attribution = case['attribution'].flatten()
    channels = top_channels(attribution, case['fraction'])
    assert sorted(channels) == case['channels'].nonzero().flatten().tolist()
    rows = [transferred_row(row.flatten(), background.flatten(), channels) for row in fresh]
    assert deviation(torch.stack(rows), case['weight_after_1'].flatten(1)) < 1e-5
    # The fast form chooses and adds alike; the attribution is one cell of the grid.
    sums = torch.zeros(2, len(attribution), awt.GRID, awt.GRID, dtype=torch.float64)
    sums[:, :, 3, 5] = attribution.double()
    chosen = awt.chosen_channels(sums, torch.ones(2), case['fraction'])
    assert torch.equal(chosen, case['channels'].expand(2, -1))
    weight = awt.with_transferred(torch.cat([case['weight_0'], fresh]), chosen)
    expected = torch.cat([case['weight_after_0'], case['weight_after_1']])
    assert deviation(weight, expected) < 1e-5
    # Biases, official and ours, are untouched.
    assert not case['copy_bias']
    for rows in (0, 1):
        assert torch.equal(case[f'bias_{rows}'], case[f'bias_after_{rows}'])


@pytest.mark.parametrize(
    ('fraction', 'count'), [(0.0, 0), (0.1, 26), (0.25, 64), (0.5, 128), (0.75, 192), (1.0, 256)]
)
def test_the_number_of_channels_is_the_official_one(fraction, count):
    drawn = torch.randn(256, generator=torch.Generator().manual_seed(0))
    channels = top_channels(drawn, fraction)
    assert len(channels) == count
    chosen = awt.chosen_channels(drawn[None, :, None, None], torch.ones(1), fraction, pooling='max')
    assert sorted(channels) == chosen[0].nonzero().flatten().tolist()


@pytest.fixture
def step(tmp_path):
    """A segmentor at step 1 of 3 + 2 classes, whose last step has settled norms."""
    return built(tmp_path)


def built(folder, config=CONFIG, **options):
    old = base_step(config, Path(folder) / 'base.pth')
    for module in old.modules():
        if isinstance(module, nn.BatchNorm2d):
            generator = torch.Generator().manual_seed(module.num_features)
            module.running_mean.normal_(generator=generator)
            # Else a map of zeros is one of zeros all through the network.
            module.bias.data.normal_(generator=generator)
    torch.save(dict(state_dict=old.state_dict(), meta={}), Path(folder) / 'base.pth')
    init = dict(type='attributed', **options)
    return next_step(config, Path(folder) / 'base.pth', classifier_init=init)


def batches_of(count=2, seed=0, classes=5):
    """Collated batches of an image each."""
    for k in range(count):
        images, samples = batch(classes, count=1, seed=seed + k)
        yield dict(inputs=[images[0]], data_samples=samples)


def integrated_gradients(network, head, embedding, baseline, size, parts=50):
    """The gradients of the summed background logit at the classifier's input, summed in parts."""
    total = torch.zeros_like(embedding)
    for part in range(parts):
        point = baseline + (part + 0.5) / parts * (embedding - baseline)
        point = point.detach().requires_grad_()
        logits = resize(
            classifier_of(head)(point),
            size=size,
            mode='bilinear',
            align_corners=head.align_corners,
        )
        total += torch.autograd.grad(logits[:, 0].sum(), point)[0]
    return total / parts * (embedding - baseline)


@pytest.mark.parametrize('align_corners', [False, True])
@pytest.mark.parametrize('size', [(32, 32), (45, 30)])
def test_the_closed_form_is_that_of_integrated_gradients(tmp_path, align_corners, size):
    model = built(tmp_path, network('PSPHead', 'single', align_corners=align_corners))
    old = model.previous_network().network.double()
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(5)).double()
    runs = [run_heads(old, old.extract_feat(x)) for x in (images, torch.zeros_like(images[:1]))]
    for name, head in (('decode_head', old.decode_head), ('auxiliary_head', old.auxiliary_head)):
        embedding, baseline = (run[name].embedding.detach() for run in runs)
        expected = integrated_gradients(old, head, embedding, baseline, size)
        found = awt.attribution_maps(head, embedding - baseline, size)
        assert deviation(found, expected) < 1e-12, name
        mass = torch.outer(
            *(
                awt.upsampling_mass(cells, pixels, head.align_corners)
                for cells, pixels in zip(embedding.shape[2:], size, strict=True)
            )
        )
        assert mass.sum() == pytest.approx(size[0] * size[1], rel=1e-12)
        row = classifier_of(head).weight[0].flatten()
        for k in range(2):
            plain = attribution_map(embedding[k], baseline[0], row, mass)
            assert deviation(found[k], plain) < 1e-12
        # Completeness: attributions sum to the change of the summed logit.
        with torch.no_grad():
            before, after = (
                resize(classifier_of(head)(point), size=size, mode='bilinear', align_corners=align)[
                    :, 0
                ].sum(dim=(1, 2))
                for point in (baseline, embedding)
                for align in [head.align_corners]
            )
        torch.testing.assert_close(found.sum(dim=(1, 2, 3)), after - before)


@pytest.mark.parametrize('classes', ['each', 'together', 'accumulated'])
@pytest.mark.parametrize('pooling', ['max', 'mean'])
def test_the_pass_over_images_is_the_plain_form(step, classes, pooling):
    # The maps are smaller than the grid, so each cell is repeated.
    found = awt.class_attributions(step, batches_of(8))
    old = step.previous_network().network
    zeros = run_heads(old, old.extract_feat(torch.zeros(1, 3, 32, 32)))
    for name in found:
        maps, labels = [], []
        for collated in batches_of(8):
            inputs = step.data_preprocessor(collated, True)['inputs']
            embedding = run_heads(old, old.extract_feat(inputs))[name].embedding
            head = dict(decode_head=old.decode_head).get(name) or old.auxiliary_head[int(name[-1])]
            cells = embedding.shape[2]
            mass = torch.outer(*[awt.upsampling_mass(cells, 32, head.align_corners)] * 2)
            row = classifier_of(head).weight[0].flatten()
            maps.append(attribution_map(embedding[0], zeros[name].embedding[0], row, mass))
            labels.append(
                collated['data_samples'][0].gt_sem_seg.data[0, :: 32 // cells, :: 32 // cells]
            )
        seen = [
            {'each': [3 + k], 'together': [3, 4], 'accumulated': [3, 4][: k + 1]}[classes]
            for k in range(2)
        ]
        chosen = awt.chosen_channels(*found[name], 0.5, classes, pooling)
        for k, ids in enumerate(seen):
            masks = [[label == i for label in labels] for i in ids]
            if classes == 'accumulated':
                images, cells = maps * len(ids), [mask for row in masks for mask in row]
            else:
                images = maps
                cells = [torch.stack(of).any(dim=0) for of in zip(*masks, strict=True)]
            if pooling == 'max':
                values = channel_attribution(images, cells)
            else:
                values = sum(image * mask for image, mask in zip(images, cells, strict=True))
                values = values.mean(dim=(1, 2))
            assert sorted(top_channels(values, 0.5)) == chosen[k].nonzero().flatten().tolist()


def test_a_map_of_more_cells_than_the_grid_is_averaged(step, monkeypatch):
    sums = {}
    for cells in (1, 2, 4):
        monkeypatch.setattr(awt, 'GRID', cells)
        sums[cells] = awt.class_attributions(step, batches_of(2))['auxiliary_head.0'][0]
    for cells in (1, 2):
        pooled = nn.functional.avg_pool2d(sums[4], 4 // cells)
        torch.testing.assert_close(sums[cells], pooled)


class Images(Dataset):
    """Images with random labels, each by its number."""

    def __init__(self, count=5, classes=5):
        self.count, self.classes = count, classes

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        images, samples = batch(self.classes, count=1, seed=index)
        return dict(inputs=images[0], data_samples=samples[0])


def runner_of(model, dataset, iteration=0, batch_size=2):
    loader = DataLoader(dataset, batch_size=batch_size, collate_fn=pseudo_collate)
    return SimpleNamespace(
        model=model, train_dataloader=loader, iter=iteration, seed=7, logger=logging.getLogger()
    )


def rows_of(model):
    return {name: classifier_of(head).weight.detach().clone() for name, head in model.heads.items()}


def test_without_a_share_the_rows_are_as_drawn(tmp_path):
    model = built(tmp_path, fraction=0.0)
    before = rows_of(model)
    AttributionTransferHook().before_train(runner_of(model, Images()))
    for name, weight in rows_of(model).items():
        assert torch.equal(weight, before[name])
        # The drawing is that of a new convolution.
        bound = weight.shape[1] ** -0.5
        assert 0.5 * bound < weight[3:].abs().max() <= bound


def test_with_all_channels_and_the_bias_the_rows_are_those_of_mib(tmp_path):
    model = built(tmp_path, fraction=1.0, combine='replace', bias='balanced')
    AttributionTransferHook().before_train(runner_of(model, Images()))
    expected = next_step(CONFIG, tmp_path / 'base.pth', classifier_init='balanced')
    for key, value in expected.state_dict().items():
        assert torch.equal(model.state_dict()[key], value), key
    model = built(tmp_path, fraction=1.0)
    drawn = rows_of(model)
    AttributionTransferHook().before_train(runner_of(model, Images()))
    for name, weight in rows_of(model).items():
        assert torch.equal(weight[3:], drawn[name][3:] + drawn[name][:1])
        assert torch.equal(weight[:3], drawn[name][:3])


@pytest.mark.parametrize('combine', ['add', 'replace'])
def test_a_quarter_of_the_channels_is_transferred_in_every_head(tmp_path, combine):
    model = built(tmp_path, combine=combine)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    before = rows_of(model)
    AttributionTransferHook().before_train(runner_of(model, Images()))
    assert len(before) == 3 and model.training
    for name, weight in rows_of(model).items():
        found = awt.class_attributions(model, batches_of(5))[name]
        chosen = awt.chosen_channels(*found, 0.25)
        assert chosen.sum(dim=1).tolist() == [int(weight.shape[1] / 4 + 0.5)] * 2
        for k in range(2):
            fresh, background = before[name][3 + k].flatten(), before[name][0].flatten()
            channels = chosen[k].nonzero().flatten().tolist()
            expected = transferred_row(fresh, background, channels, combine)
            assert torch.equal(weight[3 + k].flatten(), expected)
    rows = {f'{name}.conv_seg.weight' for name in before}
    for key, value in model.state_dict().items():
        assert key in rows or torch.equal(value, state[key]), key


@pytest.mark.parametrize(('classes', 'kept'), [('each', True), ('together', False)])
def test_a_class_without_a_pixel_keeps_its_row(tmp_path, caplog, classes, kept):
    model = built(tmp_path, classes=classes)
    before = rows_of(model)
    # Labels 0 to 3: the last class, 4, is in no image.
    AttributionTransferHook().before_train(runner_of(model, Images(classes=4)))
    for name, weight in rows_of(model).items():
        assert not torch.equal(weight[3], before[name][3])
        assert torch.equal(weight[4], before[name][4]) == kept
    assert ('no image shows the new classes [4]' in caplog.text) == kept


def test_a_step_whose_labels_show_no_new_class_begins_as_drawn(tmp_path):
    for classes in ('each', 'together', 'accumulated'):
        model = built(tmp_path, classes=classes)
        before = rows_of(model)
        AttributionTransferHook().before_train(runner_of(model, Images(classes=3)))
        assert all(torch.equal(weight, before[name]) for name, weight in rows_of(model).items())


def test_a_resumed_step_gets_nothing_twice(step):
    before = rows_of(step)
    AttributionTransferHook().before_train(runner_of(step, Images(), iteration=1))
    assert all(torch.equal(weight, before[name]) for name, weight in rows_of(step).items())


def test_another_initialisation_is_left_alone(tmp_path):
    base_step(CONFIG, tmp_path / 'base.pth')
    model = next_step(CONFIG, tmp_path / 'base.pth', classifier_init='conv_default')
    before = rows_of(model)
    AttributionTransferHook().before_train(runner_of(model, Images()))
    assert all(torch.equal(weight, before[name]) for name, weight in rows_of(model).items())


def test_rows_of_self_supervision_are_copies(tmp_path):
    config = network('FCNHead', 'single')
    base_step(config, tmp_path / 'base.pth')
    model = next_step(
        config,
        tmp_path / 'base.pth',
        classifier_init=dict(type='attributed'),
        self_supervision=dict(type='RotationSelfSupervision'),
    )
    AttributionTransferHook().before_train(runner_of(model, Images()))
    for name, weight in rows_of(model).items():
        copies = model.self_supervision.rows[name]['weight']
        assert torch.equal(copies, weight.repeat(3, 1, 1, 1))


def test_batches_affect_rounding_alone_and_images_are_limited(step):
    whole, single = (
        awt.class_attributions(step, DataLoader(Images(), size, collate_fn=pseudo_collate))
        for size in (5, 1)
    )
    for name, (sums, images) in whole.items():
        # Convolutions of one image and of five round differently, in float32.
        assert deviation(single[name][0], sums) < 1e-5
        assert torch.equal(single[name][1], images)
    seen = []

    class Counting(Images):
        def __getitem__(self, index):
            seen.append(index)
            return super().__getitem__(index)

    step.classifier_init = dict(type='attributed', max_images=2)
    AttributionTransferHook().before_train(runner_of(step, Counting(count=100)))
    assert seen == [0, 50]


def test_the_last_steps_network_is_the_one_that_is_asked(step):
    """The network at its first iteration may be another already."""
    before = awt.class_attributions(step, batches_of(2))
    with torch.no_grad():
        for value in step.backbone.parameters():
            value.zero_()
    for name, (sums, _) in awt.class_attributions(step, batches_of(2)).items():
        assert torch.equal(sums, before[name][0])


def transfer_alone(folder):
    """Transfers on one of two processes, which has a part of 5 images (3 and 2), or none of 1."""
    for count in (5, 1):
        model = built(folder / str(get_rank()))
        AttributionTransferHook().before_train(runner_of(model, Images(count)))
        torch.save(model.state_dict(), folder / f'{count}_{get_rank()}.pth')


@pytest.mark.walk
def test_two_processes_transfer_as_one(tmp_path):
    for name in ('0', '1', 'alone'):
        (tmp_path / name).mkdir()
    in_two_processes(transfer_alone, tmp_path, log=tmp_path / 'log')
    for count in (5, 1):
        model = built(tmp_path / 'alone')
        AttributionTransferHook().before_train(runner_of(model, Images(count)))
        states = [torch.load(tmp_path / f'{count}_{rank}.pth') for rank in range(2)]
        for key, value in model.state_dict().items():
            assert torch.equal(states[0][key], states[1][key]), key
            assert torch.equal(states[0][key], value), key


def test_a_network_without_background_is_refused(tmp_path):
    base_step(CONFIG, tmp_path / 'base.pth', has_background=False)
    with pytest.raises(InputError, match=r"have none: use 'random' or 'imprinted'"):
        next_step(
            CONFIG,
            tmp_path / 'base.pth',
            classifier_init=dict(type='attributed'),
            has_background=False,
        )


def test_a_classifier_that_looks_at_neighbours_is_refused(step):
    AttributionTransferHook().check_network(step)
    step.decode_head.conv_seg = nn.Conv2d(12, 5, 3, padding=1)
    with pytest.raises(InputError, match=r'decode_head.conv_seg has a kernel of \(3, 3\)'):
        AttributionTransferHook().check_network(step)
    AttributionTransferHook().check_network(nn.Linear(1, 1))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(fraction=1.5), 'fraction must be a number'),
        (dict(classes='togehter'), "did you mean 'together'"),
        (dict(pooling='sum'), 'pooling must be one of'),
        (dict(combine='copy'), 'combine must be one of'),
        (dict(bias='random'), 'bias must be one of'),
        (dict(max_images=0), 'max_images must be a whole number'),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        find_classifier_init(dict(type='attributed', **options))


def test_old_rows_stay_and_biases_are_drawn_or_balanced():
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(3, 8, 1, 1, generator=generator), torch.randn(3, generator=generator)
    fresh = torch.zeros(2, 8, 1, 1), torch.zeros(2)
    torch.manual_seed(1)
    rows, biases = find_classifier_init('attributed')(weight, bias, *fresh)
    torch.manual_seed(1)
    expected = conv_default_rows(weight, bias, *fresh)
    assert torch.equal(rows, expected[0]) and torch.equal(biases, expected[1])
    torch.manual_seed(1)
    balanced = find_classifier_init(dict(type='attributed', bias='balanced'))
    rows, biases = balanced(weight, bias, *fresh)
    assert torch.equal(rows, expected[0])
    assert torch.equal(biases, balanced_rows(weight, bias, *fresh)[1])
