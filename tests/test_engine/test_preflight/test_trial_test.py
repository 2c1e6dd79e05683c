"""A trial predicts test images of the sizes that a network may not like."""

import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from PIL import Image

from mmseg_cil.engine.preflight import trial_test
from mmseg_cil.engine.preflight.trial_test import different_sizes, sizes_of
from mmseg_cil.errors import InputError


def test_sizes_that_a_network_may_not_like_are_chosen():
    sizes = {0: (500, 376), 1: (500, 376), 2: (500, 333), 3: (40, 30), 4: (640, 480)}
    assert different_sizes(sizes, 4) == [0, 2, 3, 4]
    assert different_sizes(dict.fromkeys(range(9), (32, 32)), 4) == [0]
    assert different_sizes({}, 4) == [0]


class View:
    """Images in files of a folder."""

    def __init__(self, *paths):
        self.paths = paths

    def __len__(self):
        return len(self.paths)

    def get_data_info(self, index):
        return dict(img_path=str(self.paths[index]))


def test_heads_of_files_are_read_as_long_as_there_is_time(tmp_path, monkeypatch):
    Image.new('L', (4, 3)).save(tmp_path / 'a.png')
    np.save(tmp_path / 'b.npy', np.zeros(3))
    view = View(tmp_path / 'a.png', tmp_path / 'b.npy', tmp_path / 'none.png', tmp_path / 'a.png')
    assert sizes_of(view) == {0: (4, 3), 3: (4, 3)}
    monkeypatch.setattr(trial_test, 'PATIENCE', -1.0)
    assert sizes_of(view) == {}


def test_a_network_that_has_not_grown_is_refused():
    samples = [SegDataSample(seg_logits=PixelData(data=torch.zeros(3, 2, 2)))]
    trial_test._check_scores(samples, 3)
    with pytest.raises(InputError, match='gives 3 scores a pixel, and this step has 5 classes'):
        trial_test._check_scores(samples, 5)
