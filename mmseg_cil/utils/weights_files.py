"""Reading of files of weights, by this package and by MMEngine, as data that cannot run code."""

from __future__ import annotations

import contextlib
import os
import pickle
import re
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from typing import Any

import torch
from mmengine.dist import barrier, get_rank, get_world_size
from mmengine.fileio import get_file_backend
from mmengine.runner import (
    CheckpointLoader,
    get_deprecated_model_names,
    get_external_models,
    get_mmcls_models,
    get_torchvision_models,
)
from mmengine.runner.checkpoint import _get_mmengine_home
from mmengine.utils.dl_utils import load_url
from torch.serialization import add_safe_globals, clear_safe_globals, get_safe_globals

from mmseg_cil.errors import InputError
from mmseg_cil.utils.weight_types import data_types, drop_functions

PathLike = str | os.PathLike[str]

#: Prefixes of names that stand for addresses, with MMEngine's tables of these names.
ZOOS: dict[str, Callable[[], Mapping[str, str]]] = {
    'torchvision://': get_torchvision_models,
    'modelzoo://': get_torchvision_models,
    'open-mmlab://': get_external_models,
    'openmmlab://': get_external_models,
    'mmcls://': get_mmcls_models,
}
WEB = ('http://', 'https://')
#: MMEngine's patterns of addresses in an object store.
STORES = (r'(\S+\:)?s3://', r'(\S+\:)?petrel://')
PAVI = 'pavi://'
#: First bytes of a file of PyTorch: a zip archive, or the older format, which is a pickle.
_BEGINNINGS = (b'PK', b'\x80')
#: Descriptions of a refused file's content, by the pattern of PyTorch's error message.
_MORE_THAN_DATA = {
    r'TorchScript archive': 'a network in the TorchScript format',
    r'legacy \.tar format': 'the tar format of the first versions of PyTorch',
    r'GLOBAL (\S+)': 'the type or function {0!r}',
    r'Unsupported operand': 'instructions of another pickle protocol than PyTorch writes',
    r'(Can only [^\n]*|Trying to call [^\n]*|a NumPy [^\n]*cannot be read)': (
        'something that is no data ({0})'
    ),
}


class NotDataError(InputError):
    """The error of a file of weights that holds more than data, so that reading could run code.

    Args:
        name: Name of the file, for the message.
        holds: Description of the content that is no data.
    """

    def __init__(self, name: str, holds: str) -> None:
        self.holds = holds
        super().__init__(
            f'{name} is not read: it holds {holds}, and weights are read as data, which cannot run '
            'code. If you trust whoever made the file, save its weights alone and use that file: '
            "torch.save(torch.load(FILE, weights_only=False)['state_dict'], NEW_FILE); see "
            'docs/trust.md'
        )


def read_weights(
    source: PathLike | BytesIO,
    map_location: Any = 'cpu',
    name: str | None = None,
    mmap: bool = False,
) -> Any:
    """Return the content of a file of weights; nothing that the file names is executed.

    Args:
        source: A local file, or the bytes of a file.
        map_location: Device of the tensors, as for ``torch.load``.
        name: Name of the file in error messages; its path by default.
        mmap: Whether to leave the tensors on the disk until they are used.

    Raises:
        NotDataError: The file holds something else than data.
        OSError: The file cannot be opened.
        pickle.UnpicklingError: The file is damaged, or no file of PyTorch.
    """
    return _as_data(
        lambda: torch.load(source, map_location=map_location, weights_only=True, mmap=mmap or None),
        name or str(source),
        source if isinstance(source, BytesIO) else str(source),
    )


