"""Fixtures that all tests share."""

import importlib.util
import os
import sys
from pathlib import Path

import pytest
import torch
from mmengine.registry import DefaultScope
from mmseg.models.data_preprocessor import SegDataPreProcessor

from mmseg_cil.testing.tiny import make_data


@pytest.fixture(scope='session', autouse=True)
def no_waiting_for_the_disk():
    """Data that the system has taken outlives a killed process; a test cannot end the system."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, 'fsync', lambda descriptor: None)
        yield


@pytest.fixture(autouse=True)
def no_scope_of_an_earlier_test():
    """MMEngine's default scope outlives a test; the next must not depend on it."""
    DefaultScope._instance_dict.clear()
    yield
    DefaultScope._instance_dict.clear()


@pytest.fixture
def benchmark_module(monkeypatch):
    """Imports a script of ``benchmarks/`` by its name."""

    def load(name):
        path = Path(__file__).parents[1] / f'benchmarks/{name}.py'
        spec = importlib.util.spec_from_file_location(f'benchmark_{name}', path)
        module = importlib.util.module_from_spec(spec)
        # Dataclasses look their module up there.
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def in_float64():
    """Networks and images of the test are float64."""
    forward = SegDataPreProcessor.forward

    def doubled(self, data, training=False):
        result = forward(self, data, training)
        return {**result, 'inputs': result['inputs'].double()}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SegDataPreProcessor, 'forward', doubled)
        torch.set_default_dtype(torch.float64)
        yield
        torch.set_default_dtype(torch.float32)


@pytest.fixture
def poison(tmp_path):
    """Writes files of weights that create a marker when they are unpickled without care.

    ``poison(path, **content)`` adds the poison to what the file else holds; after the test the
    marker must not be there.
    """
    import torch

    marker = tmp_path / 'executed'

    class Poison:
        def __reduce__(self):
            return os.mkdir, (str(marker),)

    def write(path, *, legacy=False, **content):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        torch.save(
            {**content, 'extra': [Poison()]}, path, _use_new_zipfile_serialization=not legacy
        )
        return str(path)

    yield write
    assert not marker.exists(), 'a file of weights was executed'


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Whatever asks for the tiny data, itself or through a fixture, is a walk."""
    for item in items:
        if 'data_root' in getattr(item, 'fixturenames', ()):
            item.add_marker(pytest.mark.walk)


@pytest.fixture(scope='session')
def data_root(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp('tiny_data'))
