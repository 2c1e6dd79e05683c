"""Reading of lists of names in text files, however an editor or a spreadsheet wrote them."""

from __future__ import annotations

import codecs
import os
import re
from pathlib import Path

from mmseg_cil.errors import InputError

# UTF-32 goes first, because its mark begins with the mark of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, 'utf-32'), (codecs.BOM_UTF32_BE, 'utf-32'),
    (codecs.BOM_UTF8, 'utf-8-sig'),
    (codecs.BOM_UTF16_LE, 'utf-16'), (codecs.BOM_UTF16_BE, 'utf-16'),
)  # fmt: skip
# Zero-width marks, which editors leave where two files were joined, are no part of a name.
_INVISIBLE = '\ufeff\u200b\u2060'
_CONTROL = re.compile(r'[\x00-\x08\x0e-\x1f\x7f]')


def read_lines(path: str | os.PathLike[str]) -> tuple[list[str], str]:
    """Read the lines of a text file, without blanks around them and without empty lines.

    A byte order mark tells the encoding. Without a mark the encoding is UTF-16 where
    one of the first two bytes is zero, else UTF-8, or, where the bytes are no UTF-8,
    the one-byte encoding of Western Windows. Lines may end in any usual way.

    Args:
        path: The file.

    Returns:
        The lines, and the encoding that they were read in.

    Raises:
        OSError: The file cannot be read.
        InputError: The file is no text.
    """
    content = Path(path).read_bytes()
    text, encoding = _decode(content)
    if _CONTROL.search(text):
        raise InputError(f'{os.fspath(path)} is no list of names: it is not a text file')
    lines = (_bare(line) for line in re.split(r'\r\n|\r|\n', text))
    return [line for line in lines if line], encoding


def _bare(line: str) -> str:
    return line.strip().strip(_INVISIBLE).strip()


def _decode(content: bytes) -> tuple[str, str]:
    for encoding in _candidates(content):
        try:
            return content.decode(encoding), encoding
        except UnicodeDecodeError:
            continue
    # In Latin-1 every byte has a meaning.
    return content.decode('latin-1'), 'latin-1'


def _candidates(content: bytes) -> list[str]:
    marked = [encoding for mark, encoding in _MARKS if content.startswith(mark)]
    if marked:
        return marked[:1]
    if b'\0' in content[:2]:
        return ['utf-16-le' if content[1:2] == b'\0' else 'utf-16-be']
    return ['utf-8', 'cp1252']
