"""Checks that a walk reads and writes inside its work directory alone."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterator
from pathlib import Path

from mmseg_cil.errors import InputError

#: Files and folders of a work directory that a walk reads and writes; others are not checked.
_OWN = ('step_*', '.step_*', 'report', 'class_index', '*.json', '*.csv', '*.py', '*.lock')


def check_links(work_dir: str | os.PathLike[str]) -> None:
    """Refuse a work directory with a link that leads out of the directory.

    The maker of such a link could have other files of yours read, copied into a report, or
    overwritten. The directory itself may be a link, and links within the directory may lead
    anywhere in it.

    Args:
        work_dir: The directory, which need not exist.

    Raises:
        InputError: A link leads out of the directory.
    """
    root = Path(work_dir).resolve()
    for path in _links(root):
        target = Path(os.path.realpath(path))
        if not target.is_relative_to(root):
            shown = Path(work_dir) / path.relative_to(root)
            raise InputError(
                f'{shown} is a link to {target}, outside of the work directory, and is not '
                'followed: put what it leads to in its place (cp -rL makes such a copy of a whole '
                'directory), or take steps over from where they are with --start-from'
            )


def is_plain_name(name: object) -> bool:
    """Return whether a name, read from a file, can only mean a file in the same folder."""
    return isinstance(name, str) and name not in ('', '.', '..') and not {'/', '\\', '\0'} & {*name}


def _links(root: Path) -> Iterator[Path]:
    if not root.is_dir():
        return
    with os.scandir(root) as entries:
        listed = sorted(entries, key=lambda entry: entry.name)
    for entry in listed:
        own = any(fnmatch.fnmatchcase(entry.name, pattern) for pattern in _OWN)
        if entry.is_symlink() and (own or not entry.is_dir()):
            yield Path(entry.path)
        elif own and entry.is_dir(follow_symlinks=False):
            for folder, folders, files in os.walk(entry.path):
                yield from (
                    Path(folder, name)
                    for name in [*folders, *files]
                    if os.path.islink(os.path.join(folder, name))
                )
