"""Our ``RandomCrop`` cuts as MMSegmentation's does, from the same random numbers."""

import numpy as np
import pytest
from mmengine.registry import init_default_scope
from mmseg.datasets.transforms import RandomCrop as Stock

from mmseg_cil.datasets import RandomCrop
from mmseg_cil.registry import TRANSFORMS


def sample(rng, kind):
    mask = rng.integers(0, 5, (40, 50)).astype(np.uint8)
    mask[rng.random(mask.shape) < 0.8] = 0
    if kind == 'void':
        mask[:] = 255
    elif kind == 'one class':
        mask[:] = 3
    elif kind == 'half void':
        mask[:, :25] = 255
    image = rng.integers(0, 256, (*mask.shape, 3)).astype(np.uint8)
    return dict(img=image, gt_seg_map=mask, seg_fields=['gt_seg_map'], img_shape=mask.shape)


@pytest.mark.parametrize('kind', ['mixed', 'void', 'one class', 'half void', 'int64'])
@pytest.mark.parametrize('ratio', [0.3, 0.75, 1.0])
@pytest.mark.parametrize('ignored', [255, 0, -1])
def test_crops_are_those_of_the_stock_transform(kind, ratio, ignored):
    for seed in range(8):
        found = []
        for transform in (RandomCrop, Stock):
            own = sample(np.random.default_rng(seed), kind)
            if kind == 'int64':
                own['gt_seg_map'] = own['gt_seg_map'].astype(np.int64)
            np.random.seed(seed)
            own = transform((20, 64), cat_max_ratio=ratio, ignore_index=ignored)(own)
            # The random numbers that follow are the same, too.
            found.append((own['img'], own['gt_seg_map'], np.random.random()))
        for ours, stock in zip(*found, strict=True):
            assert np.array_equal(ours, stock)


def test_walks_have_it_by_the_name_of_the_stock_transform():
    init_default_scope('mmseg_cil')
    config = dict(crop_size=(4, 4), cat_max_ratio=0.75)
    names = ('RandomCrop', 'mmseg.RandomCrop')
    ours, stock = (TRANSFORMS.build(dict(type=name, **config)) for name in names)
    assert type(ours) is RandomCrop and type(stock) is Stock
    assert repr(ours) == repr(stock)
