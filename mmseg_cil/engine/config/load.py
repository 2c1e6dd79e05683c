"""Reading a user's config, with the options of the command line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmseg_cil.engine.config.files import find_config, read_config
from mmseg_cil.engine.config.protocol_overrides import files_of, settle_protocol_overrides
from mmseg_cil.engine.config.step_overrides import drop_protocol_overrides
from mmseg_cil.errors import InputError


def load_config(path: str | Path, options: Mapping[str, Any] | None = None) -> Config:
    """Reads a config file, also one named ``mmseg::``, and applies ``--cfg-options``.

    What a file says of the method goes before the ``protocol_overrides`` of its
    bases, and the options go before both.

    Raises:
        InputError: The file is missing or is no valid config.
    """
    path = find_config(path)
    try:
        files_of(path)
        cfg = read_config(path)
        settle_protocol_overrides(cfg, path)
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
    return with_options(cfg, options)


def with_options(cfg: Config, options: Mapping[str, Any] | None) -> Config:
    """Applies ``--cfg-options``, in place.

    What they say of the method holds for every protocol: it goes before the
    method's own ``protocol_overrides``.

    Raises:
        InputError: One of them does not fit the config.
    """
    if options:
        try:
            cfg.merge_from_dict(dict(options))
        except Exception as error:
            raise InputError(f'--cfg-options cannot be applied: {error}') from error
        drop_protocol_overrides(cfg, options)
    return cfg
