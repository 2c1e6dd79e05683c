"""Atomic writing of files: a kill or a full disk leaves the former file whole."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

#: Ends of the hidden names of unfinished files and folders.
TEMPORARY, PARTIAL = '.tmp', '.partial'


def atomic_write(path: str | os.PathLike[str], write: Callable[[BinaryIO], object]) -> None:
    """Replace a file by the content that ``write`` puts into a temporary file beside it.

    The temporary file is flushed to disk before it takes the name, so at every
    moment ``path`` holds either all of its old or all of its new content.

    Args:
        path: The file to write; a missing folder is made.
        write: Function that is called with the temporary file, open for binary writing.

    Raises:
        OSError: Writing failed (because of a full disk, say). ``path`` is unchanged
            and the temporary file is gone.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f'.{path.name}.', suffix=TEMPORARY, dir=path.parent)
    try:
        with os.fdopen(handle, 'wb') as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(name)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)
        raise


def remove_leftovers(folder: str | os.PathLike[str]) -> None:
    """Remove what killed processes have left unfinished in a folder and below it.

    Such leftovers are temporary files of :func:`atomic_write` and folders named
    ``.*.partial``. No other process may be writing in the folder meanwhile.
    """
    for path in list(Path(folder).rglob(f'.*{TEMPORARY}')):
        path.unlink(missing_ok=True)
    for path in list(Path(folder).rglob(f'.*{PARTIAL}')):
        shutil.rmtree(path, ignore_errors=True)


def _umask() -> int:
    # The only portable way to read the umask is to set it.
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Replace a file atomically (see :func:`atomic_write`)."""
    atomic_write(path, lambda file: file.write(content))


def write_if_changed(path: str | os.PathLike[str], content: bytes) -> None:
    """Replace a file atomically, unless it holds these bytes already."""
    try:
        if Path(path).read_bytes() == content:
            return
    except OSError:
        pass
    write_bytes(path, content)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Replace a UTF-8 text file atomically (see :func:`atomic_write`)."""
    write_bytes(path, text.encode('utf-8'))


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Replace a JSON file atomically; refuse NaN, which JSON does not have."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + '\n')


def write_csv(path: str | os.PathLike[str], rows: Sequence[Sequence[Any]]) -> None:
    """Replace a CSV file atomically."""
    text = io.StringIO(newline='')
    csv.writer(text, lineterminator='\n').writerows(rows)
    write_text(path, text.getvalue())
