"""The papers' training crop and test geometry: distribution, pixels, repeatability, refusals."""

import math

import numpy as np
import pytest
from mmengine.registry import init_default_scope
from PIL import Image

from mmseg_cil.datasets import RandomResizedCrop, ResizedCenterCrop
from mmseg_cil.datasets.pipeline import crop_of, seeded
from mmseg_cil.datasets.resized_crops import draw_box
from mmseg_cil.errors import InputError
from mmseg_cil.registry import TRANSFORMS

AREA, ASPECT = (0.5, 2.0), (3 / 4, 4 / 3)


def boxes(height, width, count, area=AREA, aspect=ASPECT, attempts=10):
    with seeded(height, width, count):
        return np.array([draw_box(height, width, area, aspect, attempts) for _ in range(count)])


def fitting(height, width):
    """Share of draws of (area, aspect) that fit, and the mean area of those, by quadrature."""
    shape = width / height
    areas = np.linspace(*AREA, 3001)
    areas = (areas[1:] + areas[:-1]) / 2
    # An area a with aspect r fits if sqrt(a r / shape) <= 1 and sqrt(a shape / r) <= 1.
    low = np.maximum(np.log(ASPECT[0]), np.log(areas * shape))
    high = np.minimum(np.log(ASPECT[1]), np.log(shape / areas))
    shares = np.maximum(high - low, 0) / (np.log(ASPECT[1]) - np.log(ASPECT[0]))
    return shares.mean(), (areas * shares).sum() / shares.sum()


@pytest.mark.parametrize(('height', 'width'), [(375, 500), (500, 500), (333, 500), (500, 334)])
def test_boxes_are_distributed_as_the_published_rule_says(height, width):
    share, area = fitting(height, width)
    if height == width:  # in closed form: (1/4 + (1/4 - 3/4 ln(4/3)) / ln(4/3)) / 1.5
        log = math.log(4 / 3)
        assert share == pytest.approx((0.25 + (0.25 - 0.75 * log) / log) / 1.5, abs=1e-3)
    drawn = boxes(height, width, 4000)
    top, left, tall, wide = drawn.T
    assert (top >= 0).all() and (left >= 0).all()
    assert (top + tall <= height).all() and (left + wide <= width).all()
    # The central crop, which is the whole image where its aspect is in range.
    fallback = (min(height, round(width / ASPECT[0])), min(width, round(height * ASPECT[1])))
    central = (tall == fallback[0]) & (wide == fallback[1])
    assert central.mean() == pytest.approx((1 - share) ** 10, abs=0.025)
    rest = drawn[~central]
    assert (rest[:, 2] * rest[:, 3] / (height * width)).mean() == pytest.approx(area, abs=0.01)
    aspects = rest[:, 3] / rest[:, 2]
    assert aspects.min() >= ASPECT[0] - 0.01 and aspects.max() <= ASPECT[1] + 0.01
    # Where it stands is uniform among the places it has.
    room = rest[rest[:, 2] < height - 10]
    places = room[:, 0] / (height - room[:, 2])
    assert places.mean() == pytest.approx(0.5, abs=0.03)
    assert places.min() == 0 and places.max() == 1


@pytest.mark.parametrize(
    ('height', 'width', 'expected'),
    [
        (375, 500, (0, 0, 375, 500)),  # 4/3 exactly is in range
        (300, 1000, (0, 300, 300, 400)),
        (1000, 300, (300, 0, 400, 300)),
        (100, 101, (0, 0, 100, 101)),
        (333, 500, (0, 28, 333, 444)),
        (1, 50, (0, 24, 1, 1)),
    ],
)
def test_an_area_above_the_image_ends_in_the_centre(height, width, expected):
    assert draw_box(height, width, (1.5, 2.0), ASPECT, 10) == expected
    assert draw_box(height, width, AREA, ASPECT, 0) == expected


