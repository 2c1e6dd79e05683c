"""Protocols in which each step adds domains (cities, seasons, ...) to fixed classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mmseg_cil.errors import InputError
from mmseg_cil.protocols import cities, tables
from mmseg_cil.protocols.base import Protocol, Step
from mmseg_cil.protocols.domains import Domain, name_ends, read_domain
from mmseg_cil.protocols.own_data import DataSets
from mmseg_cil.protocols.policy import Policy
from mmseg_cil.protocols.selection import Indices
from mmseg_cil.protocols.tables import Table
from mmseg_cil.protocols.taxonomy import Taxonomy

CITY_SPLITS = ('clean', 'legacy')


def domain_steps(classes: int, domains: Sequence[Sequence[str]]) -> tuple[Step, ...]:
    """Return the steps: step 0 adds all classes, and every step adds its domains.

    Args:
        classes: The number of classes.
        domains: Names of the domains by step.
    """
    everything = tuple(range(classes))
    return tuple(
        Step(k, everything if k else (), () if k else everything, (), tuple(names))
        for k, names in enumerate(domains)
    )


@dataclass(frozen=True)
class _DomainProtocol(Protocol):
    """The common base of the protocols by domain: no label is ever hidden."""

    def __post_init__(self) -> None:
        where = f'protocol {self.name!r}'
        if not self.steps:
            raise InputError(f'{where} has no steps; list at least one domain.')
        came: set[str] = set()
        for step in self.steps:
            if not step.domains:
                raise InputError(
                    f'{where}: step {step.index} adds no domain; give it one or leave it out.'
                )
            for domain in step.domains:
                if domain in came:
                    raise InputError(f'{where}: the domain {domain!r} comes twice; list it once.')
                came.add(domain)

    @property
    def kind(self) -> str:
        """``'domain'``."""
        return 'domain'

    @property
    def old_labels_hidden(self) -> bool:
        """Return False: every class keeps its label at every step."""
        return False

    def trains(self, step_index: int) -> bool:
        """Return True: each step has images of all classes to learn from."""
        self.step(step_index)
        return True

    def train_table(self, step_index: int) -> Table:
        """Return the training label (model id or 255) by mask id, uint8 (256,)."""
        seen = self.step(step_index).seen
        return tables.table_for_training(self.taxonomy, self.policy, seen, seen)

    def class_steps(self, step_index: int) -> tuple[int, ...]:
        """Return zeros: all classes come with step 0."""
        return (0,) * len(self.step(step_index).seen)

    def spellings(self) -> dict[str, str]:
        """Return an empty dict: domains have no background to count."""
        return {}

    def _domains_until(self, step_index: int) -> list[str]:
        self.step(step_index)
        return [d for step in self.steps[: step_index + 1] for d in step.domains]

    def _step_of_domain(self) -> dict[str, int]:
        return {d: step.index for step in self.steps for d in step.domains}


@dataclass(frozen=True)
class CityProtocol(_DomainProtocol):
    """A protocol of Cityscapes by city: 21 cities, 19 classes, train and val pooled.

    Attributes:
        split: ``'clean'``: every image is for training or for test once and
            for all (:func:`mmseg_cil.protocols.cities.clean_split`).
            ``'legacy'``: as the published tables were made; about seven of ten
            final test images were trained on
            (:func:`mmseg_cil.protocols.cities.legacy_split`).
    """

    split: str = 'clean'

    @property
    def pools_splits(self) -> bool:
        """Return True: both splits come from the train and val lists together."""
        return True

    def train_images(
        self, step_index: int, presence: npt.NDArray[np.generic], names: Sequence[str]
    ) -> Indices:
        """Return the images a step trains on, which are of the cities it adds.

        ``presence`` is not used. With ``legacy`` the images are in the order of the
        official shuffle, with ``clean`` in the order of the official list.
        """
        return self._split(names, self.step(step_index).domains)[0]

    def test_images(
        self, step_index: int, presence: npt.NDArray[np.generic], names: Sequence[str]
    ) -> Indices:
        """Return the images a step is tested on, which are of all cities so far."""
        return self._split(names, self._domains_until(step_index))[1]

    def image_domains(self, names: Sequence[str]) -> Indices:
        """Return the step that introduces each image's city."""
        steps = self._step_of_domain()
        return np.array([steps.get(c, -1) for c in cities.cities_of(names)], np.int64)

    def _split(self, names: Sequence[str], chosen: Sequence[str]) -> tuple[Indices, Indices]:
        rule = cities.legacy_split if self.split == 'legacy' else cities.clean_split
        return rule(names, chosen)

    def _details(self) -> dict[str, Any]:
        return {'split': self.split}


