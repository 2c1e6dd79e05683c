"""Checks of the samples of a pipeline, before a network sees them."""

from __future__ import annotations

from typing import Any

import torch

from mmseg_cil.errors import InputError


def check_training_batch(batch: Any) -> None:
    """Check that every sample of a training batch has an image and labels of its size.

    Args:
        batch: Batch as the loader collates it. A batch that is not for segmentation, such as
            layouts for a generator, is not checked.

    Raises:
        InputError: A sample has no image, or no labels of the image's size.
    """
    for image, sample in samples_of(batch):
        labels = _labels(image, sample, 'training')
        if labels.shape[-2:] != image.shape[-2:]:
            raise InputError(
                f'{name_of(sample)}: the image is {_size(image)} and its labels are '
                f'{_size(labels)} pixels (height x width) when the training pipeline has ended: '
                "dict(type='LoadAnnotations') must stand before transforms that resize, crop or "
                'pad, so that they change both'
            )


def check_test_batch(batch: Any, training: Any) -> None:
    """Check that every sample of a test batch has labels, and as many bands as in training.

    Args:
        batch: Batch as the loader collates it.
        training: A training batch.

    Raises:
        InputError: A sample has no labels, or another number of bands.
    """
    trained = {len(image) for image, _ in samples_of(training)}
    for image, sample in samples_of(batch):
        _labels(image, sample, 'test')
        if trained and len(image) not in trained:
            raise InputError(
                f'{name_of(sample)}: the test pipeline gives an image of {len(image)} bands, the '
                f'training pipeline images of {", ".join(map(str, sorted(trained)))}: load both '
                'alike (color_type and channels of LoadImageFromFile)'
            )


def samples_of(batch: Any) -> list[tuple[torch.Tensor, Any]]:
    """Return the pairs of image and data sample in a batch; none if the batch has another form."""
    if not isinstance(batch, dict) or not {'inputs', 'data_samples'} <= batch.keys():
        return []
    pairs = list(zip(batch['inputs'], batch['data_samples'], strict=False))
    # With test-time augmentation, each entry is a list of its own.
    return [
        (image, sample)
        for image, sample in pairs
        if isinstance(image, torch.Tensor) and hasattr(sample, 'metainfo')
    ]


def name_of(sample: Any) -> str:
    """Return the name of a sample for an error message."""
    return str(sample.metainfo.get('img_path') or 'an image')


def _labels(image: torch.Tensor, sample: Any, split: str) -> torch.Tensor:
    if image.dim() != 3:
        raise InputError(
            f'{name_of(sample)}: the {split} pipeline gives an image of shape '
            f'{tuple(image.shape)}; it must be (bands, height, width): look at what follows '
            'LoadImageFromFile'
        )
    if 'gt_sem_seg' not in sample:
        raise InputError(
            f'{name_of(sample)}: the {split} pipeline gives no labels: put '
            "dict(type='LoadAnnotations') before dict(type='PackSegInputs')"
        )
    labels: torch.Tensor = sample.gt_sem_seg.data
    if labels.dim() != 3 or labels.shape[0] != 1:
        raise InputError(
            f'{name_of(sample)}: the {split} pipeline gives labels of shape '
            f'{tuple(labels.shape)}, not (1, height, width): a mask of class ids was read as '
            'a colour image; a palette image is read as ids by '
            "dict(type='LoadAnnotations', imdecode_backend='pillow')"
        )
    return labels


def _size(image: torch.Tensor) -> str:
    return f'{image.shape[-2]}x{image.shape[-1]}'
