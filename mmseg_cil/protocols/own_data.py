"""Data sets that steps bring with them: the ``data=dict(...)`` of a step or a domain.

Only the key ``train`` is always needed (a first step that was trained elsewhere may have ``test``
alone). The keys are:

- ``train`` and ``test``: data sets of MMSegmentation, of any type, layout and pipeline. A data set
  without a pipeline has the pipeline of the config.
- ``name``: the data set's name in the report. The default is ``step_01`` for a step of classes
  and the domain's name for a domain.
- ``class_map``: the walk's name for a class that the data set calls otherwise, such as
  ``{'motorbike': 'motorcycle'}``. Several classes of the data set may map to one of the walk's.
- ``labels``: the mask id of each class, or several, such as ``{'horse': 1, 'sheep': [7, 8]}``,
  in place of the classes that the data set declares.
- ``void_ids``: mask ids besides 255 of pixels that belong to no class.
- ``unlabelled``: ``'background'`` or ``'void'``: the meaning of pixels of id 0, where no class has
  the id 0, and of pixels of classes that the walk never has. The default is background where the
  network has one, else the choice ``policy.unlabelled`` of the protocol.
- ``old_labels``: ``'hidden'`` (default) or ``'used'``: the treatment of labels of old classes in
  protocols by class.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from mmseg_cil.errors import InputError
from mmseg_cil.protocols.tables import Table
from mmseg_cil.protocols.taxonomy import (
    IGNORE,
    Taxonomy,
    check_one_class_an_id,
    is_background,
    is_class_id,
    read_void_ids,
)

KEYS = ('name', 'train', 'test', 'class_map', 'labels', 'void_ids', 'unlabelled', 'old_labels')
#: The separator between the name of a data set and the name of an image of it.
SEPARATOR = '::'
_CHOICES = {'unlabelled': ('background', 'void'), 'old_labels': ('hidden', 'used')}


@dataclass(frozen=True)
class MaskMeaning:
    """The meaning that the ids in the masks of a data set have in a walk.

    Attributes:
        table: uint8 (256,): the mask id of the protocol's taxonomy by the data set's own id;
            255, which is void, also where the id is not known.
        known: The data set's own ids that may occur.
        foreground: The known ids that show a class besides the background.
        labelled: Class ids that the masks can show.
        unlabelled: The data set's own ids of pixels that nobody labelled, where the network has no
            background for such pixels and the data set does not call them void.
    """

    table: Table
    known: frozenset[int]
    foreground: frozenset[int]
    labelled: frozenset[int]
    unlabelled: frozenset[int] = frozenset()


@dataclass(frozen=True)
class OwnData:
    """A data set that one or several steps bring with them.

    Attributes:
        name: Name of the data set.
        configs: Config of each split that is given, ``'train'`` and ``'test'``.
        class_map: The walk's name of classes that the data set calls otherwise.
        labels: Mask ids of each class; None: the data set's declared classes give the mask ids.
        void_ids: Mask ids besides 255 of pixels that belong to no class.
        unlabelled: ``'background'`` or ``'void'``; None: background where there is one.
        old_labels: ``'hidden'`` or ``'used'``.
    """

    name: str
    configs: Mapping[str, Mapping[str, Any]] = field(compare=False)
    class_map: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    labels: Mapping[str, tuple[int, ...]] | None = None
    void_ids: tuple[int, ...] = ()
    unlabelled: str | None = None
    old_labels: str = 'hidden'

    @property
    def where(self) -> str:
        """Return the data set's description for messages."""
        return f'the data set {self.name!r}'

    def image_name(self, name: str) -> str:
        """Return the name of an image that is unique among the images of all data sets."""
        return f'{self.name}{SEPARATOR}{name}'

    def digest(self) -> str:
        """Return the SHA-256 over the meaning of the masks; the paths of files do not enter."""
        content = [
            self.name,
            dict(self.class_map),
            None if self.labels is None else {n: list(ids) for n, ids in self.labels.items()},
            list(self.void_ids),
            self.unlabelled,
            self.old_labels,
        ]
        text = json.dumps(content, sort_keys=True, separators=(',', ':'))
        return hashlib.sha256(text.encode('utf-8')).hexdigest()

    def meaning(
        self,
        classes: Sequence[str],
        reduce_zero_label: bool,
        taxonomy: Taxonomy,
        void_ids: Iterable[int] = (),
    ) -> MaskMeaning:
        """Return the meaning of the ids in the data set's masks.

        Args:
            classes: Classes that the data set declares, in the order of its ids.
            reduce_zero_label: Whether the data set's class i has the mask id i + 1.
            taxonomy: The walk's classes; each has a mask id (:meth:`Taxonomy.with_further`).
            void_ids: Further void ids that the data set's config names.

        Raises:
            InputError: The data set tells no classes, a name in ``labels`` or ``class_map`` is
                none of the walk's, or a void id is that of a class.
        """
        void = {IGNORE, *self.void_ids, *void_ids}
        named = self._named(classes, reduce_zero_label, taxonomy)
        position = {name: class_id for class_id, name in enumerate(taxonomy.names)}
        table = np.full(256, IGNORE, np.uint8)
        rest = self._rest(taxonomy)
        labelled, foreground, unlabelled = set(), set(), set()
        if not any(0 in ids for _, ids in named):
            table[0] = rest
            unlabelled.add(0)
        for name, ids in named:
            class_id = position.get(name)
            if taxonomy.has_background and is_background(name):
                class_id = 0
            for mask_id in ids:
                if mask_id in void:
                    if class_id is not None and self.labels is not None:
                        raise InputError(
                            f'{self.where}: the id {mask_id} is of {name!r} in labels and in '
                            'void_ids: take it out of one of them.'
                        )
                    continue
                target = rest if class_id is None else taxonomy.mask_ids[class_id]
                table[mask_id] = IGNORE if target is None else target
                if class_id is None:
                    unlabelled.add(mask_id)
                else:
                    labelled.add(class_id)
                    if class_id in taxonomy.foreground:
                        foreground.add(mask_id)
        known = {*void, *(i for _, ids in named for i in ids), 0}
        table[sorted(void)] = IGNORE
        is_open = not taxonomy.has_background and self.unlabelled != 'void'
        return MaskMeaning(
            table,
            frozenset(known),
            frozenset(foreground),
            frozenset(labelled),
            frozenset(unlabelled - void) if is_open else frozenset(),
        )

    def _rest(self, taxonomy: Taxonomy) -> int:
        """Return the mask id of pixels that belong to none of the walk's classes."""
        if self.unlabelled == 'background' and not taxonomy.has_background:
            raise InputError(
                f"{self.where}: unlabelled='background', but the network has no background; "
                "write unlabelled='void'."
            )
        if not taxonomy.has_background or self.unlabelled == 'void':
            return IGNORE
        background = taxonomy.mask_ids[0]
        return IGNORE if background is None else background

    def _named(
        self, classes: Sequence[str], reduce_zero_label: bool, taxonomy: Taxonomy
    ) -> list[tuple[str, tuple[int, ...]]]:
        """Return every class's name, the walk's or else the data set's, with its mask ids."""
        if self.labels is not None:
            for name in self.labels:
                if name not in taxonomy.names:
                    raise InputError(
                        f'{self.where}: labels name {name!r}, which is none of the classes of the '
                        f'walk{_near(name, taxonomy.names)}: they are '
                        f'{", ".join(taxonomy.names)}. Name ids of no class in void_ids.'
                    )
            return list(self.labels.items())
        own = [str(name).strip() for name in classes]
        if not own:
            raise InputError(
                f'{self.where} tells no classes: give them in the order of its mask ids, '
                "train=dict(..., metainfo=dict(classes=['road', ...])), or the id of each, "
                "labels={'road': 0, ...}."
            )
        for name, target in self.class_map.items():
            if name not in own:
                raise InputError(
                    f'{self.where}: class_map names {name!r}, which is none of its classes'
                    f'{_near(name, own)}: they are {", ".join(own)}.'
                )
            if target not in taxonomy.names:
                raise InputError(
                    f'{self.where}: class_map turns {name!r} into {target!r}, which is none of the '
                    f'classes of the walk{_near(target, taxonomy.names)}: they are '
                    f'{", ".join(taxonomy.names)}.'
                )
        first = int(reduce_zero_label)
        return [(self.class_map.get(name, name), (i,)) for i, name in enumerate(own, first)]


