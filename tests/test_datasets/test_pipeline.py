"""Pipelines without augmentation: objects keep the size that they usually have in training."""

from types import SimpleNamespace

import numpy as np
import pytest
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope

from mmseg_cil.datasets.pipeline import without_augmentation
from mmseg_cil.registry import TRANSFORMS

CROP = dict(type='RandomCrop', crop_size=(512, 512), cat_max_ratio=0.75)
FLIP = dict(type='RandomFlip', prob=0.5)


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg_cil')


def sample(height=375, width=500):
    generator = np.random.default_rng(0)
    mask = generator.integers(0, 20, (height, width), dtype=np.uint8)
    return dict(
        img=generator.integers(0, 256, (height, width, 3), dtype=np.uint8),
        img_shape=(height, width),
        ori_shape=(height, width),
        gt_seg_map=mask,
        seg_fields=['gt_seg_map'],
    )


def run(*transforms):
    return Compose([TRANSFORMS.build(dict(transform)) for transform in transforms])(sample())


def plain(*transforms):
    """The transforms that are left, and what they make of the sample."""
    pipeline = Compose([TRANSFORMS.build(dict(transform)) for transform in transforms])
    dataset = SimpleNamespace(pipeline=pipeline)
    left = without_augmentation(dataset).pipeline
    assert dataset.pipeline is pipeline and len(pipeline.transforms) == len(transforms)
    results = [left(sample()) for _ in range(2)]
    assert np.array_equal(results[0]['img'], results[1]['img'])
    return [type(transform).__name__ for transform in left.transforms], results[0]


@pytest.mark.parametrize(
    ('random', 'fixed'),
    [
        (
            dict(type='RandomResize', scale=(2048, 512), ratio_range=(0.5, 2.0), keep_ratio=True),
            dict(type='Resize', scale=(2048, 512), keep_ratio=True),
        ),
        (
            dict(type='RandomResize', scale=(800, 400), ratio_range=(1.5, 2.0)),
            dict(type='Resize', scale=(1200, 600)),
        ),
        (
            dict(type='RandomResize', scale=[(200, 100), (400, 300)], keep_ratio=True),
            dict(type='Resize', scale=(300, 200), keep_ratio=True),
        ),
        (
            dict(type='RandomChoiceResize', scales=[(640, 480), (320, 240), (160, 120)]),
            dict(type='Resize', scale=(320, 240)),
        ),
        (
            dict(
                type='RandomChoiceResize',
                scales=[600, 256, 300],
                resize_type='ResizeShortestEdge',
                max_size=2000,
            ),
            dict(type='ResizeShortestEdge', scale=300, max_size=2000),
        ),
        (
            dict(type='RandomResizedCrop', scale=112),
            dict(type='Resize', scale=(10_000, 112), keep_ratio=True, backend='pillow'),
        ),
        (
            dict(type='RandomResizedCrop', scale=(256, 128), backend='cv2'),
            dict(type='Resize', scale=(10_000, 128), keep_ratio=True),
        ),
        (dict(type='Resize', scale=(250, 250), keep_ratio=True),) * 2,
        (dict(type='ResizeToMultiple', size_divisor=32),) * 2,
        (dict(type='ResizeShortestEdge', scale=200, max_size=400),) * 2,
    ],
)
def test_images_have_their_usual_size_in_training(random, fixed):
    names, result = plain(random, CROP, FLIP)
    expected = run(fixed)
    assert names == [fixed['type']]
    assert np.array_equal(result['img'], expected['img'])
    assert np.array_equal(result['gt_seg_map'], expected['gt_seg_map'])
    assert result['img_shape'] == expected['img_shape'] == result['gt_seg_map'].shape


def test_what_draws_no_random_numbers_stays():
    kept = [dict(type='CLAHE'), dict(type='AdjustGamma', gamma=2.0), dict(type='RGB2Gray')]
    chance = [
        CROP,
        FLIP,
        dict(type='PhotoMetricDistortion'),
        dict(type='RandomRotate', prob=0.5, degree=10),
    ]
    names, result = plain(*kept, *chance)
    assert names == ['CLAHE', 'AdjustGamma', 'RGB2Gray']
    assert np.array_equal(result['img'], run(*kept)['img'])
    assert result['img'].shape[:2] == (375, 500)
