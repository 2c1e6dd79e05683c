"""The embedded dataset: what is drawn, and the folder it is kept in."""

import hashlib
import json
import multiprocessing

import numpy as np
import pytest
from dataset_fakes import LOAD, PACK
from PIL import Image

from mmseg_cil.datasets import IncrementalDataset, shapes
from mmseg_cil.datasets.embedded import EmbeddedShapesDataset, Recipe, provide
from mmseg_cil.errors import InputError

SMALL = Recipe(train=24, val=20, image_size=48, seed=3)


def digest(arrays):
    content = hashlib.sha256()
    for array in arrays:
        content.update(np.ascontiguousarray(array).tobytes())
    return content.hexdigest()


def drawn(count=8, seed=0, split=0, size=96):
    return [part for row in range(count) for part in shapes.draw_sample(seed, split, row, size)]


def test_a_seed_gives_the_same_pixels_for_ever():
    # A change here changes every demo: raise embedded.VERSION with it.
    assert digest(drawn()) == ('f438e502c4b96b5d61e832f827ae5a220c7e72ff168b7b369ac98d5cccac3124')
    assert digest(drawn()) == digest(drawn())
    others = [drawn(seed=1), drawn(split=1), drawn(size=64)]
    assert len({digest(arrays) for arrays in [drawn(), *others]}) == 4


def test_drawing_leaves_the_random_state_alone():
    np.random.seed(1)
    expected = np.random.rand()
    np.random.seed(1)
    drawn(1)
    assert np.random.rand() == expected


def test_every_class_is_one_pair_of_shape_and_texture():
    pairs = [shapes.class_parts(class_id) for class_id in range(1, 21)]
    assert len(set(pairs)) == 20
    assert len({shape for shape, _ in pairs}) * len({texture for _, texture in pairs}) == 20
    assert len(set(shapes.CLASSES)) == len(shapes.palette()) == shapes.NUM_CLASSES == 21
    # Whatever a step of 10 and two of 5 add, no shape and no texture is new then.
    assert {shape for shape, _ in pairs[:10]} == set(shapes.SHAPES)
    assert {texture for _, texture in pairs[:10]} == set(shapes.TEXTURES)


def test_twenty_pictures_in_a_row_show_every_class():
    for start in (0, 7):
        masks = [shapes.draw_sample(0, 1, start + row)[1] for row in range(20)]
        found = {int(value) for mask in masks for value in np.unique(mask)}
        assert found == {*range(21), 255}


def test_shapes_occlude_each_other_and_have_thin_void_borders():
    masks = [shapes.draw_sample(0, 0, row)[1] for row in range(40)]
    touching = 0
    for mask in masks:
        kinds = set(np.unique(mask)) - {0, 255}
        assert kinds and (mask == 0).mean() > 0.1
        # Void is a line: no pixel lies deep in it ...
        void = mask == 255
        assert 0.005 < void.mean() < 0.25
        deep = void.copy()
        for shift in (1, 2):
            for axis in (0, 1):
                deep &= np.roll(void, shift, axis) & np.roll(void, -shift, axis)
        assert deep.mean() < 0.01
        # ... and it parts every shape from what lies beside it.
        for first, second in ((mask[:, :-1], mask[:, 1:]), (mask[:-1], mask[1:])):
            assert ((first == second) | (first == 255) | (second == 255)).all()
        # Two classes on both sides of one border: one lies over the other.
        for step in (2, 3):
            a, b = mask[:, :-step], mask[:, step:]
            touching += bool(((a != b) & (a % 255 > 0) & (b % 255 > 0)).any())
    assert touching > 20


def test_colour_tells_nothing_of_the_class():
    """Mean colours of the classes are close, compared with the spread within a class."""
    colours = {class_id: [] for class_id in range(1, 21)}
    for row in range(150):
        picture, mask = shapes.draw_sample(0, 0, row)
        for class_id in set(np.unique(mask).tolist()) - {0, 255}:
            colours[class_id].append(picture[mask == class_id].mean(axis=0))
    means = np.array([np.mean(values, axis=0) for values in colours.values()])
    within = np.mean([np.std(values, axis=0) for values in colours.values()])
    assert means.std(axis=0).max() < within


def make(folder, split='train', recipe=SMALL, **kwargs):
    return EmbeddedShapesDataset(
        data_root=str(folder),
        split=split,
        num_images=(recipe.train, recipe.val),
        image_size=recipe.image_size,
        seed=recipe.seed,
        **kwargs,
    )


def test_files_are_a_voc_tree_of_the_drawn_arrays(tmp_path):
    folder = tmp_path / 'shapes'
    datasets = [make(folder), make(folder, 'val')]
    assert [len(dataset) for dataset in datasets] == [24, 20]
    for number, dataset in enumerate(datasets):
        info = dataset.get_data_info(5)
        picture, mask = shapes.draw_sample(3, number, 5, 48)
        assert np.array_equal(np.asarray(Image.open(info['img_path'])), picture)
        stored = Image.open(info['seg_map_path'])
        assert stored.mode == 'P' and np.array_equal(np.asarray(stored), mask)
    assert {path.name for path in folder.iterdir()} == {
        'JPEGImages', 'SegmentationClass', 'ImageSets', 'embedded_shapes.json',
    }  # fmt: skip
    assert datasets[0].metainfo['classes'] == shapes.CLASSES


