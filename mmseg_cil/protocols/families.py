"""The registry of the families of named protocols, such as ``voc`` for ``voc_15-1``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from mmseg_cil.errors import InputError

#: ``FAMILY_X-Y`` and ``FAMILY_joint``.
NAME = re.compile(r'(?P<family>.+)_(?:(?P<first>\d+)-(?P<later>\d+)|(?P<joint>joint))')

#: Makes the protocol from the settings, the family's name and the match of :data:`NAME`.
Builder = Callable[[Any, str, 're.Match[str]'], Any]


@dataclass(frozen=True)
class Family:
    """A family of named protocols.

    Attributes:
        name: The beginning of the protocols' names.
        build: The builder of the family's protocols. None: the dataset alone knows their classes,
            and must be named besides (``dataset``).
        sizes: ``X-Y`` and ``joint`` in common use.
        pieces: Names of the config pieces to use where they are not given: ``dataset``,
            ``schedule`` and ``model``. The default is a schedule of the dataset's name, and the
            papers' model.
        by_domain: Whether the steps add domains instead of classes.
    """

    name: str
    build: Builder | None = None
    sizes: tuple[str, ...] = ()
    pieces: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    by_domain: bool = False


class Families(Mapping[str, Family]):
    """All families by name, in the order in which they were registered.

    Example:
        >>> families = Families()
        >>> family = families.register(Family('camvid', sizes=('6-5',)))
        >>> families.of('camvid_6-5') is family, families.of('camvid') is None
        (True, True)
        >>> families.named()
        ('camvid_6-5',)
    """

    def __init__(self) -> None:
        self._families: dict[str, Family] = {}

    def __getitem__(self, name: str) -> Family:
        return self._families[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._families)

    def __len__(self) -> int:
        return len(self._families)

    def register(self, family: Family) -> Family:
        """Add a family.

        Raises:
            InputError: A family of this name is registered already.
        """
        if family.name in self._families:
            raise InputError(f'a family of protocols {family.name!r} is registered already')
        self._families[family.name] = family
        return family

    def of(self, name: str) -> Family | None:
        """Return the family of a protocol by the protocol's name; None where it has no family."""
        matched = NAME.fullmatch(name)
        return self._families.get(matched['family']) if matched else None

    def named(self) -> tuple[str, ...]:
        """Return the names of protocols in common use."""
        return tuple(
            f'{family_name}_{size}' for family_name, family in self.items() for size in family.sizes
        )

    def built(self) -> tuple[str, ...]:
        """Return the names of the families that build their protocols themselves."""
        return tuple(name for name, family in self.items() if family.build)


#: The registry of families; a family is added by ``PROTOCOLS.register(Family(...))``.
PROTOCOLS = Families()


def is_by_domain(name: str) -> bool:
    """Return whether the protocol of a name belongs to a family by domain."""
    family = PROTOCOLS.of(name)
    return family is not None and family.by_domain
