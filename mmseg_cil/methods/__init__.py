"""The methods, each in a folder of its own; nothing below imports one of them.

What the core needs of a method it finds in a registry. Importing this package imports every
folder in it, and with it registers the method's parts: a new folder needs no entry anywhere.
"""

import importlib
import pkgutil

from mmseg_cil import registry  # noqa: F401  (imports MMSegmentation, first of all)

for _room in pkgutil.iter_modules(__path__):
    importlib.import_module(f'{__name__}.{_room.name}')
