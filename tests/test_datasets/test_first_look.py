"""The first look at the data: do image and mask lie on each other, are ids what they seem?"""

import numpy as np
import pytest
from dataset_fakes import draw_mask
from PIL import Image, ImageOps
from torch.utils.data import DataLoader

from mmseg_cil.datasets import IncrementalDataset
from mmseg_cil.datasets.first_look import first_look
from mmseg_cil.errors import InputError

CLASSES = ('background', 'red', 'green')
LOAD, MASK, PACK = (
    dict(type=kind) for kind in ('LoadImageFromFile', 'LoadAnnotations', 'PackSegInputs')
)
AS_STORED = dict(LOAD, color_type='color_ignore_orientation')


def picture(number, size=(24, 32)):
    """An image with an object off its centre, and its mask."""
    mask = np.zeros(size, np.uint8)
    mask[3:11, 4:13] = 1 + number % 2
    noise = np.random.RandomState(number).randint(0, 40, (*size, 3))
    return (noise + np.array([[20, 200, 110]]).T[mask]).astype(np.uint8), mask


def write(root, orientation=0, drawn_on='stored', count=8, size=(24, 32), turned=8):
    """Images that the first ``turned`` of have an orientation; masks of the stored or turned."""
    for folder in ('images', 'masks'):
        (root / folder).mkdir(exist_ok=True)
    for number in range(count):
        image, mask = map(Image.fromarray, picture(number, size))
        exif = Image.Exif()
        if number < turned:
            exif[0x0112] = orientation
            if drawn_on == 'turned':
                mask.getexif()[0x0112] = orientation
                mask = ImageOps.exif_transpose(mask)
        image.save(root / f'images/{number}.jpg', exif=exif, quality=95)
        mask.save(root / f'masks/{number}.png', exif=Image.Exif())
    return root


def view(root, split='train', pipeline=(LOAD, MASK, PACK), **changes):
    config = dict(
        type='BaseSegDataset',
        data_root=str(root),
        metainfo=dict(classes=CLASSES),
        data_prefix=dict(img_path='images', seg_map_path='masks'),
    )
    protocol = dict(name='tiny', dataset='tiny', steps=[['red'], ['green']])
    return IncrementalDataset(dict(config, **changes), protocol, 0, split, pipeline=list(pipeline))


@pytest.mark.parametrize('split', ['train', 'test'])
@pytest.mark.parametrize('orientation', range(2, 9))
def test_turned_images_over_masks_that_are_not_are_refused(tmp_path, orientation, split):
    write(tmp_path, orientation)
    with pytest.raises(InputError) as error:
        first_look(view(tmp_path, split))
    text = str(error.value)
    assert f'8 of 8 images of the {split} split are turned on loading' in text
    assert f'0.jpg (orientation {orientation})' in text and 'color_ignore_orientation' in text
    # As they are stored they lie on their masks, and nothing is to be told.
    assert first_look(view(tmp_path, split, (AS_STORED, MASK, PACK))) == []
    assert first_look(view(tmp_path, split, (dict(LOAD, color_type='unchanged'), MASK, PACK))) == []


@pytest.mark.parametrize('orientation', range(2, 9))
def test_masks_of_the_turned_images_are_right_where_the_loader_turns(tmp_path, orientation):
    write(tmp_path, orientation, 'turned')
    assert first_look(view(tmp_path)) == []
    assert (
        first_look(view(tmp_path, pipeline=(dict(LOAD, imdecode_backend='pillow'), MASK, PACK)))
        == []
    )
    with pytest.raises(InputError, match=r"loader ignores.*color_type='color'"):
        first_look(view(tmp_path, pipeline=(AS_STORED, MASK, PACK)))


