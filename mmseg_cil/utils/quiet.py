"""Importing MMSegmentation without its two standing remarks."""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
import warnings
from types import ModuleType

_REMARK = 'Could not import OneDL'


def import_quietly(name: str) -> ModuleType:
    """Imports a module of MMSegmentation; nothing but known remarks is withheld.

    They are a line on standard output about an optional platform, and a warning
    about a compiled operator that nothing here needs. Errors, other output and
    other warnings come through.
    """
    output = io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(output):
            warnings.filterwarnings('ignore', message='Fail to import ``MultiScaleDeformableAtt')
            module = importlib.import_module(name)
    finally:
        kept = [line for line in output.getvalue().splitlines() if line.strip() != _REMARK]
        if kept:
            print('\n'.join(kept), file=sys.stdout)
    return module