def test_one_number_gives_both_splits():
    assert EmbeddedShapesDataset(num_images=200, lazy_init=True).recipe == Recipe(200, 50)
    assert EmbeddedShapesDataset(num_images=40, lazy_init=True).recipe == Recipe(40, 20)
    assert EmbeddedShapesDataset(lazy_init=True).recipe == Recipe()


def test_nothing_is_drawn_before_the_list_is_read(tmp_path):
    dataset = make(tmp_path / 'shapes', lazy_init=True)
    assert not (tmp_path / 'shapes').exists()
    assert len(dataset) == 24


def test_folder_is_reused_while_it_matches(tmp_path):
    folder = tmp_path / 'a/shapes'
    provide(folder, SMALL)
    before = (folder / 'embedded_shapes.json').stat().st_mtime_ns
    provide(folder, SMALL)
    assert (folder / 'embedded_shapes.json').stat().st_mtime_ns == before


@pytest.mark.parametrize('harm', ['recipe', 'version', 'files'])
def test_folder_is_drawn_anew_when_it_does_not_match(tmp_path, harm):
    folder = tmp_path / 'shapes'
    provide(folder, SMALL)
    (folder / '.mmseg_cil').mkdir()
    marker = folder / 'embedded_shapes.json'
    recipe = SMALL
    if harm == 'recipe':
        recipe = Recipe(train=20, val=20, image_size=48, seed=4)
    elif harm == 'version':
        marker.write_text(json.dumps({**json.loads(marker.read_text()), 'version': -1}))
    else:
        (folder / 'JPEGImages/train_00003.png').unlink()
    provide(folder, recipe)
    assert recipe.matches(folder)
    assert not (folder / '.mmseg_cil').exists()
    leftover = {path.name for path in tmp_path.iterdir()} - {'shapes', '.shapes.lock'}
    assert not leftover


def test_other_folders_are_never_replaced(tmp_path):
    foreign = tmp_path / 'mine'
    foreign.mkdir()
    (foreign / 'thesis.txt').write_text('years of work')
    with pytest.raises(InputError, match=r'thesis\.txt'):
        provide(foreign, SMALL)
    ours = tmp_path / 'shapes'
    provide(ours, SMALL)
    (ours / 'notes.txt').write_text('do not lose this')
    with pytest.raises(InputError, match=r'notes\.txt'):
        provide(ours, Recipe(20, 20, 48, 9))
    voc = tmp_path / 'voc'
    (voc / 'JPEGImages').mkdir(parents=True)
    with pytest.raises(InputError, match='JPEGImages'):
        provide(voc, SMALL)
    (tmp_path / 'empty').mkdir()
    provide(tmp_path / 'empty', SMALL)
    assert (foreign / 'thesis.txt').exists() and (ours / 'notes.txt').exists()


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(self, folder):
        folder.mkdir()
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(Recipe, 'write', fail)
    with pytest.raises(OSError, match='No space'):
        provide(tmp_path / 'shapes', SMALL)
    assert {path.name for path in tmp_path.iterdir()} <= {'.shapes.lock'}


def _provide_at_once(folder, barrier, results):
    drawings = []
    original = Recipe.write
    Recipe.write = lambda self, place: (drawings.append(1), original(self, place))
    barrier.wait()
    provide(folder, SMALL)
    results.put((len(drawings), SMALL.matches(folder)))


def test_processes_starting_at_once_draw_once(tmp_path):
    context = multiprocessing.get_context('fork')
    barrier, results = context.Barrier(3), context.Queue()
    arguments = (tmp_path / 'shapes', barrier, results)
    processes = [context.Process(target=_provide_at_once, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    found = sorted(results.get(timeout=30) for _ in processes)
    for process in processes:
        process.join()
    assert found == [(0, True), (0, True), (1, True)]


def test_impossible_arguments_are_refused():
    for wrong in (dict(split='test'), dict(num_images=0), dict(image_size=8), dict(seed=-1)):
        with pytest.raises(InputError, match='EmbeddedShapesDataset'):
            EmbeddedShapesDataset(lazy_init=True, **wrong)
    with pytest.raises(InputError, match='num_images'):
        EmbeddedShapesDataset(lazy_init=True, num_images=(1, 2, 3))


def test_a_protocol_walks_over_it(tmp_path):
    config = dict(
        type='EmbeddedShapesDataset', data_root=str(tmp_path / 'shapes'), num_images=[60, 20],
        image_size=48, pipeline=[*LOAD, PACK],
    )  # fmt: skip
    protocol = dict(name='voc_11-5')
    sizes = [len(IncrementalDataset(config, protocol, step, 'train')) for step in range(3)]
    assert min(sizes) >= 15
    last = IncrementalDataset(dict(config, split='val'), protocol, 2, 'test')
    assert len(last) == 20 and last.metainfo['classes'] == shapes.CLASSES