def read_data(value: Any, default: str, where: str, needs_train: bool = True) -> OwnData:
    """Return the data set that a step or a domain brings.

    Args:
        value: The value of the key ``data``.
        default: The data set's name where ``value`` has none.
        where: The place in the config, for messages.
        needs_train: Whether the data set must have training images.

    Raises:
        InputError: The data set is not well described.
    """
    usage = "write data=dict(train=dict(type='BaseSegDataset', ...), test=dict(...))"
    if not isinstance(value, Mapping):
        raise InputError(f'{where}: data must be a dict, not {value!r:.100}; {usage}.')
    for key in value:
        if key not in KEYS:
            raise InputError(
                f'{where}: data has no setting {key!r}{_near(str(key), KEYS)}; there are '
                f'{", ".join(KEYS)}.'
            )
    configs = {}
    for split in ('train', 'test'):
        config = value.get(split)
        if config is None:
            continue
        if not isinstance(config, Mapping) or 'type' not in config:
            raise InputError(
                f'{where}: data.{split} must be the config of a data set, not {config!r:.100}; '
                f'{usage}.'
            )
        configs[split] = config
    if 'train' not in configs and (needs_train or not configs):
        raise InputError(f'{where}: data has no train; {usage}.')
    for key, choices in _CHOICES.items():
        if value.get(key) not in (None, *choices):
            raise InputError(
                f'{where}: data.{key} is {value[key]!r}; write {" or ".join(map(repr, choices))}.'
            )
    name = value.get('name') or default
    if not isinstance(name, str) or SEPARATOR in name or '/' in name:
        raise InputError(f'{where}: data.name must be a word, not {name!r}.')
    if value.get('labels') is not None and value.get('class_map'):
        raise InputError(
            f'{where}: labels give the classes of the walk, so that there is nothing left for '
            'class_map: take one of them out.'
        )
    return OwnData(
        name,
        configs,
        _read_map(value.get('class_map'), where),
        _read_labels(value.get('labels'), where),
        read_void_ids(value.get('void_ids'), f'{where}: data'),
        value.get('unlabelled'),
        value.get('old_labels') or 'hidden',
    )


