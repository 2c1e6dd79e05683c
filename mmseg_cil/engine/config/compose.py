"""Configs composed of the pieces in ``configs/_base_``, by the names of their files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmseg_cil.engine.config.files import BASES, read_config
from mmseg_cil.engine.config.protocol_pieces import settle
from mmseg_cil.errors import InputError
from mmseg_cil.protocols import NAMED, PROTOCOLS, build_protocol, is_by_domain

#: The kinds of pieces that make up a config, each a folder of ``configs/_base_`` (with an s).
KINDS = ('model', 'dataset', 'protocol', 'method', 'schedule')

#: The model piece of the papers, used where a family of protocols names no other.
PAPER_MODEL = 'deeplabv3_r101-d16'


def compose(pieces: Mapping[str, str | None], config: Config | None = None) -> Config:
    """Compose a config of some pieces, or replace some parts of a config.

    A piece is the name of a file in its folder of ``configs/_base_``, or the
    path of a file like those. A protocol may also be any name that
    :func:`~mmseg_cil.protocols.build_protocol` reads (``voc_7-3``). Without a
    config, method and protocol are needed and the rest follows: the dataset
    from the protocol, model and schedule from the dataset; the model with an auxiliary head,
    ``MODEL_aux.py``, where the method learns from such a head. A schedule for this
    protocol and method, or for this method, takes precedence over the dataset's own:
    ``voc_10-1_plop.py``, ``voc_plop.py``, ``voc.py``; for a protocol by domain,
    ``cityscapes_domain_rcil.py`` takes precedence over ``cityscapes_rcil.py``.

    A piece replaces each top-level key that it holds as a whole: the config's former value of
    the key is gone. The settings that the method leaves to the protocol are filled in (see
    :mod:`~mmseg_cil.engine.config.protocol_pieces`). The padding of training images is set to the
    crop.

    Args:
        pieces: Name of a piece by its kind (one of :data:`KINDS`); None: not given.
        config: Config whose parts are replaced; None: compose a new config.

    Returns:
        A config equal to the file that has these pieces as its ``_base_``.

    Raises:
        InputError: A piece is missing or unknown.
    """
    given = {kind: name for kind, name in pieces.items() if name}
    if config is None:
        given = complete(given)
    content = {} if config is None else dict(config.to_dict())
    for kind in KINDS:
        if kind in given:
            content.update(read_piece(kind, given[kind]))
    if config is None:
        content.update(_read(find_runtime(given['schedule'])))
    size = content.get('crop_size')
    padded = (content.get('model') or {}).get('data_preprocessor')
    if size and padded and ('model' in given or 'dataset' in given):
        padded['size'] = tuple(size)
    # Without cfg_text, Config would open the file to read its text.
    cfg = Config(
        content, cfg_text=f'# composed of {given}', filename=f'{composed_name(given, config)}.py'
    )
    return settle(cfg)


def complete(given: Mapping[str, str]) -> dict[str, str]:
    """Add the pieces that follow from the given ones.

    Raises:
        InputError: Method or protocol is missing, or no dataset follows.
    """
    missing = [kind for kind in ('method', 'protocol') if kind not in given]
    if missing:
        raise InputError(
            f'--{missing[0]} is missing: give a config file, or --method and '
            f'--protocol. Methods: {_listed("method")}'
        )
    pieces = dict(given)
    protocol = read_piece('protocol', pieces['protocol'])['protocol']
    family = _family(protocol['name'])
    if 'dataset' not in pieces:
        follows = dataset_of(family) or dataset_of(protocol.get('dataset', ''))
        if follows is None:
            raise InputError(
                f'no dataset follows from the protocol {pieces["protocol"]!r}: give '
                f'--dataset. There are {_listed("dataset")}'
            )
        pieces['dataset'] = follows
    dataset = Path(pieces['dataset']).stem
    if 'model' not in pieces:
        model = _following('model', dataset) or PAPER_MODEL
        wants_auxiliary = _reads_auxiliary(read_piece('method', pieces['method'])['method'])
        pieces['model'] = f'{model}_aux' if wants_auxiliary else model
    if 'schedule' not in pieces:
        pieces['schedule'] = find_schedule(dataset, pieces['method'], protocol['name'])
    return pieces


def dataset_of(family: str) -> str | None:
    """Return the dataset piece that follows from a family of protocols, or from a dataset."""
    known = PROTOCOLS.get(family)
    return known.pieces.get('dataset') if known else None


def _following(kind: str, dataset: str) -> str | None:
    """Return the model or schedule piece that a family with this dataset piece names."""
    said = [
        family.pieces.get(kind)
        for family in PROTOCOLS.values()
        if family.pieces.get('dataset') == dataset
    ]
    return next((name for name in said if name), None)


def find_schedule(dataset: str, method: str, protocol: str) -> str:
    """Return the schedule piece for a dataset piece, a method and a protocol, by their names."""
    schedule, family = _following('schedule', dataset) or dataset, _family(protocol)
    size = protocol.removeprefix(f'{family}_')
    scopes = (size, 'domain') if size.startswith('domain_') else (size,)
    special = [
        name
        for name in (*(f'{schedule}_{scope}_{method}' for scope in scopes), f'{schedule}_{method}')
        if (BASES / 'schedules' / f'{name}.py').is_file()
    ]
    return [*special, schedule][0]


def find_runtime(schedule: str) -> Path:
    """Return the file of hooks and logs for a schedule piece: its own or the default one."""
    own = BASES / 'runtimes' / f'{schedule}.py'
    return own if own.is_file() else BASES / 'default_runtime.py'


def _reads_auxiliary(method: Mapping[str, Any]) -> bool:
    """Return whether a method learns from auxiliary heads, so that the network needs one."""
    return any(distiller.get('auxiliary_loss') for distiller in method.get('distillers') or ())


def composed_name(pieces: Mapping[str, str], config: Config | None = None) -> str:
    """Return a name in the manner of the config files: method, model and protocol.

    The name of a config with replaced parts begins with the config's own name.
    """
    kinds = ('method', 'model', 'protocol') if config is None else KINDS
    parts = [Path(pieces[kind]).stem for kind in kinds if kind in pieces]
    if 'protocol' in pieces:
        place = [kind for kind in kinds if kind in pieces].index('protocol')
        parts[place] = parts[place].replace('_', '-')
    if config is not None and config.filename:
        parts.insert(0, Path(config.filename).stem)
    return '_'.join(parts)


def _family(name: str) -> str:
    """Return the dataset of a protocol's name: 'cityscapes' of 'cityscapes_domain_11-5'."""
    return name.rpartition('_')[0].removesuffix('_domain')