@pytest.mark.parametrize(('orientation', 'size'), [(3, (24, 32)), (6, (28, 28))])
def test_turns_that_keep_the_size_are_told_where_too_few_show_what_is_right(
    tmp_path, orientation, size
):
    write(tmp_path, orientation, turned=2, size=size)
    (note,) = first_look(view(tmp_path))
    assert note.startswith('2 of 8 images of the train split have an EXIF orientation')
    assert f'0.jpg (orientation {orientation})' in note
    # A quarter turn of the others would show in the sizes.
    write(tmp_path, 6, turned=1)
    with pytest.raises(InputError, match='1 of 8 images'):
        first_look(view(tmp_path))


def test_masks_that_show_nothing_of_their_image_leave_it_open(tmp_path):
    write(tmp_path, 3, count=30, turned=30)
    for number in range(30):
        noise = np.random.RandomState(number).randint(0, 2, (24, 32)).astype(np.uint8)
        Image.fromarray(noise).save(tmp_path / f'masks/{number}.png')
    (note,) = first_look(view(tmp_path))
    assert '30 of 30' in note


@pytest.mark.parametrize('orientation', [0, 1])
def test_images_that_are_not_turned_are_not_spoken_of(tmp_path, orientation):
    assert first_look(view(write(tmp_path, orientation))) == []


RESIZE = dict(type='Resize', scale=(20, 20), keep_ratio=False)


@pytest.mark.parametrize(
    'early',
    [
        RESIZE,
        dict(type='Resize', scale=(28, 28), keep_ratio=True),
        dict(type='Pad', size=(40, 40)),
        dict(type='RandomResize', scale=(64, 48), ratio_range=(0.5, 0.9), keep_ratio=True),
    ],
)
def test_what_changes_the_size_must_not_come_before_the_mask(tmp_path, early):
    write(tmp_path)
    train = view(tmp_path, pipeline=(LOAD, early, MASK, PACK))
    message = f'differ in size once they are loaded.*must come before {early["type"]}'
    with pytest.raises(InputError, match=message):
        first_look(train)
    with pytest.raises(InputError, match=message):
        train[0]
    # At test the mask keeps the size of the image as it was loaded; so do stock pipelines.
    assert first_look(view(tmp_path, 'test', (LOAD, early, MASK, PACK))) == []


def test_a_resize_that_changes_nothing_may_come_before_the_mask(tmp_path):
    write(tmp_path)
    same = dict(type='Resize', scale=(32, 24), keep_ratio=False)
    assert first_look(view(tmp_path, pipeline=(LOAD, same, MASK, PACK))) == []


@pytest.mark.parametrize(
    'early', [dict(type='RandomFlip', prob=0.5), dict(type='RandomRotate', prob=1.0, degree=10)]
)
def test_what_moves_the_image_must_not_come_before_the_mask(tmp_path, early):
    write(tmp_path)
    with pytest.raises(InputError, match=f'has {early["type"]} before LoadAnnotations'):
        view(tmp_path, pipeline=(LOAD, early, MASK, PACK))


@pytest.mark.parametrize('split', ['train', 'test'])
def test_a_crop_before_the_mask_is_refused_where_it_cuts_something_off(tmp_path, split):
    write(tmp_path)
    whole = dict(type='RandomCrop', crop_size=(24, 32))
    assert first_look(view(tmp_path, split, (LOAD, whole, MASK, PACK))) == []
    with pytest.raises(InputError, match=r'RandomCrop(?! in)') as error:
        first_look(view(tmp_path, split, (LOAD, dict(whole, crop_size=(24, 30)), MASK, PACK)))
    assert 'LoadAnnotations' in str(error.value)
    # After it, at test too, is another matter.
    first_look(view(tmp_path, split, (LOAD, MASK, dict(whole, crop_size=(24, 30)), PACK)))


