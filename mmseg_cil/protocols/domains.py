"""Domains given by the user: patterns and lists of image names."""

from __future__ import annotations

import fnmatch
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from mmseg_cil.errors import InputError
from mmseg_cil.protocols.own_data import SEPARATOR
from mmseg_cil.utils.text import read_lines


@dataclass(frozen=True)
class Domain:
    """Images that belong together.

    Attributes:
        name: The domain's name.
        patterns: Shell patterns of image names.
        images: Image names listed in a file (without suffix).
        data: Name of the data set of the domain's images; ``''``: the config's data set. None:
            no domain has a data set of its own.
    """

    name: str
    patterns: tuple[str, ...] = ()
    images: frozenset[str] = frozenset()
    data: str | None = None

    def __contains__(self, image: object) -> bool:
        """Return whether an image belongs to the domain, by its name or the end of its path.

        As with ``pathlib``'s ``match``, ``aachen/*`` fits
        ``train/aachen/aachen_000000``: whole folders may be left out in front.
        All images of the domain's data set belong to a domain without pattern and list.
        """
        own = self.own_names([str(image)])
        if not own:
            return False
        ends = name_ends(own[0])
        return (
            not (self.patterns or self.images)
            or any(end in self.images for end in ends)
            or any(_fits(ends, p) or _fits_literally(ends, p) for p in self.patterns)
        )

    def own_names(self, names: Sequence[str]) -> list[str]:
        """Return the names of the images of the domain's data set, without the data set's name.

        Args:
            names: Names of images of all data sets.
        """
        if self.data is None:
            return list(names)
        start = f'{self.data}{SEPARATOR}' if self.data else ''
        if not start:
            return [name for name in names if SEPARATOR not in name]
        return [name[len(start) :] for name in names if name.startswith(start)]

    def check_brackets(self, names: Sequence[str], where: str) -> None:
        """Refuse patterns whose brackets could mean two things.

        ``[0]`` is a set of characters in a shell pattern, but may be meant literally
        where names of images have brackets.

        Args:
            names: Names of all images.
            where: The place in the config, for messages.

        Raises:
            InputError: A pattern fits some images literally and other images as a set.
        """
        names = self.own_names(names) if self.patterns else names
        for pattern in self.patterns:
            literal = [name for name in names if _fits_literally(name_ends(name), pattern)]
            other = (
                set()
                if not literal
                else {name for name in names if _fits(name_ends(name), pattern)}.difference(literal)
            )
            if other:
                raise InputError(
                    f'{where}: the brackets in the pattern {pattern!r} of the domain '
                    f'{self.name!r} can be meant as they stand, which fits {literal[0]!r}, or as '
                    f'a set of signs, which fits {min(other)!r}: write [[] for an opening bracket '
                    'that is part of a name, or use a list_file.'
                )

    def digest(self) -> dict[str, Any]:
        """Return what identifies the domain's images, short even where a file lists thousands."""
        listed = hashlib.sha256('\n'.join(sorted(self.images)).encode('utf-8')).hexdigest()
        return {
            'name': self.name,
            'patterns': list(self.patterns),
            'listed': len(self.images),
            'listed_sha256': listed,
            **({'data': self.data} if self.data else {}),
        }


def name_ends(image: str) -> list[str]:
    """Return an image's name and every shorter end of it without its first folders."""
    parts = image.split('/')
    return ['/'.join(parts[i:]) for i in range(len(parts))]


def _fits(ends: Sequence[str], pattern: str) -> bool:
    return any(fnmatch.fnmatchcase(end, pattern) for end in ends)


def _fits_literally(ends: Sequence[str], pattern: str) -> bool:
    """Return whether a pattern, its brackets read literally, fits a name that has brackets."""
    return '[' in pattern and '[' in ends[0] and _fits(ends, pattern.replace('[', '[[]'))


def read_domain(entry: Any, where: str, data: str | None = None) -> Domain:
    """Read a domain of a config.

    Args:
        entry: ``dict(name=..., pattern=str or list)`` or ``dict(name=..., list_file=path)``.
        where: The place in the config, for messages.
        data: See :class:`Domain`; unless it is None, the entry may have a name alone.

    Raises:
        InputError: The domain is not well described, or its list cannot be read.
    """
    usage = "write dict(name='day', pattern='day/*') or dict(name='day', list_file='day.txt')"
    if not isinstance(entry, Mapping) or not isinstance(entry.get('name'), str):
        raise InputError(f'{where} has no name; {usage}.')
    where = f'{where} ({entry["name"]!r})'
    extra = sorted(set(entry) - {'name', 'pattern', 'list_file', 'data'})
    told = ('pattern' in entry) + ('list_file' in entry)
    if not extra and not told and data is not None:
        return Domain(entry['name'], data=data)
    if extra or told != 1:
        raise InputError(f'{where} needs a name and either a pattern or a list_file; {usage}.')
    if 'list_file' in entry:
        return Domain(entry['name'], images=_read_list(entry['list_file'], where), data=data)
    given = entry['pattern']
    patterns = tuple(given) if isinstance(given, list | tuple) else (given,)
    if not patterns or not all(isinstance(p, str) and p for p in patterns):
        raise InputError(f'{where}: pattern must be a shell pattern or a list of them.')
    return Domain(entry['name'], patterns, data=data)


def _read_list(path: str | os.PathLike[str], where: str) -> frozenset[str]:
    """Read the image names of a list file, which has one name a line, without suffix."""
    if not isinstance(path, str | os.PathLike):
        raise InputError(f'{where}: list_file must be a path, not {path!r}.')
    try:
        lines, _ = read_lines(path)
    except (OSError, InputError) as error:
        raise InputError(f'{where}: cannot read the list file {path}: {error}.') from error
    names = [line.replace('\\', '/') for line in lines]
    listed = frozenset(_without_suffix(n.removeprefix('./')) for n in names)
    if not listed:
        raise InputError(f'{where}: the list file {path} names no image.')
    return listed


def _without_suffix(name: str) -> str:
    # Only image suffixes: a dot may be part of the name.
    suffix = PurePosixPath(name).suffix.lower()
    known = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')
    return name[: -len(suffix)] if suffix in known else name
