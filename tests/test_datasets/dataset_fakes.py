"""Tiny datasets on disk, drawn for the tests."""

from pathlib import Path

import numpy as np
from PIL import Image

LOAD = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]
PACK = dict(type='PackSegInputs')


def draw_mask(ids, size=(24, 32), void=True):
    """A mask with a stripe of every id, the first id left over below."""
    mask = np.full(size, ids[0], np.uint8)
    for row, value in enumerate(ids):
        mask[2 * row : 2 * row + 2] = value
    if void:
        mask[-1, -1] = 255
    return mask


def save_mask(path, mask):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(mask)
    # A scrambled palette: read as colours, the ids would come out wrong.
    image.putpalette(np.random.RandomState(0).randint(0, 256, 768).tolist())
    image.save(path)


def save_image(path, size=(24, 32), seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.RandomState(seed).randint(0, 256, (*size, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)


def voc_tree(root, contents, split='train', size=(24, 32)):
    """Writes a VOC tree; ``contents``: mask ids by image name. Returns the dataset config."""
    root = Path(root)
    for number, (name, ids) in enumerate(contents.items()):
        save_image(root / f'JPEGImages/{name}.jpg', size, seed=number)
        save_mask(root / f'SegmentationClass/{name}.png', draw_mask(ids, size))
    listed = root / f'ImageSets/Segmentation/{split}.txt'
    listed.parent.mkdir(parents=True, exist_ok=True)
    listed.write_text(''.join(f'{name}\n' for name in contents))
    return dict(
        type='PascalVOCDataset',
        data_root=str(root),
        data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClass'),
        ann_file=f'ImageSets/Segmentation/{split}.txt',
        pipeline=[*LOAD, PACK],
    )


def voc_items(root):
    """Image and mask paths of a VOC tree, and the names."""
    images = sorted(Path(root).glob('JPEGImages/*.jpg'))
    masks = [Path(root) / f'SegmentationClass/{image.stem}.png' for image in images]
    pairs = [(str(image), str(mask)) for image, mask in zip(images, masks, strict=True)]
    return pairs, [image.stem for image in images]


def ade_tree(root, contents):
    root = Path(root)
    for number, (name, ids) in enumerate(contents.items()):
        save_image(root / f'images/training/{name}.jpg', (48, 40), seed=number)
        mask = draw_mask(ids, (48, 40), void=False)
        save_mask(root / f'annotations/training/{name}.png', mask)
    return dict(
        type='ADE20KDataset',
        data_root=str(root),
        data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
        pipeline=[*LOAD, PACK],
    )


def cityscapes_tree(root, split, contents):
    """``contents``: mask ids by 'city/name'."""
    root = Path(root)
    for number, (name, ids) in enumerate(contents.items()):
        save_image(root / f'leftImg8bit/{split}/{name}_leftImg8bit.png', seed=number)
        save_mask(root / f'gtFine/{split}/{name}_gtFine_labelTrainIds.png', draw_mask(ids))
    return dict(
        type='CityscapesDataset',
        data_root=str(root),
        data_prefix=dict(img_path=f'leftImg8bit/{split}', seg_map_path=f'gtFine/{split}'),
        pipeline=[*LOAD, PACK],
    )