def city_protocol(
    name: str, taxonomy: Taxonomy, policy: Policy, sizes: tuple[int, int] | None, split: str
) -> CityProtocol:
    """Return the protocol of Cityscapes by city in the official order of the cities.

    Args:
        name: The protocol's name in the config.
        taxonomy: 19 classes without background.
        policy: The choices in which papers differ.
        sizes: Cities in step 0 and in each later step; ``None``: all at once.
        split: ``'clean'`` or ``'legacy'``.

    Raises:
        InputError: The sizes do not fit 21 cities.
    """
    every = list(cities.CITIES)
    first, later = sizes or (len(every), 1)
    if first < 1 or later < 1 or (sizes and first >= len(every)):
        raise InputError(
            f'protocol {name!r}: {first}-{later} does not fit the {len(every)} cities: X must be '
            f'from 1 to {len(every) - 1} and Y at least 1. For all cities in one step use '
            'cityscapes_domain_joint.'
        )
    groups = [every[:first], *(every[i : i + later] for i in range(first, len(every), later))]
    steps = domain_steps(len(taxonomy.names), groups)
    return CityProtocol(name, taxonomy, steps, policy, 'sequential', split=split)


@dataclass(frozen=True)
class DomainProtocol(_DomainProtocol):
    """A protocol over domains that the user gives, for any dataset.

    Training images are drawn from the dataset's training list, test images
    from its validation list.

    Attributes:
        domains: The domains with their patterns and lists of images.
        strict: Whether an image of no domain is an error; otherwise the image is left out.
    """

    domains: tuple[Domain, ...] = ()
    strict: bool = True

    def train_images(
        self, step_index: int, presence: npt.NDArray[np.generic], names: Sequence[str]
    ) -> Indices:
        """Return the images of the domains a step adds; ``presence`` is not used."""
        self.step(step_index)
        return np.flatnonzero(self.image_domains(names) == step_index)

    def test_images(
        self, step_index: int, presence: npt.NDArray[np.generic], names: Sequence[str]
    ) -> Indices:
        """Return the images of all domains so far."""
        self.step(step_index)
        steps = self.image_domains(names)
        return np.flatnonzero((steps >= 0) & (steps <= step_index))

    def image_domains(self, names: Sequence[str]) -> Indices:
        """Return the step that introduces each image's domain; -1: none.

        Raises:
            InputError: An image is in two domains, or in none while ``strict``.
        """
        steps = self._step_of_domain()
        for domain in self.domains:
            domain.check_brackets(names, f'protocol {self.name!r}')
        found = np.full(len(names), -1, np.int64)
        for i, image in enumerate(names):
            inside = [domain.name for domain in self.domains if image in domain]
            if len(inside) > 1:
                raise InputError(
                    f'protocol {self.name!r}: the image {image!r} is in two domains, '
                    f'{inside[0]!r} and {inside[1]!r}; make their patterns or lists exclude '
                    'each other.'
                )
            if not inside and self.strict:
                raise InputError(
                    f'protocol {self.name!r}: the image {image!r} is in no domain; extend a '
                    'pattern or a list, or set strict=False to leave such images out.'
                )
            if inside:
                found[i] = steps.get(inside[0], -1)
        return found

    def unmatched(self, names: Sequence[str]) -> list[str]:
        """Report names in the domains' lists and patterns that fit no image."""
        notes = []
        for domain in self.domains:
            ends = {end for name in domain.own_names(names) for end in name_ends(name)}
            unknown = sorted(domain.images - ends)
            if unknown:
                notes.append(
                    f'{len(unknown)} of {len(domain.images)} names in the list of the domain '
                    f'{domain.name!r} are no images of the datasets, such as {unknown[0]!r}'
                )
            if domain.patterns and not any(name in domain for name in names):
                notes.append(
                    f'no image is in the domain {domain.name!r} ({", ".join(domain.patterns)})'
                )
        return notes

    def _details(self) -> dict[str, Any]:
        digests = [domain.digest() for domain in self.domains]
        return {'domains': digests, 'strict': self.strict}