def read_source(source: str, map_location: Any = 'cpu') -> Any:
    """Return the content of the weights that a config names, as :func:`read_weights` does.

    Args:
        source: A path, a web address, or a name such as ``open-mmlab://resnet50_v1c``.
        map_location: Device of the tensors.

    Raises:
        KeyError: The name is not in MMEngine's table.
        Exception: An error of :func:`read_weights`, or the address cannot be reached.
    """
    address = address_of(source)
    if address.startswith(WEB):
        content = _as_data(
            lambda: load_url(address, map_location=map_location, progress=False, weights_only=True),
            source,
        )
    elif any(re.match(pattern, address) for pattern in STORES):
        backend = get_file_backend(address, backend_args={'backend': 'petrel'})
        content = read_weights(BytesIO(backend.get(address)), map_location, source)
    elif address.startswith(PAVI):
        raise InputError(f'{source} is not read: fetch the file and give its path')
    elif address != source:
        # The user's own table lies in MMEngine's home folder, and may hold paths relative to it.
        path = os.path.join(_get_mmengine_home(), address)
        content = read_weights(path, map_location, source)
    else:
        content = read_weights(os.path.expanduser(source), map_location, source)
    if source.startswith('mmcls://'):
        prefix = 'backbone.'
        return {
            'state_dict': {
                key.removeprefix(prefix): value
                for key, value in state_of(content).items()
                if key.startswith(prefix)
            }
        }
    return content


def state_of(content: Any) -> Mapping[str, Any]:
    """Return the weights in the content of a file: under ``state_dict``, or all of it."""
    state = content.get('state_dict', content) if isinstance(content, Mapping) else {}
    return state if isinstance(state, Mapping) else {}


def address_of(source: str) -> str:
    """Return the address of a name such as ``torchvision://resnet50``; other sources unchanged.

    Raises:
        KeyError: The name is not in MMEngine's table.
    """
    for prefix, table in ZOOS.items():
        if source.startswith(prefix):
            name = source.removeprefix(prefix)
            if table is get_external_models:
                name = get_deprecated_model_names().get(name, name)
            return str(table()[name])
    return source


@contextlib.contextmanager
def weights_as_data(alone: bool = False) -> Iterator[None]:
    """Make MMEngine, in the block, read all weights with :func:`read_source`.

    MMEngine's own loaders would also read a file that holds more than data. They are restored
    after the block.

    Args:
        alone: Whether only this process reads. Otherwise all processes read, and rank 0 fetches a
            file first.
    """

    def load_from_source(filename: str, map_location: Any = None) -> Any:
        if not alone and get_world_size() > 1 and address_of(filename).startswith(WEB):
            if get_rank() > 0:
                barrier()
            content = read_source(filename, map_location)
            if get_rank() == 0:
                barrier()
            return content
        return read_source(filename, map_location)

    before = dict(CheckpointLoader._schemes)
    ours = ('', *WEB, *STORES, PAVI, *ZOOS)
    CheckpointLoader.register_scheme(ours, load_from_source, force=True)
    try:
        yield
    finally:
        for prefix, loader in before.items():
            CheckpointLoader.register_scheme(prefix, loader, force=True)


def _as_data(load: Callable[[], Any], name: str, source: str | BytesIO | None = None) -> Any:
    """Load with this package's list of types alone, without other packages' safe globals."""
    others = get_safe_globals()
    clear_safe_globals()
    add_safe_globals([*data_types()])
    try:
        return drop_functions(load())
    except (OSError, InputError):
        raise
    except Exception as error:
        raise _explained(error, name, source) from error
    finally:
        clear_safe_globals()
        add_safe_globals(others)


def _explained(error: Exception, name: str, source: str | BytesIO | None) -> Exception:
    """Return an error of one line, without PyTorch's advice to read the file all the same."""
    text = str(error)
    holds = next(
        (
            told.format(*found.groups())
            for pattern, told in _MORE_THAN_DATA.items()
            if (found := re.search(pattern, text))
        ),
        None,
    )
    beginning = _beginning(source)
    if (
        'format' not in (holds or '')
        and beginning is not None
        and not beginning.startswith(_BEGINNINGS)
    ):
        return pickle.UnpicklingError(
            f"it begins with {beginning!r} and is no file of PyTorch's"
            if beginning
            else 'it is empty'
        )
    if holds is None:
        return pickle.UnpicklingError(text.partition('\n')[0] or type(error).__name__)
    return NotDataError(name, holds)


def _beginning(source: str | BytesIO | None) -> bytes | None:
    if source is None:
        return None
    if isinstance(source, BytesIO):
        return source.getvalue()[:24]
    with open(source, 'rb') as file:
        return file.read(24)
