"""Reading a user's config, with the options of the command line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.utils import import_modules_from_strings

from mmseg_cil.engine.config.files import files_of, find_config, read_config
from mmseg_cil.engine.config.protocol_pieces import settle
from mmseg_cil.errors import InputError
from mmseg_cil.utils.merging import merge_options


def load_config(path: str | Path, options: Mapping[str, Any] | None = None) -> Config:
    """Read a config file, also one named ``mmseg::``, and apply ``--cfg-options``.

    Raises:
        InputError: The file is missing or is no valid config, or an option does not fit.
    """
    return with_options(read_unsettled(path), options)


def read_unsettled(path: str | Path) -> Config:
    """Read a config file, whose method may still leave settings to the protocol.

    Args:
        path: Path of the file, or its name ``mmseg::FOLDER/NAME.py``.

    Raises:
        InputError: The file is missing or is no valid config.
    """
    path = find_config(path)
    try:
        files_of(path)
        return read_config(path)
    except InputError:
        raise
    except UnicodeDecodeError as error:
        raise InputError(
            f'the config {path}, or a base of it, is no text in UTF-8 ({error}): save it as such'
        ) from error
    except (Exception, SystemExit) as error:
        # A config is code, and may end the program.
        raise InputError(
            f'the config {path} cannot be read: {type(error).__name__}: '
            f'{" ".join(str(error).split())}'
        ) from error


def with_options(cfg: Config, options: Mapping[str, Any] | None) -> Config:
    """Settle the method and apply ``--cfg-options``, in place.

    Options of the protocol are applied first, as the method may depend on the protocol; options
    of the method hold for every protocol. Modules that an option adds to ``custom_imports`` are
    imported, as those of the file were when it was read.

    Raises:
        InputError: An option does not fit the config.
    """
    options = dict(options or {})
    imports = any(key.split('.')[0] == 'custom_imports' for key in options)
    first = {key: options.pop(key) for key in list(options) if key.split('.')[0] == 'protocol'}
    _merge(cfg, first)
    settle(cfg)
    _merge(cfg, options)
    _join_steps(cfg)
    if imports:
        import_parts(cfg.custom_imports, '--cfg-options')
    return cfg


def import_parts(imports: Any, where: str | Path) -> None:
    """Import the modules that ``custom_imports`` names.

    Args:
        imports: ``custom_imports`` of a config; None: nothing is imported.
        where: File or option that names them, for the message.

    Raises:
        InputError: A module cannot be imported.
    """
    if imports is None:
        return
    try:
        import_modules_from_strings(**imports)
    except Exception as error:
        raise InputError(
            f'{where}: custom_imports cannot be imported ({error}): put the modules '
            'where Python finds them, such as with PYTHONPATH'
        ) from error


def _join_steps(cfg: Config) -> None:
    """Put options of a step, whose index is text on a command line, into the entry of the step."""
    overrides = cfg.get('step_overrides')
    if not isinstance(overrides, Mapping):
        return
    named = [key for key in overrides if isinstance(key, str) and key.isdigit()]
    if not named or not all(isinstance(value, Mapping) for value in overrides.values()):
        return
    joined = {key: dict(value) for key, value in overrides.items() if key not in named}
    for key in named:
        joined[int(key)] = {**joined.get(int(key), {}), **overrides[key]}
    cfg.step_overrides = joined


def _merge(cfg: Config, options: dict[str, Any]) -> None:
    # MMEngine merges no mapping with numbers as keys, such as step_overrides from Python.
    numbered = {
        key: value
        for key, value in options.items()
        if isinstance(value, Mapping) and not all(isinstance(name, str) for name in value)
    }
    try:
        options = {key: value for key, value in options.items() if key not in numbered}
        if options:
            merge_options(cfg, options)
        for key, value in numbered.items():
            cfg[key] = {**(cfg.get(key) or {}), **value}
    except Exception as error:
        raise InputError(f'--cfg-options cannot be applied: {error}') from error
