"""Lists and folders of images, as people keep them."""

import os
import shutil

import numpy as np
import pytest
from dataset_fakes import draw_mask, save_image, save_mask

from mmseg_cil.datasets.items import open_sources, read_items
from mmseg_cil.errors import InputError

NAMES = ['aachen/a', 'aachen/b', 'c']


@pytest.fixture
def tree(tmp_path):
    for number, name in enumerate(NAMES):
        save_image(tmp_path / f'images/{name}.jpg', seed=number)
        save_mask(tmp_path / f'masks/{name}.png', draw_mask([0, 1]))
    return tmp_path


def config(root, **changes):
    return dict(
        dict(
            type='BaseSegDataset',
            data_root=str(root),
            img_suffix='.jpg',
            seg_map_suffix='.png',
            metainfo=dict(classes=('background', 'red')),
            data_prefix=dict(img_path='images', seg_map_path='masks'),
        ),
        **changes,
    )


def read(root, lines=None, encoding='utf-8', look_around=False, **changes):
    if lines is not None:
        (root / 'list.txt').write_bytes('\n'.join(lines).encode(encoding))
        changes.setdefault('ann_file', 'list.txt')
    return read_items(open_sources(config(root, **changes)), look_around)


@pytest.mark.parametrize(
    'line',
    [
        'aachen/b',
        'aachen/b  ',
        './aachen/b',
        'aachen\\b',
        '.\\aachen\\b',
        'aachen/b.jpg',
        'aachen/b.JPG',
        'aachen\\b.jpg',
        'images/aachen/b.jpg',
        '/images/aachen/b',
        '\ufeffaachen/b',
        '{root}/images/aachen/b.jpg',
    ],
)
def test_what_surely_means_an_image_is_taken_for_it(tree, line):
    items = read(tree, [line.format(root=tree), '', 'c'])
    assert items.names == ['aachen/b', 'c'] and not items.notes
    assert items.paths[0] == (f'{tree}/images/aachen/b.jpg', f'{tree}/masks/aachen/b.png')


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16', 'latin-1'])
def test_a_list_in_another_encoding_is_read(tree, encoding):
    for folder, suffix in (('images', 'jpg'), ('masks', 'png')):
        os.rename(tree / f'{folder}/c.{suffix}', tree / f'{folder}/straße.{suffix}')
    items = read(tree, ['straße', 'aachen/a'], encoding)
    assert items.names == ['straße', 'aachen/a']
    assert all(os.path.exists(path) for pair in items.paths for path in pair)
    assert [('not in UTF-8' in note) for note in items.notes] == [True] * (encoding == 'latin-1')


def test_names_that_stand_as_they_are_are_left_alone(tree):
    """A dot, a blank or a backslash may be part of a name."""
    odd = ['c.v1', 'c d', 'c\\d', 'c.jpg', '[0]*', '#1']
    for name in odd:
        shutil.copy(tree / 'images/c.jpg', tree / f'images/{name}.jpg')
        shutil.copy(tree / 'masks/c.png', tree / f'masks/{name}.png')
    items = read(tree, ['c', *odd])
    assert [path for path, _ in items.paths] == [
        f'{tree}/images/{name}.jpg' for name in ['c', *odd]
    ]


def test_suffixes_in_another_case_are_taken_and_told(tree):
    os.rename(tree / 'images/c.jpg', tree / 'images/c.JPG')
    os.rename(tree / 'masks/aachen/a.png', tree / 'masks/aachen/a.Png')
    items = read(tree, NAMES)
    assert items.paths[0][1].endswith('masks/aachen/a.Png')
    assert items.paths[2] == (f'{tree}/images/c.JPG', f'{tree}/masks/c.png')
    assert items.names == NAMES
    assert len(items.notes) == 2
    assert "1 image with the suffix '.jpg' in another case" in items.notes[0]
    assert '1 mask with the suffix' in items.notes[1] and 'a.Png' in items.notes[1]


def test_a_missing_image_is_left_to_be_reported_as_it_is_listed(tree):
    items = read(tree, ['no\\such', 'c'])
    assert items.paths[0][0] == f'{tree}/images/no\\such.jpg'


