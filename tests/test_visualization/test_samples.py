import json

import numpy as np
import pytest
from PIL import Image

from mmseg_cil.errors import InputError
from mmseg_cil.visualization.samples import (
    colour_mask,
    read_image,
    read_mask,
    read_samples,
    write_prediction,
    write_sample,
)

IMAGE = np.full((4, 6, 3), 90, np.uint8)
TRUTH = np.arange(24).reshape(4, 6)


def test_what_is_written_is_read_back(tmp_path):
    truth = TRUTH.copy()
    truth[0, 0] = 255
    write_sample(tmp_path, 'a', IMAGE, truth)
    write_sample(tmp_path, 'b.c-1', IMAGE, TRUTH)
    write_sample(tmp_path, 'a', IMAGE, truth)
    write_prediction(tmp_path / 'step_00', 'a', TRUTH.astype(np.int64))
    index = json.loads((tmp_path / 'report/samples.json').read_text())
    expected = {'name': 'a', 'image_path': 'report/samples/a.jpg'}
    assert expected | {'truth': 'report/samples/a_truth.png'} in index
    samples = {sample.name: sample for sample in read_samples(tmp_path)}
    assert sorted(samples) == ['a', 'b.c-1']
    np.testing.assert_array_equal(read_mask(samples['a'].truth), truth)
    assert np.abs(read_image(samples['a'].image).astype(int) - 90).max() <= 2
    np.testing.assert_array_equal(read_mask(tmp_path / 'step_00/predictions/a.png'), TRUTH)
    with Image.open(tmp_path / 'step_00/predictions/a.png') as picture:
        assert picture.mode == 'L'


@pytest.mark.parametrize('name', ['a/b', '../a', '', '.a', 'a b'])
def test_names_that_are_no_file_names_are_refused(tmp_path, name):
    with pytest.raises(InputError, match='no name for a sample'):
        write_sample(tmp_path, name, IMAGE, TRUTH)


@pytest.mark.parametrize(
    ('image', 'truth', 'message'),
    [
        (IMAGE[:3], TRUTH, 'image a: got'),
        (IMAGE.astype(float), TRUTH, 'image a: got'),
        (IMAGE, TRUTH + 300, 'do not fit'),
        (IMAGE, TRUTH - 1, 'do not fit'),
        (IMAGE, TRUTH / 2, 'need integers'),
        (IMAGE, TRUTH[None], 'need integers'),
    ],
)
def test_wrong_arrays_are_refused(tmp_path, image, truth, message):
    with pytest.raises(InputError, match=message):
        write_sample(tmp_path, 'a', image, truth)
    assert not (tmp_path / 'report').exists()


def test_colours_and_void():
    mask = np.array([[0, 1, 2, 255]], np.uint8)
    painted = colour_mask(mask, [(1, 2, 3), (4, 5, 6)], (9, 9, 9))
    assert painted.tolist() == [[[1, 2, 3], [4, 5, 6], [9, 9, 9], [9, 9, 9]]]


def test_a_damaged_index_is_named(tmp_path):
    assert read_samples(tmp_path) == []
    (tmp_path / 'report').mkdir()
    for content in ('[{"name": 1}]', '{', '3'):
        (tmp_path / 'report/samples.json').write_text(content)
        with pytest.raises(InputError, match=r'samples\.json is damaged'):
            read_samples(tmp_path)
