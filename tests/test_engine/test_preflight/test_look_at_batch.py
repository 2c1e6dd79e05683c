"""Checks of the samples that a pipeline ends with."""

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmseg_cil.engine.preflight.look_at_batch import check_test_batch, check_training_batch
from mmseg_cil.errors import InputError


def batch(image=(3, 8, 6), labels=(1, 8, 6)):
    sample = SegDataSample(metainfo=dict(img_path='a.png'))
    if labels:
        # PixelData takes no other shape than (bands, height, width) by itself.
        sample.gt_sem_seg = PixelData()
        sample.gt_sem_seg.set_field(torch.zeros(labels), 'data')
    return dict(inputs=[torch.zeros(image)], data_samples=[sample])


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        (batch(image=(8, 6)), r'a\.png: the training pipeline gives an image of shape \(8, 6\)'),
        (batch(labels=()), r'a\.png: the training pipeline gives no labels.*LoadAnnotations'),
        (batch(labels=(8, 6, 3)), r'labels of shape \(8, 6, 3\).*colour.*pillow'),
        (
            batch(labels=(1, 8, 8)),
            'the image is 8x6 and its labels are 8x8 pixels.*LoadAnnotations',
        ),
    ],
)
def test_a_sample_that_cannot_be_trained_on_is_refused(given, message):
    with pytest.raises(InputError, match=message):
        check_training_batch(given)


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        (batch(labels=()), 'the test pipeline gives no labels'),
        (batch(image=(1, 8, 6)), 'an image of 1 bands, the training pipeline images of 3'),
    ],
)
def test_a_sample_that_cannot_be_scored_is_refused(given, message):
    with pytest.raises(InputError, match=message):
        check_test_batch(given, batch())


def test_what_is_right_or_of_another_form_passes():
    check_training_batch(batch())
    # A prediction is fitted to the labels, whatever the size of the image.
    check_test_batch(batch(labels=(1, 16, 12)), batch())
    check_training_batch(dict(noise=torch.zeros(2), layout=torch.zeros(2)))
    check_test_batch([torch.zeros(2)], None)
