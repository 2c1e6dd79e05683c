"""The settings of a method for one protocol: pieces of configs found by name, as schedules are.

A method piece that says ``by_protocol='plop'`` leaves out the settings that depend on the protocol.
These settings are in a file of ``configs/_base_/methods/plop/``, the first that exists of
``PROTOCOL.py``, ``FAMILY.py`` (for the protocols of a family in common use, so ``ade20k.py`` for
``ade20k_100-50``), ``by_domain.py`` (for protocols whose steps bring domains and no classes) and
``default.py``. The file only fills in settings that the method lacks, so that a user's own value
always stays.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmseg_cil.engine.config.files import BASES, read_config
from mmseg_cil.errors import InputError
from mmseg_cil.protocols import NAMED, is_by_domain
from mmseg_cil.utils.merging import merge_options

#: Key of a method for the folder of its pieces, by name in ``configs/_base_/methods`` or by path.
FOLDER = 'by_protocol'
#: Key of a user's method for changes by protocol and dotted key, which are applied after all files.
OVERRIDES = 'protocol_overrides'
DEFAULT, DOMAINS = 'default', 'by_domain'
_MISSING = object()


def settle(cfg: Config) -> Config:
    """Fill in the settings of a config's method for the config's protocol, in place.

    Options and overrides of steps are applied later. A config without method or protocol is left
    as it is.

    Raises:
        InputError: The folder that the method names has no pieces, or an override does not fit.
    """
    method, protocol = cfg.get('method'), cfg.get('protocol')
    told = isinstance(protocol, Mapping) and 'name' in protocol
    if told and isinstance(method, Mapping) and {FOLDER, OVERRIDES} & set(method):
        name = str(protocol['name'])
        cfg.method = settled(method, name, 'domains' in protocol or is_by_domain(name))
    return cfg


def settled(
    method: Mapping[str, Any], protocol: str, by_domain: bool | None = None
) -> dict[str, Any]:
    """Return a method with its settings for one protocol.

    Args:
        method: The ``method`` of a config; not changed.
        protocol: Name of the protocol.
        by_domain: Whether the protocol's steps bring domains and no classes; by default, the
            protocol's name decides.

    Raises:
        InputError: The folder that the method names has no pieces, or an override does not fit.
    """
    result: Any = Config(dict(method=copy.deepcopy(dict(method))))
    folder = result.method.pop(FOLDER, None)
    overrides = result.method.pop(OVERRIDES, None) or {}
    if not isinstance(overrides, Mapping):
        raise InputError(
            f'method.{OVERRIDES} is {overrides!r}; it must be a dict of dicts, such as '
            "{'voc_15-1': {'distillers.0.loss.loss_weight': 100.0}}"
        )
    if folder:
        home = _home(str(folder))
        usual = _piece(home / f'{DEFAULT}.py')
        # A file may delete the overrides that method pieces once had; the default piece holds then.
        special = '_delete_' not in overrides
        piece = _piece(find_piece(home, protocol, by_domain)) if special else usual
        _fill(result.method, piece, usual)
    for key, value in (overrides.get(protocol) or {}).items():
        try:
            merge_options(result, {f'method.{key}': value})
        except Exception as error:
            raise InputError(
                f'method.{key} = {value!r} does not fit method {method.get("name")!r} as it is for '
                f'{protocol} (see its {OVERRIDES}): {error}'
            ) from error
    settled_method: dict[str, Any] = result.method.to_dict()
    return settled_method


def find_piece(home: Path, protocol: str, by_domain: bool | None = None) -> Path:
    """Return the file with a method's piece for a protocol.

    Args:
        home: The folder of the method's pieces.
        protocol: Name of the protocol.
        by_domain: Whether the protocol's steps bring domains and no classes; by default, the
            protocol's name decides.
    """
    names = [protocol]
    if protocol in NAMED and not protocol.endswith('_joint'):
        names.append(protocol.rpartition('_')[0])
    if is_by_domain(protocol) if by_domain is None else by_domain:
        names.append(DOMAINS)
    files = (home / f'{name}.py' for name in names)
    return next((file for file in files if file.is_file()), home / f'{DEFAULT}.py')


def _home(folder: str) -> Path:
    home = Path(folder) if Path(folder).is_dir() else BASES / 'methods' / folder
    if not (home / f'{DEFAULT}.py').is_file():
        raise InputError(
            f'method.{FOLDER} is {folder!r}, but {home} holds no {DEFAULT}.py: name a folder that '
            f'has one with what the method leaves out, or set it to None and give that yourself'
        )
    return home


def _piece(path: Path) -> dict[str, Any]:
    """Return the method of a piece; read a file again only if it has changed."""
    return copy.deepcopy(_read(path, path.stat().st_mtime_ns))


@functools.lru_cache(maxsize=64)
def _read(path: Path, time: int) -> dict[str, Any]:
    content: dict[str, Any] = read_config(path).to_dict()
    if not isinstance(content.get('method'), Mapping):
        raise InputError(f'{path} sets no method: write method = dict(...) with its settings')
    return dict(content['method'])


def _fill(
    ours: Any, piece: Mapping[str, Any], usual: Mapping[str, Any], whole: bool = True
) -> None:
    """Fill in the settings that a method lacks.

    A list of the method itself stays. Where its elements have the types of the elements in the
    piece, each element gets the settings that it lacks and that the protocol's piece sets
    differently from the default piece.

    Args:
        ours: Settings of the method; changed in place.
        piece: Piece of the protocol.
        usual: Default piece, which has the usual values.
        whole: Whether to fill in usual values, too.
    """
    for key, value in piece.items():
        common = usual.get(key, _MISSING)
        if key not in ours:
            if whole or value != common:
                ours[key] = value
        elif isinstance(value, Mapping) and isinstance(ours[key], Mapping):
            _fill(ours[key], value, common if isinstance(common, Mapping) else {}, whole)
        elif _alike(ours[key], value, common):
            for own, element, ordinary in zip(ours[key], value, common, strict=True):
                _fill(own, element, ordinary, whole=False)


def _alike(*lists: Any) -> bool:
    """Return whether all are lists of parts of the same types in the same order."""
    if not all(isinstance(entries, Sequence) and not isinstance(entries, str) for entries in lists):
        return False
    types = [
        [part.get('type') if isinstance(part, Mapping) else None for part in entries]
        for entries in lists
    ]
    return None not in types[0] and all(kind == types[0] for kind in types)
