"""Detection of JPEG files with an end marker whose pixels are damaged or end too early.

Decoders fill the damaged part with grey, or other pixels, and go on. The JPEG library
warns of the damage, but on the standard error of the process alone.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable

import cv2
import numpy as np

_SUFFIXES = ('.jpg', '.jpeg')
# Other remarks of the library, such as on superfluous bytes, concern images that decode well.
_SIGNS = (b'premature end of data', b'bad Huffman code', b'bad arithmetic code', b'instead of RST')
_REMARKS = (b'Corrupt JPEG data', b'Premature end of JPEG')
_FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
_ERROR_OUTPUT = 2


def damaged_jpegs(paths: Iterable[str]) -> list[str]:
    """Decode JPEG files and return the ones that end too early or are damaged within.

    Meanwhile the standard error of the process goes to a file. Lines that other code
    writes in that time are handed on afterwards.

    Args:
        paths: Existing image files; files without a JPEG suffix are passed over.
    """
    found: list[str] = []
    try:
        kept = os.dup(_ERROR_OUTPUT)
    except OSError:
        # A process without a standard error gets no remarks of the library.
        return found
    with tempfile.TemporaryFile() as said:
        if sys.stderr is not None:
            sys.stderr.flush()
        os.dup2(said.fileno(), _ERROR_OUTPUT)
        try:
            for path in paths:
                if path.lower().endswith(_SUFFIXES):
                    start = said.seek(0, os.SEEK_END)
                    cv2.imdecode(np.fromfile(path, np.uint8), _FLAGS)
                    said.seek(start)
                    remarks = said.read()
                    if any(sign in remarks for sign in _SIGNS):
                        found.append(path)
        finally:
            os.dup2(kept, _ERROR_OUTPUT)
            os.close(kept)
        said.seek(0)
        others = [line for line in said if not line.startswith(_REMARKS)]
    if others:
        os.write(_ERROR_OUTPUT, b''.join(others))
    return found