@pytest.mark.parametrize('mode', ['P', '1'])
def test_masks_that_cv2_reads_otherwise_are_refused(tmp_path, mode):
    write(tmp_path)
    by_cv2 = dict(MASK, imdecode_backend='cv2')
    assert first_look(view(tmp_path, pipeline=(LOAD, by_cv2, PACK))) == []
    mask = Image.fromarray(picture(2)[1])
    if mode == 'P':
        mask.putpalette(np.random.RandomState(0).randint(0, 256, 768).tolist())
    else:
        mask = Image.fromarray(picture(2)[1] == 1)
    mask.save(tmp_path / 'masks/5.png')
    with pytest.raises(InputError, match=rf'masks/5\.png \(Pillow mode {mode}\).*pillow'):
        first_look(view(tmp_path, pipeline=(LOAD, by_cv2, PACK)))
    notes = first_look(view(tmp_path))
    assert len(notes) == (mode == '1')
    assert all('5.png' in note and 'white is read as id 1' in note for note in notes)


@pytest.mark.parametrize('split', ['train', 'test'])
def test_black_and_white_masks_are_refused_with_the_cause(tmp_path, split):
    write(tmp_path)
    for number in range(8):
        Image.fromarray((picture(number)[1] > 0).astype(np.uint8) * 255).save(
            tmp_path / f'masks/{number}.png'
        )
    with pytest.raises(InputError, match=r'all 8 masks .* hold 0 and 255 alone.*255 is void'):
        first_look(view(tmp_path, split))
    Image.fromarray(draw_mask([0, 1])).save(tmp_path / 'masks/7.png')
    (note,) = first_look(view(tmp_path, split))
    assert note.startswith('7 of 8 masks') and '0 and 255 alone' in note


def test_black_and_white_masks_of_one_bit_are_labels(tmp_path):
    write(tmp_path)
    for number in range(8):
        Image.fromarray(picture(number)[1] > 0).save(tmp_path / f'masks/{number}.png')
    train = view(tmp_path)
    assert first_look(train) == []
    assert sorted(np.unique(train[0]['data_samples'].gt_sem_seg.data)) == [0, 1]


def test_a_loader_that_renames_ids_is_refused(tmp_path):
    """The protocol says what an id means, and the class index reads files as they are."""
    write(tmp_path)

    def rename(results):
        results['gt_seg_map'] = np.full((24, 32), 2, np.uint8)
        return results

    with pytest.raises(InputError, match=r'0\.png .* holds the ids \[0, 1\], but .* reads \[2\]'):
        first_look(view(tmp_path, pipeline=(LOAD, rename, PACK)))


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('harm', ['image', 'mask', 'size'])
def test_files_that_break_while_training_are_named(tmp_path, harm, workers):
    write(tmp_path)
    train = view(tmp_path, img_suffix='.jpg')
    assert len(train) == 4
    if harm == 'image':
        (tmp_path / 'images/0.jpg').write_bytes(b'no image')
    elif harm == 'mask':
        (tmp_path / 'masks/0.png').write_bytes(b'')
    else:
        Image.fromarray(draw_mask([0, 1], (20, 30))).save(tmp_path / 'masks/0.png')
    loader = iter(DataLoader(train, num_workers=workers))
    with pytest.raises(InputError) as error:
        next(loader)
    if workers:
        # The garbage collector would wait ten seconds for them.
        loader._shutdown_workers()
    text = str(error.value)
    name = f'{tmp_path}/{"images/0.jpg" if harm == "image" else "masks/0.png"}'
    assert name in text and 'Traceback' not in text and '\n' not in text
    expected = 'differ in size' if harm == 'size' else 'cannot be read by Load'
    assert expected in text and ('restore' in text) == (harm != 'size')


def test_a_transform_that_fails_is_named_with_the_image(tmp_path):
    write(tmp_path)

    def fail(results):
        raise KeyError('scale')

    with pytest.raises(
        InputError,
        match=r'function in the pipeline of the train split fails on '
        r".*0\.jpg: KeyError: 'scale' \(.*first_look\.py:\d+\)",
    ):
        view(tmp_path, pipeline=(LOAD, MASK, fail, PACK))[0]
