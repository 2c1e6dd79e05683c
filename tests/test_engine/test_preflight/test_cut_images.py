"""Images that are cut for a trial on a CPU."""

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.models import SegDataPreProcessor
from mmseg.structures import SegDataSample

from mmseg_cil.engine.preflight.cut_images import cut_images, kept_side


@pytest.mark.parametrize(
    ('side', 'kept'),
    [(24, 24), (128, 128), (129, 65), (500, 116), (512, 128), (375, 119), (1024, 128), (1025, 65)],
)
def test_a_side_keeps_its_remainder(side, kept):
    assert kept_side(side) == kept
    assert (side - kept) % 64 == 0 and kept <= 128


def preprocessor(**options):
    built = SegDataPreProcessor(mean=[0.0] * 3, std=[1.0] * 3, **options)
    built.register_forward_hook(cut_images)
    return built


def batch(height, width, ori_shape, labels=None):
    numbers = torch.arange(height * width).reshape(1, height, width)
    sample = SegDataSample(metainfo=dict(ori_shape=ori_shape, img_shape=(height, width)))
    shape = (1, *(labels or ori_shape))
    sample.gt_sem_seg = PixelData(data=torch.arange(shape[1] * shape[2]).reshape(shape))
    return dict(inputs=[numbers.expand(3, -1, -1)], data_samples=[sample])


def test_training_images_and_labels_stay_on_each_other():
    data = preprocessor(size=(512, 512), pad_val=0, seg_pad_val=255)(
        batch(300, 400, (300, 400)), True
    )
    labels = data['data_samples'][0].gt_sem_seg.data
    assert data['inputs'].shape == (1, 3, 128, 128) and labels.shape == (1, 128, 128)
    assert torch.equal(data['inputs'][0, :1].long(), labels)


def test_a_prediction_has_the_size_of_cut_labels():
    data = preprocessor(test_cfg=dict(size_divisor=64))(batch(200, 300, (200, 300)), False)
    sample = data['data_samples'][0]
    # 256 x 320 with padding; of 64 columns at most, 300 - 256, are image.
    assert data['inputs'].shape == (1, 3, 128, 128)
    assert sample.ori_shape == sample.gt_sem_seg.shape == (128, 128)
    assert sample.img_padding_size == (0, 0, 0, 0)
    small = preprocessor(test_cfg=dict(size=(192, 192)))(batch(40, 50, (40, 50)), False)
    sample = small['data_samples'][0]
    assert sample.ori_shape == sample.gt_sem_seg.shape == (40, 50)
    assert sample.img_padding_size == (0, 78, 0, 88)


def test_labels_of_another_size_than_the_image_stay():
    data = preprocessor()(batch(200, 300, (100, 150), labels=(100, 150)), False)
    sample = data['data_samples'][0]
    assert data['inputs'].shape == (1, 3, 72, 108)
    assert sample.ori_shape == sample.gt_sem_seg.shape == (100, 150)


def test_small_images_and_other_data_are_left_alone():
    data = preprocessor()(batch(60, 70, (60, 70)), False)
    assert data['inputs'].shape == (1, 3, 60, 70)
    assert cut_images(None, (), [1]) == [1]