def _read_map(value: Any, where: str) -> Mapping[str, str]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(
        isinstance(name, str) and isinstance(target, str) for name, target in value.items()
    ):
        raise InputError(
            f"{where}: data.class_map must be a dict such as {{'motorbike': 'motorcycle'}}, not "
            f'{value!r}.'
        )
    return {name.strip(): target.strip() for name, target in value.items()}


def _read_labels(value: Any, where: str) -> Mapping[str, tuple[int, ...]] | None:
    if value is None:
        return None
    labels: dict[str, tuple[int, ...]] = {}
    plain = isinstance(value, Mapping) and bool(value)
    for name, given in value.items() if plain else ():
        ids = (given,) if isinstance(given, int) else given
        plain = (
            plain
            and isinstance(name, str)
            and isinstance(ids, (list, tuple))
            and bool(ids)
            and all(map(is_class_id, ids))
        )
        if plain:
            labels[name.strip()] = tuple(ids)
    if not plain:
        raise InputError(
            f"{where}: data.labels must give the mask ids of each class, such as {{'horse': 1, "
            f"'sheep': [7, 8]}}, with ids from 0 to 254, not {value!r}."
        )
    check_one_class_an_id(labels, f'{where}: data.labels')
    return labels


class DataSets:
    """The data sets of a protocol's steps, each once.

    Attributes:
        own: Data sets besides the config's own, in the order in which they come.
    """

    def __init__(self) -> None:
        self.own: list[OwnData] = []
        self._values: list[Any] = []

    def place(self, value: Any, default: str, where: str, needs_train: bool = True) -> int:
        """Return the place of a data set from 1 on; steps with equal data sets share the place.

        Args:
            value: The value of the key ``data``.
            default: The data set's name where ``value`` has none.
            where: The place in the config, for messages.
            needs_train: Whether the data set must have training images.

        Raises:
            InputError: The data set is not well described, or another data set has its name.
        """
        if value in self._values:
            return self._values.index(value) + 1
        data = read_data(value, default, where, needs_train)
        if any(data.name == former.name for former in self.own):
            raise InputError(
                f'{where}: two data sets are called {data.name!r}: give one of them another '
                'data.name.'
            )
        self.own.append(data)
        self._values.append(value)
        return len(self.own)


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), 1)
    return f' (did you mean {near[0]!r}?)' if near else ''
