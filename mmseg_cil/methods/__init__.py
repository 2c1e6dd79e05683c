"""The methods, each in a folder of its own; no other package imports one of them.

The core finds the parts of a method in a registry. Importing this package imports every folder
in it and thereby registers the methods' parts: a new folder needs no entry anywhere.
"""

import importlib
import pkgutil

from mmseg_cil import registry  # noqa: F401  (imports MMSegmentation, first of all)

for _room in pkgutil.iter_modules(__path__):
    importlib.import_module(f'{__name__}.{_room.name}')
