"""Masks that do not mean what they seem to."""

from __future__ import annotations

import numpy as np
from PIL import Image

from fuzzing.world import ANY, REFUSED, TOLD, WORKS, Case, World, mutation


@mutation
def of_another_size(world: World) -> Case:
    """Let one mask, or all, have another size than its image."""
    paths = world.pictures('masks')
    if world.rng.random() < 0.5:
        paths = [world.rng.choice(paths)]
    size = world.rng.choice([(32, 40), (20, 16), (80, 64), (41, 32), (39, 32)])
    for path in paths:
        Image.open(path).resize(size, Image.Resampling.NEAREST).save(path)
    return Case(REFUSED, ('size',))


@mutation
def damaged(world: World) -> Case:
    """Damage one mask."""
    path = world.a_picture('masks')
    content = path.read_bytes()
    kind = world.rng.choice(['empty', 'cut', 'text', 'missing', 'folder'])
    if kind == 'empty':
        path.write_bytes(b'')
    elif kind == 'cut':
        path.write_bytes(content[: len(content) // 2])
    elif kind == 'text':
        path.write_text('no mask')
    else:
        path.unlink()
        if kind == 'folder':
            path.mkdir()
    return Case(REFUSED, (path.stem,))


@mutation
def with_unknown_ids(world: World) -> Case:
    """Paint a few pixels with an id that no class has."""
    path = world.a_picture('masks')
    mask = np.array(Image.open(path))
    value = world.rng.choice([5, 6, 7, 77, 128, 200, 254])
    mask[3:5, 3:5] = value
    Image.fromarray(mask).save(path)
    return Case(REFUSED, (str(value),))


@mutation
def with_declared_void_ids(world: World) -> Case:
    """Paint void pixels with an id that the protocol declares as void."""
    value = world.rng.choice([5, 77, 254])
    for path in world.pictures('masks'):
        mask = np.array(Image.open(path))
        mask[3:5, 3:5] = value
        Image.fromarray(mask).save(path)
    world.set('protocol.void_ids', [value])
    return Case(WORKS)


@mutation
def lossy(world: World) -> Case:
    """Write the masks as JPEG."""
    for path in world.pictures('masks'):
        Image.open(path).save(path.with_suffix('.jpg'), quality=world.rng.choice([75, 90, 100]))
        path.unlink()
    for split in ('train', 'test'):
        world.set(f'{split}_dataloader.dataset.seg_map_suffix', '.jpg')
    return Case(TOLD, ('jpeg', 'jpg', 'lossy'), ('jpeg', 'jpg', 'lossy'))


@mutation
def in_colours(world: World) -> Case:
    """Write the masks in the colours of the classes instead of their ids."""
    palette = np.array(
        [[0, 0, 0], [200, 30, 30], [30, 200, 30], [30, 30, 200], [128] * 3, *[[255] * 3] * 251],
        np.uint8,
    )
    paths = world.pictures('masks')
    if world.rng.random() < 0.3:
        paths = [world.rng.choice(paths)]
    for path in paths:
        Image.fromarray(palette[np.array(Image.open(path))]).save(path)
    return Case(REFUSED, ('colour', 'RGB', 'channel', 'mask'))


@mutation
def with_a_palette(world: World) -> Case:
    """Write the masks with a palette, as Pascal VOC does, read by the usual loader."""
    for path in world.pictures('masks'):
        image = Image.open(path).convert('P')
        array = np.array(Image.open(path))
        image = Image.fromarray(array, 'P')
        image.putpalette([value for i in range(256) for value in (i, 255 - i, i // 2)])
        image.save(path)
    return Case(WORKS)


@mutation
def with_a_palette_read_by_cv2(world: World) -> Case:
    """Read masks with a palette by cv2, which makes colours of them."""
    with_a_palette(world)
    for split in world.rng.choice([('train',), ('test',), ('train', 'test')]):
        world.get(f'{split}_dataloader.dataset.pipeline')[1]['imdecode_backend'] = 'cv2'
    return Case(REFUSED)


@mutation
def of_one_bit(world: World) -> Case:
    """Write masks of one bit a pixel."""
    for path in world.pictures('masks'):
        mask = np.array(Image.open(path))
        if path.name.startswith('val') or world.rng.random() < 0.2:
            Image.fromarray(mask == 1).convert('1').save(path)
    return Case(ANY)


@mutation
def of_zero_and_255(world: World) -> Case:
    """Write binary masks as editors do: 0 and 255."""
    for path in world.pictures('masks'):
        mask = np.array(Image.open(path))
        Image.fromarray(np.where(mask > 0, 255, 0).astype(np.uint8)).save(path)
    return Case(REFUSED, ('255',))


@mutation
def of_sixteen_bits(world: World) -> Case:
    """Write masks of 16 bits a pixel."""
    for path in world.pictures('masks'):
        mask = np.array(Image.open(path)).astype(np.uint16)
        if world.rng.random() < 0.5:
            mask[mask == 255] = 65535
        Image.fromarray(mask).save(path)
    return Case(ANY)


@mutation
def with_alpha(world: World) -> Case:
    """Write grey masks with a channel of transparency."""
    for path in world.pictures('masks'):
        Image.open(path).convert('LA').save(path)
    return Case(ANY)


@mutation
def all_void(world: World) -> Case:
    """Leave nothing but void in some masks, or in all of one split."""
    split = world.rng.choice(['train', 'val'])
    everything = world.rng.random() < 0.4
    for path in world.pictures('masks', split):
        if everything or world.rng.random() < 0.3:
            mask = np.full_like(np.array(Image.open(path)), 255)
            Image.fromarray(mask).save(path)
    return Case(REFUSED if everything else ANY)


@mutation
def without_a_later_class(world: World) -> Case:
    """Remove the classes of the second step from all training masks."""
    for path in world.pictures('masks', 'train'):
        mask = np.array(Image.open(path))
        mask[(mask == 3) | (mask == 4)] = 0
        Image.fromarray(mask).save(path)
    return Case(REFUSED, ('blue', 'step 1'))


@mutation
def in_another_order_of_classes(world: World) -> Case:
    """Declare the test classes in another order than the training classes."""
    classes = list(world.get('test_dataloader.dataset.metainfo.classes'))
    world.rng.shuffle(classes)
    if classes == list(world.get('train_dataloader.dataset.metainfo.classes')):
        classes.reverse()
    world.set('test_dataloader.dataset.metainfo', {'classes': classes})
    return Case(ANY)


@mutation
def of_other_classes(world: World) -> Case:
    """Declare other test classes than training classes."""
    world.set(
        'test_dataloader.dataset.metainfo',
        {'classes': ['background', 'red', 'green', 'blue', world.rng.choice(['gray', 'x', ''])]},
    )
    return Case(REFUSED, ('class',))


@mutation
def mapped_by_a_wrong_void(world: World) -> Case:
    """Declare void ids that are none, or that are ids of classes."""
    value = world.rng.choice([[1], ['red'], 300, [256], [-1], 'all', [1.5], [True]])
    world.set('protocol.void_ids', value)
    return Case(TOLD, ('void',), ('void',))
