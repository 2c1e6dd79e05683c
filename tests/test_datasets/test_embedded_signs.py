"""The second embedded data set is unlike the first, and always the same."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from mmseg_cil.datasets import embedded_signs
from mmseg_cil.datasets.embedded_signs import IDS, SIZE, VOID_ID, draw_signs, provide_signs
from mmseg_cil.errors import InputError


def test_a_seed_gives_the_same_pixels_for_ever():
    content = hashlib.sha256()
    for index in range(4):
        for part in draw_signs(0, 0, index):
            content.update(np.ascontiguousarray(part).tobytes())
    assert content.hexdigest() == (
        'f270d9cbccfd9197971d3062eff44088be2ce113785d024360ba09df6d81fe49'
    )
    assert not np.array_equal(draw_signs(0, 0, 0)[0], draw_signs(0, 1, 0)[0])


def test_pictures_show_the_new_classes_in_turn_and_nothing_else_is_labelled():
    names = list(IDS)
    for index in range(6):
        picture, mask = draw_signs(0, 0, index)
        assert picture.shape == (*SIZE[::-1], 3) and mask.shape == SIZE[::-1]
        assert {*np.unique(mask)} <= {0, VOID_ID, *IDS.values()}
        assert IDS[names[index % 2]] in mask


def test_a_folder_is_written_once_and_a_half_written_one_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded_signs, 'COUNTS', {'train': 3, 'val': 2})
    folder = provide_signs(tmp_path / 'signs')
    pictures = sorted(path.name for path in folder.glob('train/pictures/*'))
    assert pictures == ['train_000.png', 'train_001.png', 'train_002.png']
    mask = np.array(Image.open(folder / 'val/labels/val_001_ids.png'))
    assert np.array_equal(mask, draw_signs(0, 1, 1)[1])
    before = (folder / 'val/pictures/val_000.png').stat().st_mtime_ns
    provide_signs(folder)
    assert (folder / 'val/pictures/val_000.png').stat().st_mtime_ns == before
    (folder / 'train/pictures/train_000.png').unlink()
    provide_signs(folder)
    assert len(list(folder.glob('train/pictures/*'))) == 3
    # A file that is not ours is never removed.
    (folder / 'notes.txt').write_text('mine')
    (folder / 'train/pictures/train_000.png').unlink()
    with pytest.raises(InputError, match=r'notes\.txt'):
        provide_signs(folder)
    assert (folder / 'notes.txt').read_text() == 'mine'