def sample(height, width, seed=0):
    generator = np.random.default_rng(seed)
    mask = generator.integers(0, 21, (height // 5 + 1, width // 5 + 1), dtype=np.uint8)
    mask = np.kron(mask, np.ones((5, 5), np.uint8))[:height, :width]
    image = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return dict(
        img=image,
        gt_seg_map=mask,
        seg_fields=['gt_seg_map'],
        img_shape=(height, width),
        ori_shape=(height, width),
    )


def resized(array, box, size, how):
    top, left, tall, wide = box
    return np.array(Image.fromarray(array[top : top + tall, left : left + wide]).resize(size, how))


def test_image_and_mask_are_cut_and_resized_together():
    given = sample(120, 160)
    with seeded(3):
        box = draw_box(120, 160, AREA, ASPECT, 10)
    with seeded(3):
        result = RandomResizedCrop((64, 48))(dict(given))
    assert result['img'].shape == (48, 64, 3) and result['img_shape'] == (48, 64)
    assert np.array_equal(result['img'], resized(given['img'], box, (64, 48), Image.BILINEAR))
    assert np.array_equal(
        result['gt_seg_map'], resized(given['gt_seg_map'], box, (64, 48), Image.NEAREST)
    )
    assert result['gt_seg_map'].dtype == np.uint8 and not (result['gt_seg_map'] == 255).any()
    assert result['ori_shape'] == (120, 160)


@pytest.mark.parametrize('dtype', [np.float32, np.float64, np.int16, np.int32, np.int64, bool])
@pytest.mark.parametrize('size', [(64, 48), (200, 150), (33, 120), (57, 41)])
def test_masks_of_every_type_are_resized_as_those_of_bytes(dtype, size):
    # Maps of self-labels are float32 and have numbers above 255.
    given = sample(120, 160)
    given['gt_seg_map'] = np.random.default_rng(2).integers(0, 2, (120, 160), dtype=np.uint8)
    other = {**given, 'gt_edge_map': given['gt_seg_map'].astype(dtype)}
    other['seg_fields'] = ['gt_seg_map', 'gt_edge_map']
    with seeded(7):
        result = RandomResizedCrop(size)(other)
    assert result['gt_edge_map'].dtype == dtype
    assert np.array_equal(result['gt_edge_map'], result['gt_seg_map'].astype(dtype))
    assert 0 < result['gt_seg_map'].mean() < 1


def test_cells_keep_numbers_above_a_byte():
    given = sample(120, 160)
    given['gt_edge_map'] = (256 + np.arange(120 * 160).reshape(120, 160)).astype(np.float32)
    given['seg_fields'] = ['gt_edge_map']
    with seeded(3):
        box = draw_box(120, 160, AREA, ASPECT, 10)
    with seeded(3):
        result = RandomResizedCrop((64, 48))(dict(given))
    expected = resized(given['gt_edge_map'], box, (64, 48), Image.NEAREST)
    assert np.array_equal(result['gt_edge_map'], expected)


@pytest.mark.parametrize('transform', [RandomResizedCrop(32), ResizedCenterCrop(32)])
def test_an_image_that_pillow_cannot_resize_is_refused(transform):
    given = sample(60, 80)
    given['img'] = given['img'].astype(np.float32)
    with pytest.raises(InputError, match="float32: set backend='cv2'"):
        transform(given)


def test_the_crop_depends_on_the_seeded_stream_alone():
    crop = TRANSFORMS.build(dict(type='RandomResizedCrop', scale=32))
    results = []
    for seed in (5, 5, 6):
        with seeded(seed):
            results.append(crop(sample(90, 120))['img'])
    assert np.array_equal(results[0], results[1])
    assert not np.array_equal(results[0], results[2])


@pytest.mark.parametrize(
    ('height', 'width', 'size', 'corner'),
    [
        (375, 500, (682, 512), (0, 85)),  # 682.67 is cut off
        (500, 375, (512, 682), (85, 0)),
        (512, 512, (512, 512), (0, 0)),
        (333, 500, (768, 512), (0, 128)),
        (1024, 2048, (1024, 512), (0, 256)),
        (400, 401, (513, 512), (0, 0)),  # half a pixel goes to the even number
        (400, 403, (515, 512), (0, 2)),
    ],
)
def test_the_centre_is_that_of_the_published_geometry(height, width, size, corner):
    given = sample(height, width)
    result = ResizedCenterCrop(512)(dict(given))
    for key, how in (('img', Image.BILINEAR), ('gt_seg_map', Image.NEAREST)):
        whole = resized(given[key], (0, 0, height, width), size, how)
        top, left = corner
        assert np.array_equal(result[key], whole[top : top + 512, left : left + 512])
    assert result['img_shape'] == result['ori_shape'] == (512, 512)


@pytest.mark.parametrize(
    'config',
    [
        dict(type='RandomResizedCrop', scale=0),
        dict(type='RandomResizedCrop', scale=(32,)),
        dict(type='RandomResizedCrop', scale=32, crop_ratio_range=(2.0, 0.5)),
        dict(type='RandomResizedCrop', scale=32, crop_ratio_range=(0.0, 1.0)),
        dict(type='RandomResizedCrop', scale=32, crop_ratio_range=(0.5, float('nan'))),
        dict(type='RandomResizedCrop', scale=32, aspect_ratio_range=(0.75,)),
        dict(type='RandomResizedCrop', scale=32, max_attempts=-1),
        dict(type='RandomResizedCrop', scale=32, backend='PIL'),
        dict(type='ResizedCenterCrop', scale=(512, 512)),
        dict(type='ResizedCenterCrop', scale=-3),
        dict(type='ResizedCenterCrop', scale=512, backend='opencv'),
    ],
)
def test_settings_without_a_meaning_are_refused(config):
    init_default_scope('mmseg_cil')
    with pytest.raises(InputError):
        TRANSFORMS.build(config)


@pytest.mark.parametrize(
    ('pipeline', 'crop'),
    [
        ([dict(type='RandomCrop', crop_size=(64, 96))], (64, 96)),
        ([dict(type='RandomCrop', crop_size=64)], (64, 64)),
        ([dict(type='RandomResizedCrop', scale=(96, 64))], (64, 96)),
        ([dict(type='mmseg_cil.RandomResizedCrop', scale=32), dict(type='RandomFlip')], (32, 32)),
        ([dict(type='Resize', scale=(96, 64))], None),
    ],
)
def test_the_crop_of_a_pipeline(pipeline, crop):
    assert crop_of(pipeline) == crop
