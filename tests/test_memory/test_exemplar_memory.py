"""Settings of a memory, and the file that it is kept in."""

import json

import pytest

from mmseg_cil.errors import InputError
from mmseg_cil.memory.memory import ExemplarMemory, MemorySettings


@pytest.fixture
def memory():
    lists = {'cat': ('b', 'a'), 'dog': ('a', 'c'), 'cow': ()}
    return ExemplarMemory('f00d', dict(budget=3), 2, lists, dict(a=1, b=0, c=1))


def test_what_is_written_is_what_is_read(memory, tmp_path):
    path = tmp_path / 'exemplars.json'
    memory.save(path)
    assert ExemplarMemory.load(path) == memory
    assert memory.names == ['b', 'a', 'c']
    content = json.loads(path.read_text())
    assert content['images'][1] == {'name': 'a', 'step': 1, 'kept_for': {'cat': 1, 'dog': 0}}
    assert content['groups'] == {'cat': 2, 'dog': 2, 'cow': 0}


@pytest.mark.parametrize(
    'damage',
    [
        lambda content: content.update(format=9),
        lambda content: content.pop('choice'),
        lambda content: content['images'].pop(),
        lambda content: content['images'][0].update(kept_for={}),
        lambda content: content['images'].append(content['images'][0]),
        lambda content: content.update(images=3),
    ],
)
def test_a_damaged_file_is_refused(memory, damage, tmp_path):
    path = tmp_path / 'exemplars.json'
    memory.save(path)
    content = json.loads(path.read_text())
    damage(content)
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r'exemplars\.json is missing or damaged .* restore it'):
        ExemplarMemory.load(path)


def test_half_a_file_and_no_file_are_refused(memory, tmp_path):
    path = tmp_path / 'exemplars.json'
    with pytest.raises(InputError, match='missing or damaged'):
        ExemplarMemory.load(path)
    memory.save(path)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(InputError, match='missing or damaged'):
        ExemplarMemory.load(path)


@pytest.mark.parametrize(
    'config, message',
    [
        (dict(budget=0), 'at least 1'),
        (dict(budget=-3), 'at least 1'),
        (dict(budget='many'), 'at least 1'),
        (dict(budget=True), 'at least 1'),
        (dict(budget=5, selection='best'), "selection must be one of .* got 'best'"),
        (dict(budget=5, per='image'), 'per must be one of'),
        (dict(budget=5, labels='none'), 'labels must be one of'),
        (dict(budget=5, ratio=0), 'between 0 and 1'),
        (dict(budget=5, ratio=1.0), 'between 0 and 1'),
        (dict(budget=5, seed='x'), 'seed'),
        (dict(budget=5, size=3), 'dict with a budget'),
        (dict(selection='random'), 'dict with a budget'),
        (100, 'dict with a budget'),
    ],
)
def test_wrong_settings_are_refused(config, message):
    with pytest.raises(InputError, match=message):
        MemorySettings.from_config(config)


def test_a_choice_holds_what_the_images_depend_on():
    assert MemorySettings.from_config(None) is None
    herding = MemorySettings.from_config(dict(budget=5, ratio=0.5, labels='at_storage'))
    assert herding.choice(run_seed=3) == dict(budget=5, per='total', selection='herding')
    drawn = MemorySettings(5, selection='random')
    assert drawn.is_one_pool and drawn.choice(3)['seed'] == 3
    assert MemorySettings(5, selection='random', seed=0).choice(3)['seed'] == 0
    assert not MemorySettings(5, per='class', selection='random').is_one_pool
