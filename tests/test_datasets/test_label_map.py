"""MapLabels: one table for every pixel, after the crop."""

import numpy as np
import pytest
from dataset_fakes import LOAD, PACK, save_mask, voc_tree
from mmengine.dataset import Compose

import mmseg_cil.datasets  # noqa: F401
from mmseg_cil.datasets.pipeline import seeded, step_pipeline
from mmseg_cil.datasets.transforms import MapLabels, map_labels
from mmseg_cil.errors import InputError
from mmseg_cil.registry import TRANSFORMS

TABLE = np.random.RandomState(3).randint(0, 256, 256).astype(np.uint8)


@pytest.mark.parametrize(
    'change', [lambda m: m, lambda m: m.astype(np.int64), lambda m: m[:, ::-2]]
)
def test_every_pixel_gets_the_entry_of_its_id(change):
    mask = change(np.random.RandomState(0).randint(0, 256, (40, 30)).astype(np.uint8))
    mapped = map_labels(mask, TABLE)
    assert mapped.dtype == np.uint8
    assert mapped.tolist() == [[TABLE[value] for value in row] for row in mask]


def test_mapping_after_crop_equals_mapping_before(tmp_path):
    contents = {f'{number}': [0] for number in range(4)}
    config = voc_tree(tmp_path, contents, size=(90, 110))
    for name in contents:
        blocks = np.random.RandomState(int(name)).randint(0, 21, (9, 11)).astype(np.uint8)
        save_mask(
            tmp_path / f'SegmentationClass/{name}.png', np.kron(blocks, np.ones((10, 10), 'u1'))
        )
    augment = [
        dict(type='RandomResize', scale=(120, 100), ratio_range=(0.5, 2.0), keep_ratio=True),
        dict(type='RandomCrop', crop_size=(48, 56)),
        dict(type='RandomFlip', prob=0.5),
    ]
    mapping = dict(type='MapLabels', table=TABLE.tolist())

    def labels(transforms, name, seed):
        pipeline = Compose([TRANSFORMS.build(each) for each in [*transforms, PACK]])
        root = config['data_root']
        info = dict(
            img_path=f'{root}/JPEGImages/{name}.jpg',
            seg_map_path=f'{root}/SegmentationClass/{name}.png',
            seg_fields=[],
            reduce_zero_label=False,
            label_map=None,
        )
        with seeded(seed):
            return pipeline(info)['data_samples'].gt_sem_seg.data.numpy()

    for seed, name in enumerate(contents):
        before = labels([*LOAD, mapping, *augment], name, seed)
        after = labels([*LOAD, *augment, mapping], name, seed)
        assert np.array_equal(before, after)
        assert len(np.unique(after)) > 3


def test_wrong_maps_are_refused():
    transform = MapLabels(TABLE)
    with pytest.raises(InputError, match='colour'):
        transform(dict(gt_seg_map=np.zeros((4, 4, 3), np.uint8)))
    with pytest.raises(InputError, match=r'-1\.\.3'):
        transform(dict(gt_seg_map=np.array([[3, -1]])))
    with pytest.raises(InputError, match='LoadAnnotations'):
        transform(dict(img=np.zeros((4, 4, 3))))
    with pytest.raises(InputError, match='256'):
        MapLabels(range(255))
    with pytest.raises(InputError, match='256'):
        MapLabels([300] * 256)


def test_edges_between_classes_are_those_of_the_steps_labels():
    pipeline = [*LOAD, dict(type='GenerateEdge', edge_width=4), PACK]
    kinds = [transform['type'] for transform in step_pipeline(pipeline, TABLE, False)]
    assert kinds == [
        *(transform['type'] for transform in LOAD),
        'MapLabels',
        'GenerateEdge',
        PACK['type'],
    ]
    with pytest.raises(InputError, match='PackSegInputs'):
        step_pipeline(pipeline[:-1], TABLE, False)
