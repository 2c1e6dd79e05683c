"""Files with their hash beside them, which shows damage and survives a kill at any moment."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

from mmseg_cil.utils.atomic import atomic_write, write_text

SUFFIX = '.sha256'


def write_hashed(path: str | Path, content: bytes) -> None:
    """Replace a file, and its SHA-256 in the file of the same name with ``.sha256``.

    Each file is replaced whole. Between the two replacements the hash file holds the
    hashes of both the former and the new content.
    """
    own = hashlib.sha256(content).hexdigest()
    former = _hashes(path) if Path(path).exists() else []
    write_text(_beside(path), '\n'.join([*former, own]) + '\n')
    atomic_write(path, lambda file: file.write(content))
    if former:
        write_text(_beside(path), f'{own}\n')


def damage(path: str | Path) -> str | None:
    """Return what shows that a file is not as it was written; None for a sound file.

    A file without a hash beside it, from an earlier version of this package, is checked
    by the check sums that PyTorch keeps of the file's parts.
    """
    expected = _hashes(path)
    if expected:
        digest = hashlib.sha256()
        with open(path, 'rb') as file:
            while block := file.read(1 << 20):
                digest.update(block)
        found = digest.hexdigest()
        return (
            None
            if found in expected
            else f'its SHA-256 is {found}, and {_beside(path).name} has {" or ".join(expected)}'
        )
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, OSError) as error:
        return str(error)
    return f'the check sum of its part {damaged} is wrong' if damaged else None


def remove_hashed(path: str | Path) -> None:
    """Remove a file and its hash, where they exist."""
    Path(path).unlink(missing_ok=True)
    _beside(path).unlink(missing_ok=True)


def _beside(path: str | Path) -> Path:
    return Path(f'{path}{SUFFIX}')


def _hashes(path: str | Path) -> list[str]:
    try:
        return _beside(path).read_text(encoding='ascii').split()
    except (OSError, ValueError):
        return []
