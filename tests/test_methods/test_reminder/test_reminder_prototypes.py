"""The prototypes that a step keeps, and the steps that read them."""

import logging
from types import SimpleNamespace

import pytest
import torch

from mmseg_cil.errors import InputError
from mmseg_cil.hooks import step_images
from mmseg_cil.methods.reminder import hook as hook_module
from mmseg_cil.methods.reminder.hook import ReminderPrototypesHook
from mmseg_cil.methods.reminder.prototypes import Prototypes, joined_vectors, step_prototypes
from mmseg_cil.methods.reminder.reference import prototypes
from mmseg_cil.models.network_output import run_network
from mmseg_cil.testing.networks import base_step, batch, network, next_step

DISTILLER = dict(type='ClassSimilarityDistiller')


def collated(count=6, seed=0, classes=3):
    images, samples = batch(classes, count=count, seed=seed)
    return dict(inputs=list(images), data_samples=samples)


def parts(data, size):
    """A batch in batches of a size."""
    count = len(data['inputs'])
    return [
        {key: value[start : start + size] for key, value in data.items()}
        for start in range(0, count, size)
    ]


@pytest.fixture
def model(tmp_path):
    return base_step(network('PSPHead', 'single'), tmp_path / 'base.pth')


def test_groups_of_images_count_alike_however_they_are_split_into_batches(model):
    data = collated()
    # Class 1 is not in the second group, and class 2 is in the last group alone.
    for place, sample in enumerate(data['data_samples']):
        labels = sample.gt_sem_seg.data
        labels[labels == 1] = 255 if place in (2, 3) else 1
        labels[labels == 2] = 0 if place < 4 else 2
    model.train()
    found = step_prototypes(model, parts(data, 2), range(4), together=2)
    assert model.training
    model.eval()
    maps = run_network(model, torch.stack(data['inputs'])).embedding.double()
    labels = torch.stack([sample.gt_sem_seg.data for sample in data['data_samples']]).squeeze(1)
    expected, groups = prototypes(maps.split(2), labels.split(2), range(4))
    assert found.classes == (0, 1, 2, 3) and found.groups.tolist() == groups.tolist()
    assert groups.tolist() == [3, 2, 1, 0] and not found.vectors[3].any()
    torch.testing.assert_close(found.vectors, expected.float(), rtol=1e-4, atol=1e-6)
    single = step_prototypes(model, parts(data, 1), range(4), together=2)
    torch.testing.assert_close(single.vectors, found.vectors, rtol=1e-4, atol=1e-6)
    # Without a number of images every batch is a group.
    of_batches = step_prototypes(model, parts(data, 2), range(4))
    torch.testing.assert_close(of_batches.vectors, found.vectors)


def test_prototypes_of_predictions_do_not_read_labels(model):
    data = collated()
    output = run_network(model, torch.stack(data['inputs']))
    for sample in data['data_samples']:
        sample.gt_sem_seg.data = torch.full_like(sample.gt_sem_seg.data, 255)
    assert not step_prototypes(model, [data], range(3)).groups.any()
    found = step_prototypes(model, [data], range(3), predicted=True)
    predicted = output.logits.argmax(dim=1)
    expected, groups = prototypes([output.embedding], [predicted], range(3))
    assert groups.sum() > 0 and torch.equal(found.groups, groups)
    torch.testing.assert_close(found.vectors, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('together', [1, 2, 4])
def test_a_group_lies_within_a_process_and_every_image_is_read_once(monkeypatch, together):
    images = torch.utils.data.TensorDataset(torch.arange(11))
    loader = torch.utils.data.DataLoader(images, batch_size=2)
    runner = SimpleNamespace(train_dataloader=loader, seed=0)
    read = []
    for rank in range(2):
        monkeypatch.setattr(step_images, 'get_rank', lambda rank=rank: rank)
        monkeypatch.setattr(step_images, 'get_world_size', lambda: 2)
        batches = step_images.step_batches(runner, None, together=together)
        read.append([int(image) for (images_read,) in batches for image in images_read])
    assert sorted(read[0] + read[1]) == list(range(11))
    for part in read:
        for start in range(0, len(part), together):
            group = part[start : start + together]
            assert group == list(range(group[0], group[0] + len(group)))
            assert group[0] % together == 0


@pytest.fixture
def kept(model, tmp_path, monkeypatch):
    """The folder in which the first step has left its prototypes, and the hook."""
    monkeypatch.setattr(hook_module, 'step_batches', lambda *_, **__: [collated()])
    monkeypatch.setattr(hook_module, 'images_stand_in', lambda runner: False)
    folder = tmp_path / 'step_00'
    folder.mkdir()
    hook = ReminderPrototypesHook()
    assert not hook.has_kept(folder)
    hook.after_step(runner_of(model, folder))
    return folder, hook


def runner_of(model, folder):
    return SimpleNamespace(
        model=model,
        work_dir=str(folder),
        logger=logging.getLogger('reminder'),
        train_dataloader=SimpleNamespace(batch_size=6),
    )


def test_a_step_hands_its_prototypes_on(kept, tmp_path):
    folder, hook = kept
    assert hook.has_kept(folder) and not ReminderPrototypesHook(max_images=3).has_kept(folder)
    found, _ = Prototypes.load(folder / 'reminder_prototypes.pth')
    assert found.classes == (0, 1, 2) and found.vectors.shape == (3, 12)
    student = next_step(network('PSPHead', 'single'), tmp_path / 'base.pth', distillers=[DISTILLER])
    hook.before_train(runner_of(student, tmp_path / 'step_01'))
    (distiller,) = student.distillers
    assert torch.equal(distiller._prototypes, found.vectors)
    loss = student.train().loss(*batch(5))['distill.loss_csw']
    assert torch.isfinite(loss) and loss > 0
    # A later step has those of all earlier steps; a class without a prototype has zeros.
    later = Prototypes((4,), torch.ones(1, 12), torch.ones(1))
    joined = joined_vectors([found, later], 5)
    assert torch.equal(joined[:3], found.vectors) and not joined[3].any() and joined[4].all()


def test_lost_and_damaged_prototypes_are_told(kept, tmp_path):
    folder, hook = kept
    student = next_step(network('PSPHead', 'single'), tmp_path / 'base.pth', distillers=[DISTILLER])
    runner = runner_of(student, tmp_path / 'step_01')
    (folder / 'reminder_prototypes.pth').write_bytes(b'no file of prototypes')
    with pytest.raises(InputError, match='cannot be read'):
        hook.before_train(runner)
    (folder / 'reminder_prototypes.pth').unlink()
    with pytest.raises(InputError, match=r'prototypes.pth does not exist.*ReminderPrototypesHook'):
        hook.before_train(runner)
    with pytest.raises(InputError, match='max_images'):
        ReminderPrototypesHook(max_images=0)
