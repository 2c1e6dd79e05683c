"""Soft self-labels: MiB's distillation where all is kept, and cells that follow their pixels."""

import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from mmseg.datasets.transforms import PackSegInputs, RandomCrop
from mmseg.datasets.transforms.transforms import RandomFlip
from mmseg.structures import SegDataSample

from mmseg_cil.errors import InputError
from mmseg_cil.methods.mib.reference import unbiased_knowledge_distillation
from mmseg_cil.methods.self_labels.files import LabelFolder
from mmseg_cil.methods.self_labels.soft import (
    SelfLabelCells,
    SoftSelfLabelsHook,
    greatest_probabilities,
)
from mmseg_cil.methods.self_labels.soft_loss import SoftSelfLabelLoss, soft_cross_entropy
from mmseg_cil.utils.step_context import StepContext

SIZE = (7, 9)


def draw(*shape, seed=0, scale=2.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def label(folder, image, logits, top_k=5, cell=1):
    """Write what the hook writes of an image."""
    write = SoftSelfLabelsHook(top_k, cell).writer(None, None, folder)
    write(image, logits)


@pytest.fixture
def labelled(tmp_path):
    """A step's folder in which two images are labelled by three classes, and the logits."""
    folder = LabelFolder(tmp_path)
    folder.begin()
    logits = draw(2, 3, *SIZE)
    for image, image_logits in enumerate(logits):
        label(folder, f'{image}.png', image_logits[None])
    folder.finish({})
    return tmp_path, logits


def read(step_folder, image):
    results = dict(img_path=f'{image}.png', gt_seg_map=np.zeros(SIZE, np.uint8))
    return SelfLabelCells(str(step_folder)).read(results)


def samples_of(step_folder):
    return [
        SegDataSample(
            gt_edge_map=PixelData(data=torch.from_numpy(read(step_folder, image)[None]).long()),
            metainfo=dict(img_path=f'{image}.png'),
        )
        for image in range(2)
    ]


@pytest.mark.parametrize('counts', [(3, 2), (3, 0)])
def test_with_all_classes_kept_it_is_mib_s_distillation_towards_the_same_network(labelled, counts):
    folder, teacher = labelled
    student = draw(2, sum(counts), *SIZE, seed=1).requires_grad_()
    loss = SoftSelfLabelLoss(loss_weight=10.0)
    steps = tuple(step for step, count in enumerate(counts) for _ in range(count))
    loss.set_step(StepContext(1, steps, True, True, trained=(0,)))
    loss.set_folder(folder)
    loss.receive_samples(samples_of(folder))
    labels = torch.zeros(2, *SIZE, dtype=torch.int64)
    # Ignored pixels are distilled too, as in MiB.
    labels[:, :2] = 255
    found = loss(student, labels)
    expected = 10 * unbiased_knowledge_distillation(student, teacher).mean()
    # Probabilities are kept in half precision.
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    gradients = [
        torch.autograd.grad(value, student, retain_graph=True)[0] for value in (found, expected)
    ]
    torch.testing.assert_close(*gradients, rtol=1e-2, atol=1e-5)


def test_without_a_background_each_class_is_compared_with_itself():
    student, teacher = draw(1, 5, 2, 2), draw(1, 3, 2, 2, seed=1)
    values, classes = teacher.softmax(1).topk(3, dim=1)
    found = soft_cross_entropy(student, values, classes, 3, has_background=False)
    expected = -(teacher.softmax(1) * student.log_softmax(1)[:, :3]).sum(1) / 3
    torch.testing.assert_close(found, expected)


def test_what_is_left_out_is_shared_among_what_is_kept():
    logits = draw(1, 6, 4, 4)
    values, classes = greatest_probabilities(logits, 2, 1)
    assert (
        values.shape == (16, 2) and values.dtype == torch.float16 and classes.dtype == torch.uint8
    )
    torch.testing.assert_close(values.float().sum(1), torch.ones(16), rtol=0, atol=1e-3)
    expected = logits.softmax(1)[0].flatten(1).T.topk(2, dim=1)
    assert torch.equal(classes.long(), expected.indices)
    ratio = expected.values[:, 0] / expected.values[:, 1]
    torch.testing.assert_close(
        values[:, 0].float() / values[:, 1].float(), ratio, rtol=4e-3, atol=0
    )


def test_a_cell_has_the_mean_of_its_pixels_and_each_pixel_its_cell(tmp_path):
    logits, folder = draw(1, 3, *SIZE), LabelFolder(tmp_path)
    folder.begin()
    label(folder, '0.png', logits, top_k=3, cell=4)
    folder.finish({})
    numbers = read(tmp_path, 0)
    assert np.unique(numbers).tolist() == list(range(256, 262)) and numbers.shape == SIZE
    table = folder.read_table('0.png')
    probabilities = logits.softmax(1)[0]
    for cell in range(6):
        inside = torch.from_numpy(numbers == 256 + cell)
        mean = probabilities[:, inside].mean(1)
        kept = torch.zeros(3)
        kept[table['classes'][cell].astype(int)] = torch.from_numpy(table['values'][cell]).float()
        torch.testing.assert_close(kept, mean, rtol=2e-3, atol=1e-3)


def test_cells_follow_crops_and_flips(labelled):
    """A pixel of an augmented image is told what the network said of that very pixel."""
    folder, logits = labelled
    results = dict(
        img=np.arange(63, dtype=np.float32).reshape(*SIZE, 1).repeat(3, 2),
        img_path='1.png',
        gt_seg_map=np.zeros(SIZE, np.uint8),
        seg_fields=['gt_seg_map'],
        img_shape=SIZE,
        ori_shape=SIZE,
        seg_map_path=None,
    )
    results = SelfLabelCells(str(folder)).transform(results)
    np.random.seed(0)
    results = RandomFlip(prob=1.0)(RandomCrop((4, 5))(results))
    packed = PackSegInputs(meta_keys=('img_path',))(results)
    sample = packed['data_samples']
    # The image tells which pixel each was.
    pixels = packed['inputs'][0].long()
    assert pixels.shape == (4, 5) and torch.equal(sample.gt_edge_map.data[0], pixels + 256)
    loss = SoftSelfLabelLoss(loss_weight=1.0)
    loss.set_step(StepContext.of_class_counts((3, 2)))
    loss.set_folder(folder)
    loss.receive_samples([sample])
    student = draw(1, 5, 4, 5, seed=2)
    teacher = logits[1].flatten(1)[:, pixels.flatten()].view(1, 3, 4, 5)
    found = loss(student, torch.zeros(1, 4, 5, dtype=torch.int64))
    expected = unbiased_knowledge_distillation(student, teacher).mean()
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_pixels_without_a_cell_count_as_nothing(labelled):
    folder, teacher = labelled
    samples = samples_of(folder)
    samples[0].gt_edge_map.data[:] = 255
    loss = SoftSelfLabelLoss(loss_weight=1.0)
    loss.set_step(StepContext.of_class_counts((3, 2)))
    labels = torch.zeros(2, *SIZE, dtype=torch.int64)
    student = draw(2, 5, *SIZE, seed=1)
    loss.receive_samples(samples)
    assert loss(student, labels) == 0, 'nothing is labelled at a first step'
    loss.set_folder(folder)
    loss.receive_samples(samples)
    found = loss(student, labels, reduction_override='none')
    assert (found[0] == 0).all()
    expected = unbiased_knowledge_distillation(student, teacher)[1]
    torch.testing.assert_close(found[1], expected, rtol=2e-3, atol=1e-3)


def test_what_is_lost_is_said(labelled):
    folder, _ = labelled
    next(LabelFolder(folder).path.glob('*.npz')).write_bytes(b'no table')
    with pytest.raises(InputError, match=r'is missing or damaged: delete the folder'):
        for image in range(2):
            read(folder, image)
    loss = SoftSelfLabelLoss()
    loss.set_folder(folder)
    with pytest.raises(InputError, match="further_map=dict\\(type='SelfLabelCells'\\)"):
        loss.receive_samples([SegDataSample()])
    with pytest.raises(InputError, match='top_k must be a whole number'):
        SoftSelfLabelsHook(top_k=0)
