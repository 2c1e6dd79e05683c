"""Incremental learning for MMSegmentation.

Importing this package is cheap: it pulls in neither torch nor MMSegmentation.
The parts register themselves when :mod:`mmseg_cil.registry` is imported and a
config is built under ``default_scope = 'mmseg_cil'``. The functions of
:mod:`mmseg_cil.api` are names of the package, imported when they are first used.
"""

import importlib

__version__ = '0.1.0'

_API = ('WalkResult', 'evaluate', 'extend', 'load_walk', 'walk')

__all__ = ['WalkResult', '__version__', 'evaluate', 'extend', 'load_walk', 'walk']


def __getattr__(name: str) -> object:
    """Return a name of the API, whose imports take seconds."""
    if name not in _API:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module('mmseg_cil.api'), name)


def __dir__() -> list[str]:
    """Return the names of the package, with those that are not imported yet."""
    return sorted({*globals(), *_API})