def test_names_that_come_twice_count_twice_and_are_told(tree):
    items = read(tree, ['c', 'aachen/a', 'c', 'c.jpg'])
    assert items.names == ['c', 'aachen/a'] and items.times.tolist() == [3, 1]
    assert len(items.notes) == 1 and 'names 1 image more than once (first: c)' in items.notes[0]
    # Twice because it is asked for is nothing to tell of.
    repeated = dict(type='RepeatDataset', times=2, dataset=config(tree))
    items = read_items(open_sources([repeated, config(tree)]))
    assert items.times.tolist() == [3, 3, 3] and not items.notes


@pytest.mark.parametrize(
    ('ann_file', 'message'),
    [
        ('masks', 'ann_file .*masks is a folder'),
        ('masks/', 'is a folder'),
        ('.', 'is a folder'),
        ('lost.txt', r'there is no ann_file .*lost\.txt$'),
        ('list', r'there is no ann_file .*list; did you mean .*list\.txt'),
        ('blank.txt', r'blank\.txt names no image'),
        ('images/c.jpg', 'no list of names'),
    ],
)
def test_a_list_that_is_none_is_refused(tree, ann_file, message):
    (tree / 'list.txt').write_text('c\n')
    (tree / 'blank.txt').write_text('\n   \n')
    with pytest.raises(InputError, match=message):
        read(tree, ann_file=ann_file)


@pytest.mark.parametrize('ann_file', [None, ''])
def test_without_a_list_all_images_are_taken(tree, ann_file):
    assert read(tree, ann_file=ann_file).names == NAMES


def test_an_error_of_a_dataset_class_is_told_in_a_line(tree):
    with pytest.raises(InputError, match='the list of images cannot be read: IndexError: '):
        read(tree, indices=[99])


def test_what_lies_beside_the_images_is_told(tree):
    save_image(tree / 'images/d.JPG')
    save_image(tree / 'images/.hidden.jpg')
    (tree / 'images/.DS_Store').write_bytes(b'x')
    (tree / 'images/._c.jpg').write_bytes(b'x')
    save_mask(tree / 'masks/e.png', draw_mask([0]))
    save_mask(tree / 'masks/f.png', draw_mask([0]))
    items = read(tree, look_around=True)
    assert items.names == NAMES and len(items.notes) == 2
    assert '1 image below' in items.notes[0] and 'd.JPG: rename' in items.notes[0]
    assert '2 masks below' in items.notes[1] and 'e.png' in items.notes[1]
    # A list says itself which images there are.
    assert not read(tree, NAMES, look_around=True).notes


def test_no_image_with_the_suffix_tells_which_suffixes_there_are(tree):
    with pytest.raises(InputError, match=r"no image found in .*\.png'; the files there: 3 \.jpg"):
        read(tree, img_suffix='.png')


def test_a_name_that_is_no_text_is_refused(tree):
    shutil.copy(tree / 'images/c.jpg', os.fsencode(tree / 'images') + b'/\xff.jpg')
    with pytest.raises(InputError, match=r"'.*\\udcff.jpg' is not in UTF-8: rename it"):
        read(tree)


def test_brackets_in_folders_are_no_patterns(tmp_path):
    root = tmp_path / '[0] data*'
    save_image(root / 'im[a]ges/x.jpg')
    save_mask(root / 'masks?/x.png', draw_mask([0]))
    folders = dict(img_path='im[a]ges', seg_map_path='masks?')
    assert read(root, look_around=True, data_prefix=folders).names == ['x']
    assert read(root, ['x'], data_prefix=folders).names == ['x']


def test_many_names_are_settled_in_little_time(tree, monkeypatch):
    """Folders are read once each, however many names there are."""
    names = [f'n{i}' for i in range(300)]
    for name in names:
        os.link(tree / 'images/c.jpg', tree / f'images/{name}.jpg')
        os.link(tree / 'masks/c.png', tree / f'masks/{name}.png')
    read_folders = []
    original = os.listdir
    monkeypatch.setattr(os, 'listdir', lambda path: read_folders.append(path) or original(path))
    assert np.all(read(tree, names).times == 1)
    assert sorted(read_folders) == [f'{tree}/images', f'{tree}/masks']
