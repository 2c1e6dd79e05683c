"""The grids of the light setting can be read, and held-out images are apart."""

import importlib.util
from pathlib import Path

import pytest
from mmengine.config import Config

LIGHT = Path(__file__).resolve().parents[2] / 'benchmarks/light'
SCRIPT = importlib.util.spec_from_file_location('hold_out', LIGHT / 'hold_out.py')
hold_out = importlib.util.module_from_spec(SCRIPT)
SCRIPT.loader.exec_module(hold_out)


MODULES = {'hold_out.py', 'light_backbone.py', 'light.py'}
GRIDS = sorted({path.name for path in LIGHT.glob('*.py')} - MODULES)


@pytest.mark.parametrize('name', GRIDS)
def test_every_grid_is_one(name):
    cfg = Config.fromfile(LIGHT / name, import_custom_modules=False)
    assert cfg.grid['seeds'] == [1, 2, 3] and cfg.protocol['name'] and cfg.crop_size == (112, 112)


def test_every_fifth_image_is_held_out():
    train, held = hold_out.split_sample([str(number) for number in range(12)])
    assert held == ['4', '9'] and len(train) == 10 and not set(train) & set(held)


def test_the_last_quarter_of_each_place_is_held_out():
    names = [f'{place}/{image}' for place, count in (('a', 5), ('b', 4)) for image in range(count)]
    train, held = hold_out.split_places(names)
    assert held == ['a/3', 'a/4', 'b/3'] and sorted(train + held) == names