def read_piece(kind: str, name: str) -> dict[str, Any]:
    """Return the content of a piece.

    Args:
        kind: One of :data:`KINDS`.
        name: Name of a file in the folder of the kind, or the path of a file.

    Raises:
        InputError: There is no piece of this name, in which case the message lists the pieces
            there are; or its file does not set the kind.
    """
    path = Path(name) if name.endswith('.py') else BASES / f'{kind}s' / f'{name}.py'
    if path.is_file():
        content = _read(path)
        if kind in ('model', 'protocol', 'method') and kind not in content:
            raise InputError(
                f'--{kind} {name}: {path} sets no {kind}: write {kind} = dict(...) into it, or '
                f'name another piece. There are {_listed(kind)}'
            )
        return content
    if kind == 'protocol':
        return {'protocol': _named_protocol(name)}
    raise InputError(f'--{kind} {name}: there is no {path}. There are {_listed(kind)}')


def _named_protocol(name: str) -> dict[str, Any]:
    """Return a protocol that is given by its name alone, in the form of the files.

    Raises:
        InputError: The name stands for no protocol.
    """
    protocol = {'name': name, 'setting': 'overlapped', 'preset': 'default'}
    if is_by_domain(name):
        protocol = {'name': name, 'split': 'clean', 'preset': 'default'}
    family = _family(name)
    if family in PROTOCOLS and PROTOCOLS[family].build is None:
        # Only the dataset knows the classes of this family; the dataset checks the sizes.
        return {**protocol, 'dataset': family}
    try:
        build_protocol(protocol)
    except InputError as error:
        raise InputError(
            f'--protocol {name}: {error} In common use: {", ".join(NAMED)}; as files there are '
            f'{_listed("protocol")}'
        ) from error
    return protocol


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = read_config(path).to_dict()
    except Exception as error:
        raise InputError(f'{path} cannot be read: {type(error).__name__}: {error}') from error
    return content


def _listed(kind: str) -> str:
    names = sorted(path.stem for path in (BASES / f'{kind}s').glob('*.py'))
    return ', '.join(names) or f'none: {BASES} is not there (give the path of a file)'
