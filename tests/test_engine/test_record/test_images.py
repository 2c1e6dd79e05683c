"""Fingerprints tell one set of images from another."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from mmengine.registry import init_default_scope
from PIL import Image

from mmseg_cil.engine.data import open_view
from mmseg_cil.engine.record.images import prints_of
from mmseg_cil.testing.tiny import make_data, tiny_config


@pytest.fixture
def root(data_root, tmp_path):
    return Path(shutil.copytree(data_root, tmp_path / 'data'))


def prints(root, split='train', change=None):
    init_default_scope('mmseg_cil')
    cfg = tiny_config(root)
    if change:
        loader = cfg[f'{split}_dataloader']
        loader['dataset'] = change(loader.dataset)
    return prints_of(open_view(cfg, split, str(root), pools_splits=False))


def lines(path):
    return path.read_text().splitlines()


def rename(root, split):
    names = lines(root / f'lists/{split}.txt')
    for folder in ('images', 'masks'):
        (root / folder / f'{names[0]}.png').rename(root / folder / 'other.png')
    (root / f'lists/{split}.txt').write_text('\n'.join(['other', *names[1:]]))


def change_mask(root, split):
    path = root / f'masks/{split}_000.png'
    mask = np.array(Image.open(path))
    mask[-1, -1] = 255
    Image.fromarray(mask).save(path)


def change_image(root, split):
    # A bitmap has as many bytes whatever it shows.
    path = root / f'images/{split}_000.png'
    image = Image.open(path)
    image.save(path, format='BMP')
    before, size = prints(root, 'test' if split == 'val' else split), path.stat().st_size
    Image.fromarray(255 - np.array(image)).save(path, format='BMP')
    assert path.stat().st_size == size
    return before


def swap(root, split):
    path = root / f'lists/{split}.txt'
    first, second, *others = lines(path)
    path.write_text('\n'.join([second, first, *others]))


def differing(before, after):
    return [step for step, pair in enumerate(zip(before, after, strict=True)) if pair[0] != pair[1]]


# Image 0 shows red (of step 0) twice, and is tested at every step.
@pytest.mark.parametrize('change', [rename, change_mask, change_image])
@pytest.mark.parametrize(('split', 'steps'), [('train', [0]), ('val', [0, 1, 2])])
def test_names_masks_and_images_tell(root, change, split, steps):
    own = 'test' if split == 'val' else split
    before = prints(root, own)
    before = change(root, split) or before
    assert differing(before, prints(root, own)) == steps


def test_places_and_formats_of_lists_do_not_tell(root, tmp_path):
    before = [prints(root, split) for split in ('train', 'test')]
    moved = root.rename(tmp_path / 'moved')
    for split in ('train', 'val'):
        names = lines(moved / f'lists/{split}.txt')
        (moved / f'lists/{split}.txt').write_text('\r\n'.join(names))
    assert [prints(moved, split) for split in ('train', 'test')] == before
    assert len({*before[0], *before[1]}) == 6


def test_the_order_tells_in_training_alone(root):
    before = [prints(root, split) for split in ('train', 'test')]
    swap(root, 'train')
    swap(root, 'val')
    now = [prints(root, split) for split in ('train', 'test')]
    assert differing(before[0], now[0]) == [0] and before[1] == now[1]


def test_how_often_an_image_counts_tells_in_training_alone(root):
    def repeated(times):
        return lambda dataset: dict(type='RepeatDataset', times=times, dataset=dataset)

    once, twice = prints(root, change=repeated(1)), prints(root, change=repeated(2))
    assert once == prints(root) and differing(once, twice) == [0, 1, 2]
    # As some stock configs have it; quick.
    assert differing(twice, prints(root, change=repeated(100_000))) == [0, 1, 2]
    assert prints(root, 'test', repeated(2)) == prints(root, 'test')


def test_the_same_names_in_two_datasets_are_told_apart(tmp_path, data_root):
    other = make_data(tmp_path / 'other')
    change_mask(other, 'train')

    def both(first, second):
        return lambda dataset: dict(
            type='ConcatDataset',
            datasets=[dict(dataset, data_root=str(root)) for root in (first, second)],
        )

    assert differing(
        prints(data_root, change=both(data_root, other)),
        prints(data_root, change=both(other, data_root)),
    ) == [0]
