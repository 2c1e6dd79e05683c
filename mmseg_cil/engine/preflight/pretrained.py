"""Pre-trained weights that a config names: read before anything is built or trained."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmseg_cil.errors import InputError
from mmseg_cil.utils.finite import require_finite
from mmseg_cil.utils.weights_files import NotDataError, read_source, state_of

#: Types in ``init_cfg`` that read a file, by their name or the name of their class.
PRETRAINED = ('Pretrained', 'PretrainedInit', 'Pretrained_Part')
#: The endings of names of weights files, wherever they are in the config of a network.
_SUFFIXES = ('.pth', '.pt', '.ckpt', '.pth.tar')


def check_pretrained(cfg: Config) -> None:
    """Read all weights that a walk's first step begins with, and forget them again.

    Weights at an address are downloaded into PyTorch's cache, where the step finds
    them. Only rank 0 may call this function, so that weights are downloaded once.

    Args:
        cfg: The user's config.

    Raises:
        InputError: A file is missing or damaged, holds more than data, or an
            address cannot be reached.
    """
    for option, source in pretrained_weights(cfg):
        _read(option, source)


def check_pretrained_files(cfg: Config) -> None:
    """Refuse files that parts of a network read by themselves, if they hold more than data.

    Args:
        cfg: A config whose network is built, but not initialised.

    Raises:
        InputError: A file holds more than data, or is damaged.
    """
    for option, source in pretrained_weights(cfg):
        if not option.endswith(('.checkpoint', '.pretrained')) and Path(source).is_file():
            _read(option, source)


def pretrained_weights(cfg: Config) -> list[tuple[str, str]]:
    """Return every weights file or address in a config, with the option that sets it."""
    found = [*_visit(cfg.get('model'), 'model'), *_visit(cfg.get('method'), 'method')]
    if cfg.get('load_from'):
        found.append(('load_from', cfg.load_from))
    return found


def _read(option: str, source: str) -> None:
    try:
        content = read_source(source)
    except NotDataError as error:
        raise InputError(f'{option}: {error}') from error
    except Exception as error:
        raise InputError(
            f'the pre-trained weights {source} ({option}) cannot be loaded '
            f'({type(error).__name__}: {error}): point --cfg-options {option}=PATH at a local copy '
            f'of the file, or train from scratch with {option.removesuffix(".checkpoint")}=None'
        ) from error
    require_finite(
        state_of(content),
        f'the pre-trained weights {source} ({option})',
        'Nothing can be learnt from them: give other weights',
    )


def is_pretrained(init_cfg: Any) -> bool:
    """Return whether an initialisation reads a file; its type may be a name or a class."""
    kind = init_cfg.get('type') if isinstance(init_cfg, Mapping) else None
    name = kind.__name__ if inspect.isclass(kind) else str(kind)
    return name.rpartition('.')[2] in PRETRAINED and isinstance(init_cfg.get('checkpoint'), str)


def _visit(node: Any, where: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            if (
                isinstance(value, str)
                and value
                and (
                    (key == 'checkpoint' and is_pretrained(node))
                    or key in ('pretrained', 'checkpoint_path')
                    # A file that a backbone, such as timm's, reads by itself.
                    or (value.endswith(_SUFFIXES) and Path(value).is_file())
                )
            ):
                yield f'{where}.{key}', value
            else:
                yield from _visit(value, f'{where}.{key}')
    elif isinstance(node, (list, tuple)):
        for i, value in enumerate(node):
            yield from _visit(value, f'{where}.{i}')
