"""The class index: what it says, what it remembers, what it refuses."""

import hashlib
import multiprocessing
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from dataset_fakes import draw_mask, save_image, save_mask, voc_items, voc_tree
from PIL import Image

from mmseg_cil.datasets import class_index, file_checks, jpeg_damage
from mmseg_cil.datasets.class_index import ClassIndex, load_or_build_index
from mmseg_cil.datasets.mask_ids import check_mask_ids
from mmseg_cil.errors import InputError

CONTENTS = {'a': [0, 3], 'b': [0], 'c': [20, 7, 1], 'd': [0, 20], 'e': [5]}


@pytest.fixture
def tree(tmp_path):
    voc_tree(tmp_path / 'voc', CONTENTS)
    return tmp_path / 'voc'


def test_digests_sizes_and_headers_are_those_of_the_files(tree, tmp_path):
    for _ in ('built', 'cached'):
        index = build(tree, tmp_path / 'cache')
        for row, (image, mask) in enumerate(voc_items(tree)[0]):
            digest = hashlib.blake2b(Path(mask).read_bytes(), digest_size=16).digest()
            assert index.mask_digests[row].tobytes() == digest
            assert index.image_bytes[row] == os.path.getsize(image)
            assert index.image_digests[row].tobytes() == file_checks.partial_digest(image)
            assert index.headers[row].tolist() == [32, 24, 0, 32, 24, 1]


