"""The types that a file of weights may hold beside tensors, each built as data.

A pickled file names the classes and functions that its content is made with, and a reader
of the file calls them. PyTorch's ``weights_only=True`` knows tensors and plain containers and
refuses every other name. Files of the model zoos hold further types: a log of the training, its
config, NumPy numbers. Each name of such a type is mapped to one of the stand-ins below, which
takes the data and runs nothing of the named module; the named module is not imported.

NumPy's own constructors are not safe as stand-ins: a data type that is written as "holds objects,
but is flagged as numbers" makes them read addresses from the file. So arrays of numbers and of
text are rebuilt here, and other data types are refused. ``getattr``, which MMEngine allows, gives
a file access to all of Python; the stand-in for ``getattr`` gives nothing.
"""

from __future__ import annotations

import datetime
import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from mmengine.logging import HistoryBuffer

#: Placeholder for a function in a file; entries of dictionaries with this value are dropped.
NOT_DATA = object()
#: Kinds of NumPy data types whose bytes are values: numbers, and text of a fixed length.
_KINDS = 'biufcSU'


class PlainMapping:
    """Stand-in for types that are like a dictionary, built as an ``OrderedDict``."""

    def __new__(cls, *parts: Any) -> OrderedDict:  # type: ignore[misc]
        """Return the dictionary among the parts, or an empty one."""
        return OrderedDict(next((part for part in parts if isinstance(part, Mapping)), {}))


class PlainText:
    """Stand-in for types derived from a string and for paths, built as a ``str``."""

    def __new__(cls, *parts: Any) -> str:  # type: ignore[misc]
        """Return the parts joined as a path, or a single part as it is."""
        return '/'.join(str(part) for part in parts)


class DataType:
    """Stand-in for ``numpy.dtype``.

    Args:
        name: Name of the data type, such as ``'f8'``.
        rest: Two switches of NumPy, which are ignored.
    """

    def __init__(self, name: Any, *rest: Any) -> None:
        self.dtype = _number_type(name)

    def __setstate__(self, state: Any) -> None:
        """Take the byte order; subarrays and fields are refused."""
        if (
            not isinstance(state, tuple)
            or len(state) < 5
            or any(part is not None for part in state[2:5])
            or state[1] not in ('<', '>', '|', '=')
        ):
            raise pickle.UnpicklingError('a NumPy array of records cannot be read')
        self.dtype = self.dtype.newbyteorder(state[1])


class Array(np.ndarray):
    """Stand-in for ``numpy.ndarray``; filled by ``__setstate__`` and saved as a plain array."""

    def __new__(cls, *rest: Any) -> Array:
        """Return an empty array, whatever the arguments."""
        return super().__new__(cls, (0,), np.uint8)

    def __setstate__(self, state: Any) -> None:
        """Take shape, type and bytes."""
        if (
            not isinstance(state, tuple)
            or len(state) != 5
            or not isinstance(state[2], DataType)
            or not isinstance(state[4], bytes)
        ):
            raise pickle.UnpicklingError('a NumPy array of objects cannot be read')
        _, shape, kind, fortran, content = state
        plain: Any = (1, shape, kind.dtype, bool(fortran), content)
        super().__setstate__(plain)

    def __reduce__(self) -> Any:
        """Return the pickle form of a plain array."""
        return self.view(np.ndarray).__reduce__()


class History:
    """Stand-in for MMEngine's ``HistoryBuffer``: logged values and their counts."""

    def __setstate__(self, state: Any) -> None:
        """Turn into a ``HistoryBuffer`` of the values; functions in the state are left out."""
        plain = HistoryBuffer(
            np.array(state['_log_history']),
            np.array(state['_count_history']),
            int(state['max_length']),
        )
        self.__dict__.update(plain.__dict__)
        self.__class__ = HistoryBuffer


class Owner:
    """Stand-in for a class that a file only names as the owner of a function."""


def _number_type(name: Any) -> np.dtype:
    dtype = np.dtype(name) if isinstance(name, str) else None
    if dtype is None or dtype.kind not in _KINDS or dtype.fields or dtype.subdtype:
        raise pickle.UnpicklingError(f'a NumPy array of the type {name!r} cannot be read')
    return dtype


def _array(*arguments: Any) -> Array:
    """Stand in for the function with which NumPy begins an array."""
    return Array()


def _number(kind: Any, content: Any) -> Any:
    """Stand in for the function that makes a NumPy scalar."""
    if not isinstance(kind, DataType) or not isinstance(content, bytes):
        raise pickle.UnpicklingError('a NumPy scalar that is no number cannot be read')
    return np.frombuffer(content, kind.dtype, 1)[0]


def _nothing(*arguments: Any) -> object:
    """Stand in for ``getattr``, by which files name the functions of a class."""
    return NOT_DATA


#: The stand-ins, with the names that each stands for in files.
_STAND_INS: dict[Callable, tuple[str, ...]] = {
    PlainMapping: (
        'collections.defaultdict',
        'argparse.Namespace',
        'types.SimpleNamespace',
        'mmengine.config.config.ConfigDict',
        'mmcv.utils.config.ConfigDict',
        'addict.addict.Dict',
        'yacs.config.CfgNode',
        'fvcore.common.config.CfgNode',
        'detectron2.config.config.CfgNode',
        'easydict.EasyDict',
    ),
    PlainText: (
        'torch.torch_version.TorchVersion',
        'pathlib.Path',
        'pathlib.PosixPath',
        'pathlib.WindowsPath',
        'pathlib.PurePosixPath',
        'pathlib.PureWindowsPath',
        'pathlib._local.PosixPath',
        'pathlib._local.WindowsPath',
    ),
    DataType: ('numpy.dtype',),
    Array: ('numpy.ndarray',),
    _array: ('numpy.core.multiarray._reconstruct', 'numpy._core.multiarray._reconstruct'),
    _number: ('numpy.core.multiarray.scalar', 'numpy._core.multiarray.scalar'),
    History: ('mmengine.logging.history_buffer.HistoryBuffer',),
    Owner: ('mmengine.optim.scheduler.param_scheduler.OneCycleParamScheduler',),
    _nothing: ('builtins.getattr',),
}
#: Types of plain data that stand for themselves.
_PLAIN: tuple[Callable, ...] = (
    datetime.datetime,
    datetime.date,
    datetime.time,
    datetime.timedelta,
    datetime.timezone,
    bool,
    int,
    float,
    str,
    bytes,
    list,
    tuple,
    dict,
    frozenset,
    slice,
    range,
)


def data_types() -> list[tuple[Callable, str]]:
    """Return the stand-ins, each with a name that it stands for in a file.

    The pairs have the form that ``torch.serialization.add_safe_globals`` takes.
    """
    return [
        *((stand_in, name) for stand_in, listed in _STAND_INS.items() for name in listed),
        *((kind, f'{kind.__module__}.{kind.__qualname__}') for kind in _PLAIN),
    ]


def drop_functions(content: Any) -> Any:
    """Return a file's content without the dictionary entries whose value was a function.

    Args:
        content: The content that was read. Dictionaries in it are changed in place.
    """
    if isinstance(content, dict):
        for key in [key for key, value in content.items() if value is NOT_DATA]:
            del content[key]
    inner = (
        content.values()
        if isinstance(content, dict)
        else content
        if isinstance(content, (list, tuple))
        else ()
    )
    for value in inner:
        drop_functions(value)
    return content