def listed_domains(
    name: str,
    taxonomy: Taxonomy,
    policy: Policy,
    domains: Sequence[Mapping[str, Any]],
    steps: Sequence[Sequence[str]] | None,
    strict: bool,
    uses_config: bool = True,
    elsewhere: bool = False,
) -> DomainProtocol:
    """Return a protocol over domains that the user gives.

    Args:
        name: The protocol's name in the config.
        taxonomy: The classes.
        policy: The choices in which papers differ.
        domains: One ``dict(name=..., pattern=str or list)`` or ``dict(name=...,
            list_file=path)`` for each domain.
        steps: Names of domains by step; ``None``: one domain a step.
        strict: See :class:`DomainProtocol`.
        uses_config: Whether any domain is of the config's own dataset.
        elsewhere: Whether step 0 was trained elsewhere.

    Raises:
        InputError: A domain is not well described, or a step names an unknown
            domain.
    """
    where = f'protocol {name!r}'
    if isinstance(domains, str | Mapping) or not isinstance(domains, Sequence) or not domains:
        raise InputError(
            f"{where}: domains must be a list such as [dict(name='day', pattern='day/*'), ...]."
        )
    sets, read, places = DataSets(), [], {}
    several = any(isinstance(entry, Mapping) and entry.get('data') for entry in domains)
    for index, entry in enumerate(domains):
        here = f'{where}: domain {index}'
        value = entry.get('data') if isinstance(entry, Mapping) else None
        place = 0
        if value is not None:
            label = str(entry.get('name') or f'domain {index}')
            place = sets.place(value, label, here, not (elsewhere and not index))
        data = None if not several else sets.own[place - 1].name if place else ''
        read.append(read_domain(entry, here, data))
        places[read[-1].name] = place
    names = [domain.name for domain in read]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise InputError(f'{where}: two domains are called {twice[0]!r}; rename one.')
    groups = _groups(steps, names, where)
    if not isinstance(strict, bool):
        raise InputError(f'{where}: strict must be True or False, not {strict!r}.')
    made = [
        replace(step, data=tuple(sorted({places[name] for name in step.domains})))
        for step in domain_steps(len(taxonomy.names), groups)
    ]
    if not uses_config:
        made = [replace(step, data=tuple(i for i in step.data if i)) for step in made]
    return DomainProtocol(
        name, taxonomy, tuple(made), policy, 'sequential', tuple(sets.own), tuple(read), strict
    )


def _groups(steps: Any, names: Sequence[str], where: str) -> list[list[str]]:
    """Return the names of the domains by step; one domain a step where ``steps`` is None."""
    if steps is None:
        return [[name] for name in names]
    groups = [list(_list_of(group, where)) for group in _list_of(steps, where)]
    for index, group in enumerate(groups):
        for domain in group:
            if domain not in names:
                raise InputError(
                    f'{where}: step {index} of domain_steps names the domain {domain!r}, which '
                    f'is not among {", ".join(names)}.'
                )
    return groups


def _list_of(value: Any, where: str) -> Sequence[Any]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise InputError(
            f'{where}: domain_steps must be a list of lists of names; {value!r} is no list.'
        )
    return value