@pytest.mark.parametrize('size', [1, 5000, 16384, 20000, 40000, 100000])
def test_images_of_as_many_bytes_are_told_apart_in_three_places(tmp_path, size):
    file, found = tmp_path / 'image', set()
    for place in (None, 0, size // 2, size - 1):
        content = bytearray(size)
        if place is not None:
            content[place] = 1
        file.write_bytes(content)
        found.add(file_checks.partial_digest(str(file)))
    assert len(found) == len({0, size // 2, size - 1}) + 1
    file.write_bytes(bytes(size + 1))
    assert file_checks.partial_digest(str(file)) not in found


def test_part_of_a_large_dataset_is_decoded_evenly_spread(monkeypatch):
    sizes = np.full(1000, 1000)
    assert class_index._to_decode(range(1000), sizes) == frozenset(range(1000))
    monkeypatch.setattr(class_index, '_DECODED_BYTES', 100_000)
    assert class_index._to_decode(range(1000), sizes) == frozenset(range(0, 1000, 10))
    # Only what is not known yet counts.
    assert class_index._to_decode(range(500, 600), sizes) == frozenset(range(500, 600))


@pytest.fixture
def decoded(monkeypatch):
    """Names of the masks that were decoded since the list was last cleared."""
    names = []
    original = class_index.read_mask

    def counting(path, content, decode):
        if decode:
            names.append(Path(path).stem)
        return original(path, content, decode)

    monkeypatch.setattr(class_index, 'read_mask', counting)
    return names


def build(tree, *caches, workers=2, log=None):
    pairs, names = voc_items(tree)
    return load_or_build_index(pairs, names, caches, workers, log or (lambda text: None))


def later(path, nanoseconds=10**9):
    """Gives a file a later modification time, whatever the clock's grain."""
    stat = os.stat(path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + nanoseconds))


def test_presence_is_the_set_of_ids_of_each_mask(tree):
    index = build(tree)
    assert index.names == list(CONTENTS)
    for row, ids in enumerate(CONTENTS.values()):
        assert np.flatnonzero(index.presence[row]).tolist() == sorted({*ids, 255})


@pytest.mark.parametrize('mode', ['L', 'P', '1'])
def test_ids_equal_those_that_mmsegmentation_reads(tmp_path, mode):
    from mmseg.datasets.transforms import LoadAnnotations

    save_image(tmp_path / 'JPEGImages/x.jpg')
    mask = np.random.RandomState(1).randint(0, 2 if mode == '1' else 150, (24, 32))
    image = Image.fromarray(mask.astype(np.uint8))
    if mode == '1':
        image = Image.fromarray(mask.astype(bool))
    elif mode == 'P':
        image.putpalette(np.random.RandomState(0).randint(0, 256, 768).tolist())
    path = tmp_path / 'SegmentationClass/x.png'
    path.parent.mkdir()
    image.save(path)
    results = dict(seg_map_path=str(path), reduce_zero_label=False, seg_fields=[])
    read = LoadAnnotations()(results)['gt_seg_map']
    assert np.flatnonzero(build(tmp_path).presence[0]).tolist() == np.unique(read).tolist()


def test_cache_spares_the_decoding(tree, decoded, tmp_path):
    first = build(tree, tmp_path / 'cache')
    assert sorted(decoded) == list(CONTENTS)
    decoded.clear()
    assert np.array_equal(build(tree, tmp_path / 'cache').presence, first.presence)
    assert not decoded


def test_touched_mask_is_hashed_not_decoded(tree, decoded, tmp_path):
    build(tree, tmp_path / 'cache')
    decoded.clear()
    later(tree / 'SegmentationClass/c.png')
    later(tree / 'JPEGImages/a.jpg')
    build(tree, tmp_path / 'cache')
    assert not decoded


def test_only_the_changed_mask_is_decoded_again(tree, decoded, tmp_path):
    build(tree, tmp_path / 'cache')
    decoded.clear()
    mask = tree / 'SegmentationClass/c.png'
    save_mask(mask, draw_mask([2, 9]))
    later(mask)
    index = build(tree, tmp_path / 'cache')
    assert decoded == ['c']
    assert np.flatnonzero(index.presence[2]).tolist() == [2, 9, 255]


def test_another_list_of_files_has_another_cache(tree, decoded, tmp_path):
    pairs, names = voc_items(tree)
    for chosen in (slice(None), slice(None, None, -1), slice(0, 2)):
        load_or_build_index(pairs[chosen], names[chosen], [tmp_path], log=lambda text: None)
    decoded.clear()
    backwards = load_or_build_index(pairs[::-1], names[::-1], [tmp_path], log=lambda text: None)
    assert not decoded
    assert np.array_equal(backwards.presence, build(tree).presence[::-1])


def test_cache_beside_the_data_moves_with_it(tree, decoded):
    build(tree, tree / '.mmseg_cil')
    shutil.move(tree, tree.with_name('moved'))
    decoded.clear()
    build(tree.with_name('moved'), tree.with_name('moved') / '.mmseg_cil')
    assert not decoded


def test_same_names_in_another_folder_share_no_cache(tree, tmp_path):
    """Two label sets of the same images may well agree in size and time."""
    other = tmp_path / 'other'
    voc_tree(other, {name: [11] for name in CONTENTS})
    build(tree, tmp_path / 'cache')
    assert build(other, tmp_path / 'cache').presence[:, 11].all()


@pytest.mark.parametrize('harm', ['empty', 'cut', 'flipped', 'foreign', 'wrong shape'])
def test_harmed_cache_is_rebuilt_with_a_warning(tree, decoded, tmp_path, harm):
    cache = tmp_path / 'cache'
    expected = build(tree, cache).presence
    file = next(cache.glob('index_*.npz'))
    content = bytearray(file.read_bytes())
    if harm == 'empty':
        content.clear()
    elif harm == 'cut':
        del content[len(content) // 2 :]
    elif harm == 'flipped':
        with np.load(file) as arrays:
            rows = dict(arrays)
        # Uncompressed, so that the flip surely hits the presence itself.
        np.savez(file, **rows)
        content = bytearray(file.read_bytes())
        place = content.index(rows['presence'].tobytes())
        content[place] ^= 0x40
    elif harm == 'foreign':
        content = b'not an index'
    else:
        with np.load(file) as arrays:
            rows = dict(arrays)
        rows['presence'] = rows['presence'][:, :-1]
        np.savez(file, **rows)
        content = file.read_bytes()
    file.write_bytes(content)
    decoded.clear()
    said = []
    assert np.array_equal(build(tree, cache, log=said.append).presence, expected)
    assert len(decoded) == len(CONTENTS)
    assert any('WARNING' in text and str(file) in text for text in said)
    decoded.clear()
    build(tree, cache)
    assert not decoded


def test_first_writable_folder_holds_the_cache(tree, decoded, tmp_path):
    (tmp_path / 'file').write_text('no folder')
    unwritable, second = tmp_path / 'file/cache', tmp_path / 'second'
    build(tree, unwritable, second)
    assert list(second.glob('index_*.npz'))
    decoded.clear()
    build(tree, unwritable, second)
    assert not decoded


def test_without_a_writable_folder_the_index_is_built_and_it_is_said(tree, tmp_path):
    (tmp_path / 'file').write_text('no folder')
    said = []
    index = build(tree, tmp_path / 'file/cache', log=said.append)
    assert index.presence.any(axis=1).all()
    assert any('no cache folder can be written' in text for text in said)


def test_full_disk_keeps_the_former_cache_and_goes_on(tree, tmp_path, monkeypatch):
    cache = tmp_path / 'cache'
    build(tree, cache)
    before = next(cache.glob('index_*.npz')).read_bytes()
    save_mask(tree / 'SegmentationClass/a.png', draw_mask([4, 6]))
    later(tree / 'SegmentationClass/a.png')

    def full(*args, **kwargs):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(np, 'savez_compressed', full)
    said = []
    index = build(tree, cache, log=said.append)
    assert index.presence[0, 4]
    assert any('No space left' in text for text in said)
    assert next(cache.glob('index_*.npz')).read_bytes() == before


def _build_at_once(tree, cache, barrier, results):
    count = 0
    original = class_index.read_mask

    def counting(path, content, decode):
        nonlocal count
        count += decode
        return original(path, content, decode)

    class_index.read_mask = counting
    barrier.wait()
    index = build(tree, cache)
    results.put((count, index.presence.tobytes()))


def test_processes_starting_at_once_build_one_index(tmp_path):
    contents = {f'{number:03d}': [0, number % 20 + 1] for number in range(60)}
    voc_tree(tmp_path / 'voc', contents)
    context = multiprocessing.get_context('fork')
    barrier, results = context.Barrier(3), context.Queue()
    arguments = (tmp_path / 'voc', tmp_path / 'cache', barrier, results)
    processes = [context.Process(target=_build_at_once, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    found = [results.get(timeout=30) for _ in processes]
    for process in processes:
        process.join()
    assert len({presence for _, presence in found}) == 1
    # The lock let one do the work for all.
    assert sorted(count for count, _ in found) == [0, 0, 60]
    assert not list((tmp_path / 'cache').glob('*.tmp'))


def cut(path, keep):
    path.write_bytes(path.read_bytes()[:keep])


def test_missing_files_are_named(tree):
    (tree / 'SegmentationClass/a.png').unlink()
    with pytest.raises(InputError, match=r'1 of 5 .*\n.*image without mask: .*a\.jpg'):
        build(tree)
    pairs, names = voc_items(tree)
    (tree / 'JPEGImages/b.jpg').unlink()
    with pytest.raises(InputError) as error:
        load_or_build_index(pairs, names)
    assert '2 of 5' in str(error.value)
    assert f'missing image: {tree}/JPEGImages/b.jpg' in str(error.value)


@pytest.mark.parametrize('suffix', ['jpg', 'png'])
def test_truncated_image_is_refused(tmp_path, suffix):
    image = tmp_path / f'x.{suffix}'
    save_image(image)
    save_mask(tmp_path / 'x_mask.png', draw_mask([0]))
    pair = [(str(image), str(tmp_path / 'x_mask.png'))]
    load_or_build_index(pair, ['x'])
    cut(image, image.stat().st_size - 200)
    with pytest.raises(InputError, match=r'truncated or corrupt image: .*x\.'):
        load_or_build_index(pair, ['x'])
    image.write_bytes(b'')
    with pytest.raises(InputError, match='unreadable image'):
        load_or_build_index(pair, ['x'])


def test_whole_images_of_a_large_dataset_are_not_decoded(tree, monkeypatch):
    monkeypatch.setattr(class_index, '_to_decode', lambda todo, sizes: frozenset())

    def refuse(path):
        raise AssertionError('decoded a whole image')

    monkeypatch.setattr(file_checks, '_decode_fully', refuse)
    index = build(tree)
    assert index.names == list(CONTENTS) and index.presence.any(axis=1).all()
    # Where an image does not end as it should, it would be.
    image = tree / 'JPEGImages/a.jpg'
    cut(image, image.stat().st_size - 2)
    with pytest.raises(InputError, match='decoded a whole image'):
        build(tree)


def test_image_followed_by_other_bytes_is_decoded_and_accepted(tree, monkeypatch):
    monkeypatch.setattr(class_index, '_to_decode', lambda todo, sizes: frozenset())
    decoded = []
    original = file_checks._decode_fully

    def counting(path):
        decoded.append(Path(path).name)
        return original(path)

    monkeypatch.setattr(file_checks, '_decode_fully', counting)
    expected = build(tree).presence
    assert not decoded
    image = tree / 'JPEGImages/a.jpg'
    image.write_bytes(image.read_bytes() + bytes(500))
    assert np.array_equal(build(tree).presence, expected)
    assert decoded == ['a.jpg']


def test_unusable_masks_are_refused(tree):
    masks = tree / 'SegmentationClass'
    rng = np.random.RandomState(0)
    noise = rng.randint(0, 21, (24, 32)).astype(np.uint8)
    save_mask(masks / 'a.png', noise)
    cut(masks / 'a.png', masks.joinpath('a.png').stat().st_size - 150)
    Image.fromarray(rng.randint(0, 9, (24, 32, 3)).astype(np.uint8)).save(masks / 'b.png')
    Image.fromarray(rng.randint(0, 999, (24, 32)).astype(np.uint16)).save(masks / 'c.png')
    save_mask(masks / 'd.png', draw_mask([0], size=(25, 32)))
    with pytest.raises(InputError) as error:
        build(tree)
    text = str(error.value)
    assert '4 of 5 images cannot be used' in text
    assert f'truncated or corrupt mask: {masks}/a.png' in text
    assert f'not single-channel 8-bit: {masks}/b.png (Pillow mode RGB: three' in text
    assert f'not single-channel 8-bit: {masks}/c.png (Pillow mode I;16: 16' in text
    assert 'd.jpg is 32x24' in text and 'd.png is 32x25' in text


def test_image_turned_by_exif_may_have_a_mask_of_the_turned_size(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / 'JPEGImages').mkdir()
    Image.new('RGB', (24, 32)).save(tmp_path / 'JPEGImages/x.jpg', exif=exif)
    save_mask(tmp_path / 'SegmentationClass/x.png', draw_mask([0, 7], size=(24, 32)))
    assert np.flatnonzero(build(tmp_path).presence[0]).tolist() == [0, 7, 255]
    Image.new('RGB', (24, 32)).save(tmp_path / 'JPEGImages/x.jpg')
    with pytest.raises(InputError, match=r'x\.jpg is 24x32'):
        build(tmp_path)


def test_many_problems_are_counted_and_ten_listed(tmp_path):
    voc_tree(tmp_path, {f'{number:02d}': [0] for number in range(14)})
    for number in range(1, 14):
        (tmp_path / f'SegmentationClass/{number:02d}.png').unlink()
    with pytest.raises(InputError) as error:
        build(tmp_path)
    text = str(error.value)
    assert '13 of 14' in text and text.count('image without mask') == 10
    assert '... and 3 more' in text and 'ann_file' in text


def test_sound_files_are_remembered_although_others_are_broken(tree, decoded, tmp_path):
    mask = tree / 'SegmentationClass/d.png'
    whole = mask.read_bytes()
    cut(mask, 40)
    with pytest.raises(InputError):
        build(tree, tmp_path / 'cache')
    mask.write_bytes(whole)
    later(mask)
    decoded.clear()
    build(tree, tmp_path / 'cache')
    assert decoded == ['d']


def test_unknown_ids_are_refused_with_files_and_known_ids():
    presence = np.zeros((3, 256), bool)
    presence[0, [0, 5, 255]] = True
    presence[1, [0, 33]] = True
    presence[2, [34, 200]] = True
    index = ClassIndex(['a', 'b', 'c'], presence)
    paths = ['m/a.png', 'm/b.png', 'm/c.png']
    with pytest.raises(InputError) as error:
        check_mask_ids(index, paths, [*range(21), 255], 'voc_15-1')
    text = str(error.value)
    assert '2 of 3 masks hold ids that voc_15-1 does not know: [33, 34, 200]' in text
    assert 'm/b.png: [33]' in text and 'm/c.png: [34, 200]' in text
    assert 'm/a.png' not in text and '0-20, 255' in text
    check_mask_ids(index, paths, range(256), 'anything')


@pytest.mark.parametrize('kind', ['JPEG', 'JPEG in .png', 'TIFF'])
def test_mask_saved_with_loss_is_refused(tree, kind):
    masks = tree / 'SegmentationClass'
    options = dict(compression='jpeg') if kind == 'TIFF' else dict(quality=95)
    with open(masks / 'b.png', 'wb') as file:
        Image.fromarray(draw_mask([0, 5])).save(file, kind.split()[0], **options)
    with pytest.raises(InputError, match=r'1 of 5 .*\n.*saved with loss: .*b\.png .*PNG'):
        build(tree)


@pytest.mark.parametrize('lossy', [False, True])
def test_jpeg_2000_with_loss_is_refused_and_without_is_read(tree, lossy):
    with open(tree / 'SegmentationClass/b.png', 'wb') as file:
        Image.fromarray(draw_mask([0, 5])).save(file, 'JPEG2000', irreversible=lossy)
    if lossy:
        with pytest.raises(InputError, match=r'saved with loss: .*b\.png \(JPEG2000\)'):
            build(tree)
    else:
        assert np.flatnonzero(build(tree).presence[1]).tolist() == [0, 5, 255]


@pytest.mark.parametrize('mode', ['RGBA', 'LA', 'PA', 'F', 'I', 'CMYK'])
def test_mask_of_another_mode_is_refused_by_name(tree, mode):
    path = tree / 'SegmentationClass/c.png'
    path.unlink()
    with open(path, 'wb') as file:
        Image.new(mode, (32, 24)).save(file, 'TIFF' if mode in ('F', 'I', 'CMYK', 'PA') else 'PNG')
    with pytest.raises(InputError, match=r'not single-channel 8-bit: .*c\.png \(Pillow mode '):
        build(tree)


@pytest.mark.parametrize('harm', ['cut', 'more'])
def test_jpeg_that_ends_too_early_behind_a_whole_trailer_is_refused(tree, harm, capfd):
    save_image(tree / 'JPEGImages/c.jpg', seed=5)
    image = tree / 'JPEGImages/c.jpg'
    content = image.read_bytes()
    # Bytes too many before the end are common, and harmless.
    image.write_bytes(
        {'cut': content[:-200] + b'\xff\xd9', 'more': content[:-2] + b'abc' + content[-2:]}[harm]
    )
    os.write(2, b'before\n')
    if harm == 'more':
        build(tree)
    else:
        with pytest.raises(InputError, match=r'1 of 5 .*\n.*c\.jpg \(its pixels are damaged'):
            build(tree)
    os.write(2, b'after\n')
    assert capfd.readouterr().err == 'before\nafter\n'


def test_what_others_say_while_images_are_decoded_is_not_lost(tree, monkeypatch, capfd):
    monkeypatch.setattr(jpeg_damage.cv2, 'imdecode', lambda *args: os.write(2, b'mind this\n'))
    assert jpeg_damage.damaged_jpegs([str(tree / 'JPEGImages/a.jpg'), 'not/asked.png']) == []
    assert capfd.readouterr().err == 'mind this\n'


@pytest.mark.parametrize('harm', ['no image', 'empty', 'folder', 'inside', 'empty .npy'])
def test_damaged_image_is_refused_by_name(tmp_path, harm):
    image, mask = tmp_path / f'x.{"npy" if "npy" in harm else "png"}', tmp_path / 'm.png'
    save_mask(mask, draw_mask([0]))
    if harm == 'inside':
        save_image(image)
        content = bytearray(image.read_bytes())
        content[len(content) // 2 : len(content) // 2 + 80] = bytes(80)
        image.write_bytes(content)
    elif harm == 'folder':
        image.mkdir()
    else:
        image.write_bytes(b'' if 'empty' in harm else b'<html>not found</html>')
    with pytest.raises(InputError, match=f'1 of 1 .*\n.* image: {image}'):
        load_or_build_index([(str(image), str(mask))], ['x'])
