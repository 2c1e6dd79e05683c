"""List the stock configs, and group those that have the same kind of network."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mmseg
from mmengine.config import Config

from mmseg_cil.engine.config.files import read_config
from mmseg_cil.models.plain import type_name

ROOT = Path(mmseg.__file__).parent / '.mim' / 'configs'


def stock_files() -> list[str]:
    """Return the paths of all stock configs below the folder of MMSegmentation's configs."""
    return sorted(
        str(path.relative_to(ROOT))
        for path in ROOT.rglob('*.py')
        if '_base_' not in path.relative_to(ROOT).parts
    )


def read(file: str) -> Config:
    """Return a stock config as a user's base would bring it.

    Raises:
        Exception: Whatever the file raises.
    """
    return read_config(ROOT / file)


def kind_of(model: Mapping[str, Any]) -> str:
    """Return what a network consists of: segmentor, backbone, neck, decode and auxiliary heads."""
    parts = [
        _types(model.get(key)) for key in ('backbone', 'neck', 'decode_head', 'auxiliary_head')
    ]
    return ' | '.join([type_name(model.get('type')), *parts])


def kind_of_unreadable(file: str, error: str) -> str:
    """Return the kind of a config that cannot be read here: what it imports, and its folder."""
    missing = re.search(r"'imports': \[?'([\w.]+)'", error)
    return f'{file.split("/")[0]} | needs {missing[1] if missing else "what is not here"}'


def _types(node: Any) -> str:
    if node is None:
        return '-'
    if isinstance(node, (list, tuple)):
        return '+'.join(_types(part) for part in node)
    own = type_name(node.get('type'))
    inner = node.get('kernel_generate_head') or node.get('backbone_cfg')
    return f'{own}({_types(inner)})' if inner else own
