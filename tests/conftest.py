"""What all tests share."""

import importlib.util
import sys
from pathlib import Path

import pytest
from mmengine.registry import DefaultScope


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
