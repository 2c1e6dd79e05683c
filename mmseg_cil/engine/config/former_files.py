"""Former config files, in whose place names are given now."""

from __future__ import annotations

import re
from pathlib import Path

from mmseg_cil.protocols import is_by_domain

_READY = re.compile(r'(.+?)_(?:deeplabv3_r(?:101-d16|50-caffe)(?:_aux)?|(demo))_(.+)')


def hint_at(path: Path) -> str:
    """Return what replaces a removed file as the end of a sentence, or an empty text.

    Args:
        path: Path of a file that does not exist.
    """
    if path.parent.name == 'protocols':
        rules = "split='clean'" if is_by_domain(path.stem) else "setting='overlapped'"
        return (
            '; in place of a file that only named a protocol, write '
            f"protocol = dict(name='{path.stem}', {rules}, preset='default')"
        )
    ready = _READY.fullmatch(path.stem)
    if ready is None or path.parent.parent.name != 'configs':
        return ''
    method, demo, protocol = ready.groups()
    protocol = protocol.replace('-', '_', 2 if 'domain' in protocol else 1)
    if demo:
        protocol = 'embedded_11-5'
    elif protocol.startswith('voc_real'):
        sizes = protocol.removeprefix('voc_real-')
        protocol = (
            f'voc_{sizes} --dataset voc_real_160' if sizes[0].isdigit() else f'voc_real_{sizes}'
        )
    return (
        f'; what it held is said by names now: --method {method} --protocol {protocol}, to which '
        '--print-config > FILE.py makes a file'
    )
