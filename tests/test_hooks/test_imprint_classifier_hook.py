"""Imprinting on a toy: the backbone hands the image on, so that colours are embeddings."""

import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.dist import get_rank
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import nn
from torch.utils.data import DataLoader, Dataset

from mmseg_cil.errors import InputError
from mmseg_cil.hooks import ImprintClassifierHook
from mmseg_cil.hooks.step_images import spread_indices
from mmseg_cil.models.plain import plain_state_dict
from mmseg_cil.registry import HOOKS, MODELS
from mmseg_cil.testing.processes import in_two_processes

#: Colour of every class; 3 and 4 are new.
COLOURS = torch.tensor([[1.0, 0, 0], [0, 2.0, 0], [0, 0, 1.0], [3.0, 4.0, 0], [0, 0.6, 0.8]])


class HandsOn(nn.Module):
    """Image itself, at two resolutions."""

    def forward(self, inputs):
        return inputs, inputs[:, :, ::2, ::2]


if 'HandsOn' not in MODELS:
    MODELS.register_module(module=HandsOn)


class Coloured(Dataset):
    """Images of colours by class; the augmentation draws from all three generators."""

    def __init__(self, classes, size=8, noise=0.0, count=6):
        self.classes, self.size, self.noise, self.count = classes, size, noise, count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        drawn = random.random() + np.random.rand() + torch.rand(1).item()
        generator = torch.Generator().manual_seed(index)
        labels = torch.randint(
            0, len(self.classes), (1, self.size // 2, self.size // 2), generator=generator
        )
        labels = torch.tensor(self.classes)[labels]
        labels = labels.repeat_interleave(2, 1).repeat_interleave(2, 2)
        shown = COLOURS[labels[0].clamp(max=4)].permute(2, 0, 1)
        # Longer, or another direction: the length must not matter, the direction must.
        shown = shown * (1 + index) + self.noise * drawn
        labels[:, :2] = 255
        return dict(inputs=shown, data_samples=SegDataSample(gt_sem_seg=PixelData(data=labels)))


def build(tmp_path, classifier_init='imprinted', index=1, **options):
    """A segmentor with 3 old and 2 new classes, or at step 0 with all 5."""
    init_default_scope('mmseg_cil')

    def head(stage):
        return dict(
            type='FCNHead',
            in_channels=3,
            channels=3,
            in_index=stage,
            num_convs=0,
            concat_input=False,
            num_classes=5,
            loss_decode=dict(type='UnbiasedCrossEntropyLoss'),
        )

    config = ConfigDict(
        type='IncrementalEncoderDecoder',
        backbone=dict(type='HandsOn'),
        data_preprocessor=dict(type='SegDataPreProcessor', size=(8, 8), seg_pad_val=255),
        decode_head=head(0),
        auxiliary_head=head(1),
        classifier_init=classifier_init,
        step=dict(
            index=index,
            class_steps=[0, 0, 0, 1, 1] if index else [0] * 5,
            has_background=True,
            old_labels_hidden=True,
        ),
        **options,
    )
    path = Path(tmp_path) / 'old.pth'
    torch.manual_seed(0)
    state = {
        f'{name}.conv_seg.{part}': torch.randn(*shape)
        for name in ('decode_head', 'auxiliary_head')
        for part, shape in (('weight', (3, 3, 1, 1)), ('bias', (3,)))
    }
    torch.save(dict(state_dict=plain_state_dict(state)), path)
    if index:
        config.previous = dict(checkpoint=str(path), num_classes=3)
    model = MODELS.build(config)
    model.init_weights()
    return model.train()


def runner_of(model, dataset, iteration=0, batch_size=4, workers=0):
    loader = DataLoader(
        dataset, batch_size=batch_size, collate_fn=pseudo_collate, num_workers=workers
    )
    return SimpleNamespace(model=model, train_dataloader=loader, iter=iteration, seed=7)


def rows_of(model):
    return {key: value.clone() for key, value in model.state_dict().items()}


def check_rows(model, before, classes):
    """New rows of these classes have their colour's direction and the old rows' length."""
    for name, head in model.heads.items():
        old = before[f'{name}.conv_seg.weight'][1:3].flatten(1)
        for index in range(5):
            row = head.conv_seg.weight[index].flatten()
            if index in classes:
                expected = nn.functional.normalize(COLOURS[index], dim=0) * old.norm(dim=1).mean()
                torch.testing.assert_close(row, expected)
                torch.testing.assert_close(
                    head.conv_seg.bias[index], before[f'{name}.conv_seg.bias'][1:3].mean()
                )
            else:
                assert torch.equal(row, before[f'{name}.conv_seg.weight'][index].flatten())


@pytest.mark.parametrize('batch_size', [1, 4])
def test_new_rows_are_the_class_means(tmp_path, batch_size):
    model = build(tmp_path)
    before = rows_of(model)
    hook = HOOKS.build(dict(type='ImprintClassifierHook'))
    hook.before_train(runner_of(model, Coloured([0, 3, 4]), batch_size=batch_size))
    check_rows(model, before, classes=[3, 4])
    assert model.training
    assert all(
        parameter.requires_grad and parameter.grad is None for parameter in model.parameters()
    )


def test_rows_of_self_supervision_are_copies_of_the_imprinted_ones(tmp_path):
    model = build(tmp_path, self_supervision=dict(type='RotationSelfSupervision'))
    before = rows_of(model)
    ImprintClassifierHook().before_train(runner_of(model, Coloured([0, 3, 4])))
    check_rows(model, before, classes=[3, 4])
    for name, head in model.heads.items():
        others = model.self_supervision.rows[name]
        assert torch.equal(others['weight'], head.conv_seg.weight.repeat(3, 1, 1, 1))
        assert torch.equal(others['bias'], head.conv_seg.bias.repeat(3))


def test_a_class_without_a_pixel_keeps_its_row(tmp_path):
    model = build(tmp_path)
    before = rows_of(model)
    ImprintClassifierHook().before_train(runner_of(model, Coloured([0, 4])))
    check_rows(model, before, classes=[4])


def test_images_smaller_than_the_crop_are_padded(tmp_path):
    model = build(tmp_path)
    before = rows_of(model)
    ImprintClassifierHook().before_train(runner_of(model, Coloured([3, 4], size=6)))
    check_rows(model, before, classes=[3, 4])


@pytest.mark.parametrize(
    ('classifier_init', 'index', 'iteration'),
    [('random', 1, 0), ('balanced', 1, 0), ('imprinted', 0, 0), ('imprinted', 1, 10)],
)
def test_otherwise_nothing_happens(tmp_path, classifier_init, index, iteration):
    model = build(tmp_path, classifier_init, index)
    before = rows_of(model)
    ImprintClassifierHook().before_train(runner_of(model, Coloured([0, 3, 4]), iteration))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_other_models_are_left_alone():
    model = nn.Linear(2, 2)
    before = rows_of(model)
    ImprintClassifierHook().before_train(runner_of(model, Coloured([0])))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_augmentation_depends_on_the_image_alone_and_training_draws_as_before(tmp_path):
    results = []
    for workers, batch_size in ((0, 4), (0, 1), (2, 2)):
        torch.manual_seed(3)
        np.random.seed(3)
        random.seed(3)
        model = build(tmp_path)
        torch.manual_seed(workers + batch_size)
        states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
        runner = runner_of(model, Coloured([0, 3, 4], noise=1.0), 0, batch_size, workers)
        ImprintClassifierHook().before_train(runner)
        assert torch.equal(states[0], torch.get_rng_state())
        assert (states[1] == np.random.get_state()[1]).all()
        assert states[2] == random.getstate()
        results.append(model.decode_head.conv_seg.weight.detach().clone())
    torch.testing.assert_close(results[1], results[0])
    torch.testing.assert_close(results[2], results[0])


def test_images_are_spread_over_the_step():
    assert spread_indices(5, None) == spread_indices(5, 9) == [0, 1, 2, 3, 4]
    assert spread_indices(10, 4) == [0, 2, 5, 7]
    with pytest.raises(InputError, match='max_images'):
        ImprintClassifierHook(max_images=0)


def test_max_images_limits_the_pass(tmp_path):
    seen = []

    class Counting(Coloured):
        def __getitem__(self, index):
            seen.append(index)
            return super().__getitem__(index)

    dataset = Counting([3, 4], count=100)
    ImprintClassifierHook(max_images=5).before_train(runner_of(build(tmp_path), dataset))
    assert seen == [0, 20, 40, 60, 80]


@pytest.mark.walk
def test_a_runner_imprints_before_its_first_iteration(tmp_path):
    model = build(tmp_path)
    before = rows_of(model)
    runner = Runner(
        model,
        str(tmp_path / 'work'),
        train_dataloader=dict(
            dataset=Coloured([0, 3, 4]),
            batch_size=2,
            sampler=dict(type='InfiniteSampler'),
            collate_fn=dict(type='pseudo_collate'),
        ),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=2, val_interval=10),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.0)),
        custom_hooks=[dict(type='ImprintClassifierHook')],
        default_scope='mmseg_cil',
        experiment_name='imprint',
        log_level='ERROR',
    )
    runner.train()
    check_rows(model, before, classes=[3, 4])


def imprint(folder):
    """Imprints on one of two processes, which has a part of 5 images (3 and 2), or none of 1."""
    for count in (5, 1):
        model = build(folder / str(get_rank()))
        dataset = Coloured([0, 3, 4], noise=1.0, count=count)
        ImprintClassifierHook().before_train(runner_of(model, dataset, batch_size=2))
        torch.save(model.state_dict(), folder / f'{count}_{get_rank()}.pth')


@pytest.mark.walk
def test_two_processes_imprint_as_one(tmp_path):
    for rank in range(2):
        (tmp_path / str(rank)).mkdir()
    in_two_processes(imprint, tmp_path, log=tmp_path / 'log')
    for count in (5, 1):
        model = build(tmp_path)
        dataset = Coloured([0, 3, 4], noise=1.0, count=count)
        ImprintClassifierHook().before_train(runner_of(model, dataset, batch_size=2))
        states = [torch.load(tmp_path / f'{count}_{rank}.pth') for rank in range(2)]
        for key, value in model.state_dict().items():
            assert torch.equal(states[0][key], states[1][key])
            torch.testing.assert_close(states[0][key], value)
