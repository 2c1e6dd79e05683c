"""Files of weights are read as data, whoever wrote them and whatever they hold."""

import argparse
import collections
import datetime
import io
import pathlib
import pickle
import tarfile

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader, load_checkpoint
from torch import nn
from torch.serialization import add_safe_globals, clear_safe_globals, get_safe_globals

from mmseg_cil.utils import weights_files
from mmseg_cil.utils.weights_files import NotDataError, read_weights, weights_as_data

ADDRESS = 'https://nowhere.invalid/zoo/weights-0123abcd.pth'


class OwnType:
    pass


class Pickled:
    """Any function with any arguments, in a pickle."""

    def __init__(self, *recipe):
        self.recipe = recipe

    def __reduce__(self):
        return self.recipe


def saved(path, content, **options):
    torch.save(content, path, **options)
    return path


@pytest.mark.parametrize('legacy', [False, True])
@pytest.mark.parametrize('switch', [None, 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'])
def test_nothing_is_executed_and_the_function_is_named(
    tmp_path, poison, monkeypatch, legacy, switch
):
    if switch:
        monkeypatch.setenv(switch, '1')
    path = poison(tmp_path / 'a.pth', legacy=legacy, state_dict={})
    with pytest.raises(NotDataError, match=r"a\.pth .*'posix\.mkdir'.*docs/trust\.md"):
        read_weights(path)


@pytest.mark.parametrize(
    ('content', 'told'),
    [
        (Pickled(eval, ('1',)), "'eval'"),
        (Pickled(exec, ('1',)), "'exec'"),
        (Pickled(pickle.loads, (b'N.',)), "'_?pickle.loads'"),
        (Pickled(__import__, ('antigravity',)), "'__import__'"),
        (Pickled(io.open, ('x', 'w')), "'_?io.open'"),
        (nn.Conv2d(1, 1, 1), "'torch.nn.modules.conv.Conv2d'"),
        (OwnType(), "'.*test_weights_files.OwnType'"),
        (np.array([{}], object), 'NumPy array of the type'),
        (np.zeros(2, [('a', 'f4')]), 'NumPy array of the type'),
        (Pickled(np.dtype, ('O',)), 'NumPy array of the type'),
        (Pickled(np.dtype, (Pickled(np.dtype, ('O',)),)), 'NumPy array of the type'),
    ],
)
def test_what_is_no_data_is_refused_by_name(tmp_path, content, told):
    with pytest.raises(NotDataError, match=told):
        read_weights(saved(tmp_path / 'a.pth', {'state_dict': {}, 'more': content}))


def test_a_data_type_that_lies_about_its_bytes_is_refused(tmp_path):
    """Objects flagged as numbers would have NumPy take bytes of the file for addresses."""

    class Dtype:
        def __reduce__(self):
            fields = {'a': (np.dtype('f8'), 0)}
            return np.dtype, ('V8', False, True), (3, '|', None, ('a',), fields, 8, 1, 0)

    with pytest.raises(NotDataError, match='NumPy array'):
        read_weights(saved(tmp_path / 'a.pth', [Dtype()]))

    class Records:
        def __reduce__(self):
            fields = {'a': (np.dtype('f8'), 0)}
            return np.dtype, ('f8', False, True), (3, '<', None, ('a',), fields, 8, 1, 0)

    with pytest.raises(NotDataError, match='NumPy array of records'):
        read_weights(saved(tmp_path / 'a.pth', [Records()]))


def test_attributes_of_what_is_allowed_are_out_of_reach(tmp_path):
    # MMEngine's own list of safe functions has getattr, and so all of Python.
    content = {
        'kept': 1,
        'reached': Pickled(getattr, (HistoryBuffer, '__init__')),
        'nested': [{'deep': Pickled(getattr, (HistoryBuffer, '_set_default_statistics'))}],
    }
    assert read_weights(saved(tmp_path / 'a.pth', content)) == {'kept': 1, 'nested': [{}]}


@pytest.mark.parametrize('legacy', [False, True])
def test_files_of_the_model_zoos_are_read(tmp_path, legacy):
    content = {
        'state_dict': collections.OrderedDict(weight=torch.arange(3.0)),
        'meta': {
            'cfg': ConfigDict(model=dict(depth=18)),
            'time': datetime.datetime(2024, 1, 2, 3),
            'left': datetime.timedelta(seconds=5),
            'torch_version': torch.__version__,
            'mIoU': np.float64(0.5),
            'seed': np.int64(3),
            'CLASSES': ('a', 'b'),
            'args': argparse.Namespace(lr=0.1, out=pathlib.Path('work/a')),
            'counts': collections.defaultdict(int, a=1),
            'parts': slice(0, 2),
            'palette': np.arange(6, dtype=np.uint8).reshape(2, 3),
            'turned': np.asfortranarray(np.arange(6.0).reshape(2, 3)),
            'names': np.array(['ab', 'c']),
            'swapped': np.array([1, 2], '>i4'),
            'none': np.zeros((0, 4), np.float32),
            'scalar': np.array(3.5),
        },
        'message_hub': {'log_scalars': {'loss': HistoryBuffer([1.0, 3.0], [1, 1])}},
    }
    read = read_weights(
        saved(tmp_path / 'a.pth', content, _use_new_zipfile_serialization=not legacy)
    )
    assert torch.equal(read['state_dict']['weight'], torch.arange(3.0))
    meta = read['meta']
    for key in ('palette', 'turned', 'names', 'swapped', 'none', 'scalar'):
        assert np.array_equal(meta[key], content['meta'][key]), key
    assert meta['palette'].dtype == np.uint8 and meta['none'].dtype == np.float32
    for key in ('time', 'left', 'torch_version', 'mIoU', 'seed', 'CLASSES', 'counts', 'parts'):
        assert meta[key] == content['meta'][key], key
    assert meta['cfg'] == {'model': {'depth': 18}}
    history = read['message_hub']['log_scalars']['loss']
    assert type(history) is HistoryBuffer and history.mean() == 2.0
    # Weights that were read can be saved, and read again.
    again = read_weights(saved(tmp_path / 'b.pth', read))
    assert np.array_equal(again['meta']['palette'], content['meta']['palette'])


def test_only_our_list_counts_and_that_of_others_stays(tmp_path):
    path = saved(tmp_path / 'a.pth', {'a': OwnType()})
    before = get_safe_globals()
    add_safe_globals([OwnType])
    try:
        with pytest.raises(NotDataError, match='OwnType'):
            read_weights(path)
        assert OwnType in get_safe_globals()
        assert isinstance(torch.load(path, weights_only=True)['a'], OwnType)
    finally:
        clear_safe_globals()
        add_safe_globals(before)


def tar(path):
    with tarfile.open(path, 'w') as file:
        for name in ('storages', 'tensors', 'pickle'):
            file.addfile(tarfile.TarInfo(name))


@pytest.mark.parametrize(
    ('write', 'told'),
    [
        (lambda path: path.write_text('version https://git-lfs.github.com/spec/v1\n'), 'git-lfs'),
        (lambda path: path.write_text('<!DOCTYPE html>'), 'no file of PyTorch'),
        (lambda path: path.write_bytes(b''), 'it is empty'),
        (lambda path: np.savez(path.open('wb'), a=np.zeros(3)), 'archive'),
        (
            lambda path: (
                saved(path, {'a': torch.zeros(99)}) and path.write_bytes(path.read_bytes()[:-60])
            ),
            'zip archive',
        ),
        (lambda path: torch.jit.save(torch.jit.script(nn.ReLU()), path), 'TorchScript'),
        (tar, 'tar format'),
        (lambda path: saved(path, {'a': 1}, pickle_protocol=4), 'another pickle protocol'),
        (lambda path: path.write_bytes(pickle.dumps({'a': 1}, 4)), 'another pickle protocol'),
    ],
)
@pytest.mark.filterwarnings('ignore')
def test_other_files_are_told_in_one_line_without_bad_advice(tmp_path, write, told):
    write(tmp_path / 'a.pth')
    with pytest.raises((NotDataError, pickle.UnpicklingError), match=told) as error:
        read_weights(tmp_path / 'a.pth')
    assert 'weights_only` set to `False' not in str(error.value)
    assert '\n' not in str(error.value)


def test_mmengine_reads_as_data_in_the_block_from_anywhere(tmp_path, poison, monkeypatch):
    home = tmp_path / 'home'
    monkeypatch.setenv('MMENGINE_HOME', str(home))
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    poison(home / 'own.pth')
    (home / 'open_mmlab.json').write_text(f'{{"own": "own.pth", "far": "{ADDRESS}"}}')
    # A file that was fetched before is not fetched again.
    poison(tmp_path / 'torch/hub/checkpoints/weights-0123abcd.pth')
    local = poison(tmp_path / 'local.pth')
    loaders = dict(CheckpointLoader._schemes)
    for source in (local, 'open-mmlab://own', 'openmmlab://own', 'open-mmlab://far', ADDRESS):
        with weights_as_data(), pytest.raises(NotDataError, match=r'posix\.mkdir'):
            CheckpointLoader.load_checkpoint(source)
        with weights_as_data(), pytest.raises(NotDataError, match=r'posix\.mkdir'):
            load_checkpoint(nn.Linear(1, 1), source)
    assert CheckpointLoader._schemes == loaders


def test_mmengine_reads_what_it_read_before(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    cached = tmp_path / 'torch/hub/checkpoints/weights-0123abcd.pth'
    cached.parent.mkdir(parents=True)
    saved(cached, {'state_dict': {'backbone.a': torch.ones(1), 'head.b': torch.ones(1)}})
    monkeypatch.setitem(weights_files.ZOOS, 'mmcls://', lambda: {'own': ADDRESS})
    with weights_as_data():
        assert list(CheckpointLoader.load_checkpoint(ADDRESS)['state_dict']) == [
            'backbone.a',
            'head.b',
        ]
        assert list(CheckpointLoader.load_checkpoint('mmcls://own')['state_dict']) == ['a']
        assert list(CheckpointLoader.load_checkpoint(str(cached))['state_dict']) == [
            'backbone.a',
            'head.b',
        ]
