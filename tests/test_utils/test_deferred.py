"""Deferred imports give the same objects once they are used, and a walk does not use them."""

import importlib
import subprocess
import sys

import pytest
from mmengine.registry import Registry

from mmseg_cil.utils import deferred as deferring
from mmseg_cil.utils.deferred import Later, deferred

SLOW = """
KINDS = []
def twice(number):
    return 2 * number
class Kind:
    size = 3
    def __init__(self, name='none'):
        self.name = name
"""
USER = 'from slow_module import Kind, twice\n'


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """``slow_module``, and ``its_user`` that imports from it; both forgotten afterwards."""
    (tmp_path / 'slow_module.py').write_text(SLOW)
    (tmp_path / 'its_user.py').write_text(USER)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in ('slow_module', 'its_user'):
        sys.modules.pop(name, None)


WAITING = {'slow_module': ('Kind', 'twice')}


def user():
    with deferred(WAITING):
        return importlib.import_module('its_user')


@pytest.mark.parametrize(
    'use',
    [
        lambda found: found.twice(4) == 8,
        lambda found: found.Kind('mine').name == 'mine',
        lambda found: found.Kind.size == 3,
    ],
)
def test_a_module_is_imported_when_something_of_it_is_used(use, modules):
    found = user()
    assert 'slow_module' not in sys.modules
    assert use(found)
    assert 'slow_module' in sys.modules


def test_a_class_that_waits_can_be_derived_from_and_asked_for_instances(modules):
    found = user()
    assert not isinstance(3, found.Kind) and not issubclass(int, found.Kind)
    assert 'slow_module' not in sys.modules

    class Own(found.Kind):
        pass

    import slow_module

    assert Own.__mro__[1] is slow_module.Kind
    assert isinstance(Own(), found.Kind) and issubclass(Own, found.Kind)
    assert isinstance(slow_module.Kind(), (int, found.Kind)) and not isinstance(3, found.Kind)


def test_a_name_that_is_not_listed_is_imported_at_once(modules):
    with deferred({'slow_module': ('twice',)}):
        found = importlib.import_module('its_user')
        assert found.Kind is sys.modules['slow_module'].Kind
    assert isinstance(found.twice, Later) and found.twice(1) == 2


def test_a_module_that_is_there_already_stays(modules):
    slow = importlib.import_module('slow_module')
    assert user().twice is slow.twice


def test_a_registry_gives_the_class_that_waits(modules, monkeypatch, tmp_path):
    kinds = Registry('kinds')
    monkeypatch.setitem(deferring.REGISTRIES, 'Kind', kinds)
    monkeypatch.setattr('builtins.the_kinds', kinds, raising=False)
    text = SLOW.replace('class Kind', '@the_kinds.register_module()\nclass Kind')
    (tmp_path / 'slow_module.py').write_text(text)
    found = user()
    assert 'Kind' in kinds.module_dict and 'slow_module' not in sys.modules
    built = kinds.build(dict(type='Kind', name='built'))
    assert built.name == 'built' and isinstance(built, found.Kind)
    assert kinds.get('Kind') is sys.modules['slow_module'].Kind


FRESH = """
import sys
import torch
import mmseg_cil.engine.commands, mmseg_cil.methods
from mmseg_cil.registry import OPTIMIZERS, MODEL_WRAPPERS, VISUALIZERS
from mmseg_cil.utils.later_figure import figures_later

with figures_later():
    VISUALIZERS.build(dict(type='SegLocalVisualizer', name='one'))
heavy = ('sympy', 'torch._dynamo', 'torch.distributed.tensor', 'scipy.ndimage', 'scipy.optimize',
         'scipy.interpolate', 'mmseg.utils.tokenizer', 'yapf', 'matplotlib.figure',
         'torch_geometric')
print(*[name for name in heavy if name in sys.modules], sep=',')

import numpy
from mmseg.datasets.transforms import transforms
from mmseg.models.assigners import hungarian_assigner
from mmseg.models.backbones import beit
from mmseg.models.losses import huasdorff_distance_loss
from mmseg.utils import tokenize
assert transforms.gaussian_filter(numpy.eye(3), 1.0).shape == (3, 3)
assert huasdorff_distance_loss.distance(numpy.eye(3)).max() == 1
assert hungarian_assigner.linear_sum_assignment([[2, 1], [1, 3]])[1].tolist() == [1, 0]
assert beit.interpolate.interp1d([0, 1], [0, 2])(0.5) == 1
assert tokenize(['a dog']).shape == (1, 77)

from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.optim import ZeroRedundancyOptimizer
from mmengine.model import is_model_wrapper
assert issubclass(OPTIMIZERS.get('ZeroRedundancyOptimizer'), ZeroRedundancyOptimizer)
assert issubclass(MODEL_WRAPPERS.get('MMFullyShardedDataParallel'), FullyShardedDataParallel)
assert not is_model_wrapper(torch.nn.Linear(1, 1))
"""


@pytest.mark.walk
def test_a_walk_imports_no_heavy_module_that_it_does_not_use():
    """And all of them work once they are used."""
    done = subprocess.run([sys.executable, '-c', FRESH], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines() == ['']
