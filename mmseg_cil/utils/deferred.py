"""Imports that wait until something of the module is used.

MMEngine and MMSegmentation import all that any of their parts may need: FSDP with PyTorch's
distributed tensors, SciPy's image functions, a tokenizer. A walk mostly needs none of these, and
they take as long to import as PyTorch itself.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmengine.registry import MODEL_WRAPPERS, OPTIMIZERS, STRATEGIES, Registry

#: Modules that wait, with the names of theirs that other modules import.
WAITING: dict[str, tuple[str, ...]] = {
    'mmengine.optim.optimizer.zero_optimizer': ('ZeroRedundancyOptimizer',),
    'mmengine.model.wrappers.fully_sharded_distributed': ('MMFullyShardedDataParallel',),
    'mmengine._strategy.fsdp': ('FSDPStrategy',),
    'mmseg.utils.tokenizer': ('tokenize',),
    'scipy.interpolate': (),
    'scipy.ndimage': ('gaussian_filter', 'distance_transform_edt'),
    'scipy.optimize': ('linear_sum_assignment',),
}
#: The registries in which importing such a module registers such a name.
REGISTRIES: dict[str, Registry] = {
    'ZeroRedundancyOptimizer': OPTIMIZERS,
    'MMFullyShardedDataParallel': MODEL_WRAPPERS,
    'FSDPStrategy': STRATEGIES,
}


class Later:
    """A function or class of a module that is imported when it is used.

    It can be called, derived from, and asked for instances and subclasses, like what it stands for.

    Args:
        module: Name of the module.
        name: Name in the module.
    """

    def __init__(self, module: str, name: str) -> None:
        self.__module__, self.__name__ = module, name

    def load(self) -> Any:
        """Import the module, and return the function or class."""
        kinds = REGISTRIES.get(self.__name__)
        if kinds is not None and dict.get(kinds.module_dict, self.__name__) is self:
            # The module registers the class itself.
            kinds.module_dict.pop(self.__name__)
        if isinstance(sys.modules.get(self.__module__), _LaterModule):
            del sys.modules[self.__module__]
        return getattr(importlib.import_module(self.__module__), self.__name__)

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Call the function, or make an instance of the class."""
        return self.load()(*args, **options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__'):
            raise AttributeError(name)
        return getattr(self.load(), name)

    def __mro_entries__(self, bases: tuple[object, ...]) -> tuple[type, ...]:
        return (self.load(),)

    def __instancecheck__(self, instance: object) -> bool:
        return self.__module__ in sys.modules and isinstance(instance, self.load())

    def __subclasscheck__(self, kind: type) -> bool:
        return self.__module__ in sys.modules and issubclass(kind, self.load())

    def __repr__(self) -> str:
        return f'<{self.__module__}.{self.__name__}, not imported yet>'


class _LaterModule(types.ModuleType):
    """A module of which nothing is imported before it is used."""

    def __init__(self, name: str, names: Sequence[str]) -> None:
        super().__init__(name)
        self.__dict__.update({each: Later(name, each) for each in names})

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__'):
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


class _Loading(dict):
    """Parts by name, as a registry holds them; looking up a part that waits imports it."""

    def __getitem__(self, name: str) -> Any:
        found = super().__getitem__(name)
        if isinstance(found, Later):
            found = found.load()
            self[name] = found
        return found


@contextlib.contextmanager
def deferred(waiting: Mapping[str, Sequence[str]] = WAITING) -> Iterator[None]:
    """Let modules that are imported in the block wait until something of theirs is used.

    A module that is imported already stays as it is, and so does one of which the block needs a
    name that is not listed.

    Args:
        waiting: Names of modules, each with the names of theirs that the block imports.
    """
    stubs = {
        name: _LaterModule(name, names)
        for name, names in waiting.items()
        if name not in sys.modules
    }
    sys.modules.update(stubs)
    try:
        yield
    finally:
        for name, stub in stubs.items():
            if sys.modules.get(name) is stub:
                del sys.modules[name]
                _register(stub)


def _register(stub: types.ModuleType) -> None:
    """Put the classes of a module that was not imported into the registries that they belong to."""
    for later in [each for each in vars(stub).values() if isinstance(each, Later)]:
        kinds = REGISTRIES.get(later.__name__)
        if kinds is not None and later.__name__ not in kinds.module_dict:
            if not isinstance(kinds._module_dict, _Loading):
                kinds._module_dict = _Loading(kinds._module_dict)
            kinds._module_dict[later.__name__] = later
