"""The meaning of the values in a dataset's mask files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mmseg_cil.errors import InputError
from mmseg_cil.protocols import names as _names

BACKGROUNDS = ('auto', 'first', 'added', 'none')
DATASETS = ('voc', 'ade20k', 'cityscapes')
"""The datasets whose class names and mask ids this package knows."""

IGNORE = 255
"""The label that the losses and the metrics leave out."""


def is_background(name: str) -> bool:
    """Return whether a first class of this name is the background."""
    return name.strip().lower() == 'background'


@dataclass(frozen=True)
class Taxonomy:
    """The classes of a dataset, as its mask files hold them.

    Three numberings are kept apart. A *mask id* is a value of the mask file,
    raw, before any ``reduce_zero_label``. A *class id* is an index into
    ``names``. A *model id* is an output of the network at some step; the taxonomy
    does not know model ids (see :class:`~mmseg_cil.protocols.base.Step`).

    Attributes:
        dataset: ``'voc'``, ``'ade20k'``, ``'cityscapes'`` or the user's name.
        names: Class names by class id.
        mask_ids: Mask id by class id. ``None`` marks either a background that no
            mask value denotes, which stands for the classes not (or no longer) known,
            or a class that a network knows from elsewhere and these masks never hold.
        has_background: Whether class id 0 is the background.
        void_ids: Mask ids of pixels that belong to no class.
        background_added: Whether the background is none of the dataset's own classes.
        left_out: Names of the dataset's classes whose ids are void.
        free: Class ids whose mask ids stand in no mask of the config's dataset; the masks of
            datasets that steps bring with them are mapped to these mask ids.
        unlabelled: Void ids of pixels that nobody labelled; only without a background.

    Raises:
        InputError: Names or mask ids occur twice, are out of range, or do not
            match in number.
    """

    dataset: str
    names: tuple[str, ...]
    mask_ids: tuple[int | None, ...]
    has_background: bool
    void_ids: tuple[int, ...] = (IGNORE,)
    background_added: bool = False
    left_out: tuple[str, ...] = ()
    free: tuple[int, ...] = ()
    unlabelled: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        where = f'classes of {self.dataset!r}'
        if len(self.names) != len(self.mask_ids):
            raise InputError(
                f'{where}: {len(self.names)} names but {len(self.mask_ids)} mask ids; '
                'give one mask id for each class.'
            )
        if not self.foreground:
            raise InputError(f'{where}: there is no class besides the background.')
        twice = sorted({name for name in self.names if self.names.count(name) > 1})
        if twice:
            raise InputError(f'{where}: {", ".join(twice)} named twice; rename one of them.')
        ids = [i for i in (*self.mask_ids, *self.void_ids) if i is not None]
        if len(set(ids)) != len(ids) or any(not 0 <= i <= 255 for i in ids):
            raise InputError(
                f'{where}: the mask ids must be different numbers from 0 to 255 '
                f'(at most 255 classes beside the void id {IGNORE}); got {ids}.'
            )

    @property
    def foreground(self) -> tuple[int, ...]:
        """Class ids without the background."""
        return tuple(range(int(self.has_background), len(self.names)))

    def labels_all(self, classes: Sequence[int]) -> bool:
        """Return whether masks of the config's dataset can hold each of some foreground classes.

        Args:
            classes: Class ids; a background among them is not checked.
        """
        return all(
            self.mask_ids[c] is not None and c not in self.free
            for c in classes
            if c in self.foreground
        )

    def class_of_mask_id(self) -> dict[int, int]:
        """Return the class id by mask id, without void ids."""
        return {m: c for c, m in enumerate(self.mask_ids) if m is not None}

    def with_names(self, classes: Sequence[str]) -> Taxonomy:
        """Return the same mask ids under the names that the user's dataset gives.

        So the protocols of a dataset also serve other datasets of its layout (a
        21-class dataset with the background first can be walked like VOC).

        Args:
            classes: Classes of the dataset class: as many as MMSegmentation has for
                this dataset, that is without a background that was added.

        Raises:
            InputError: The number of classes differs.
        """
        own = self.names[self.background_added :]
        plain = [str(name).strip() for name in classes]
        if len(plain) == len(own):
            return replace(self, names=(*self.names[: self.background_added], *plain))
        raise InputError(
            f'the protocol is for the {len(own)} classes of {self.dataset!r} '
            f'({", ".join(own[:3])}, ...), but the dataset in the config has '
            f'{len(plain)} ({", ".join(plain[:3])}, ...); name a protocol of that dataset, or '
            "list the classes of each step: protocol = dict(name='mine', "
            "dataset='my_dataset', steps=[[...], [...]])."
        )

    def with_void_ids(self, void_ids: Sequence[int]) -> Taxonomy:
        """Return the same classes without the classes whose mask ids are void.

        A background with a void id stays without a mask id, and stands for the
        classes not (or no longer) known.

        Args:
            void_ids: Further void ids, from :func:`read_void_ids`.

        Raises:
            InputError: No class besides the background is left.
        """
        void = set(void_ids)
        kept = [
            (name, None if mask_id in void else mask_id)
            for class_id, (name, mask_id) in enumerate(zip(self.names, self.mask_ids, strict=True))
            if mask_id not in void or (self.has_background and class_id == 0)
        ]
        return replace(
            self,
            names=tuple(name for name, _ in kept),
            mask_ids=tuple(mask_id for _, mask_id in kept),
            void_ids=(*self.void_ids, *sorted(void - set(self.void_ids))),
            left_out=tuple(name for name in self.names if name not in dict(kept)),
        )

    def with_further(self, names: Sequence[str]) -> Taxonomy:
        """Return the same classes and further ones, each with a mask id.

        Classes that the dataset cannot show get ids that no mask of it holds (:attr:`free`).

        Args:
            names: Names of classes that other datasets show; names of this taxonomy's own classes
                add nothing.

        Raises:
            InputError: There are more than 255 classes.
        """
        every = [*self.names, *(name for name in dict.fromkeys(names) if name not in self.names)]
        ids: list[int | None] = [*self.mask_ids, *[None] * (len(every) - len(self.names))]
        for class_id in self.free:
            ids[class_id] = None
        taken = {*self.void_ids, *ids}
        unused = [mask_id for mask_id in range(IGNORE) if mask_id not in taken]
        free = [class_id for class_id, mask_id in enumerate(ids) if mask_id is None]
        if len(free) > len(unused):
            raise InputError(
                f'classes of {self.dataset!r}: there are more than 255, and a mask has a byte a '
                'pixel; leave classes out'
            )
        for class_id, mask_id in zip(free, unused, strict=False):
            ids[class_id] = mask_id
        return replace(self, names=tuple(every), mask_ids=tuple(ids), free=tuple(free))

    def as_in_masks_of(
        self, classes: Sequence[str], reduce_zero_label: bool, void_ids: Sequence[int] = ()
    ) -> Taxonomy:
        """Return the same classes, found by name in the masks of another dataset.

        Args:
            classes: Classes of the other dataset, in the order of its mask ids. Classes
                that this taxonomy does not have become void.
            reduce_zero_label: Whether the other dataset's class i has the mask id i + 1.
            void_ids: Mask ids of the other dataset that belong to no class.

        Raises:
            InputError: The other dataset lacks a class.
        """
        ids = {str(n).strip(): i for i, n in enumerate(classes, int(reduce_zero_label))}
        own = [name for class_id, name in enumerate(self.names) if class_id not in self.free]
        missing = [
            name
            for name in own
            if name not in ids and not (self.background_added and name == self.names[0])
        ]
        if missing:
            raise InputError(
                f'the classes of two datasets of {self.dataset!r} differ: one has '
                f'{", ".join(self.names[self.background_added :])}, the other {", ".join(ids)}; '
                'give both the same, with metainfo.classes.'
            )
        left = {mask_id for name, mask_id in ids.items() if name not in self.names}
        void = {IGNORE, *void_ids, *left}
        found = [
            (None if class_id in self.free else mask_id)
            if mask_id is None or name not in ids or (self.background_added and not class_id)
            else ids[name]
            for class_id, (name, mask_id) in enumerate(zip(self.names, self.mask_ids, strict=True))
        ]
        if reduce_zero_label and 0 not in found:
            void.add(0)
        mask_ids = tuple(None if mask_id in void else mask_id for mask_id in found)
        result = replace(self, mask_ids=mask_ids, void_ids=tuple(sorted(void)), free=())
        return result.with_further(()) if self.free else result

    @classmethod
    def from_classes(
        cls,
        dataset: str,
        classes: Sequence[str],
        reduce_zero_label: bool = False,
        background: str = 'auto',
        domain: bool = False,
    ) -> Taxonomy:
        """Return the taxonomy of any MMSegmentation dataset.

        Args:
            dataset: The dataset's name.
            classes: ``METAINFO['classes']`` of the dataset class.
            reduce_zero_label: The ``reduce_zero_label`` of the dataset class. If it is
                True, masks hold 0 for "none of the classes" and the classes from 1 on.
            background: ``'first'``: the first class is the background;
                ``'added'``: a background is put before the classes (mask id 0 with
                ``reduce_zero_label``, else no mask id: only classes not known
                at a step are background); ``'none'``: there is no background;
                ``'auto'``: ``'first'`` where the first class is called background,
                else ``'none'`` for protocols by domain and ``'added'`` for
                protocols by class.
            domain: Whether the protocol is by domain.

        Raises:
            InputError: ``background`` is none of these values, or the classes are
                wrong (see the class).
        """
        if background not in BACKGROUNDS:
            raise InputError(
                f'protocol: background={background!r} is unknown; '
                f'use one of {", ".join(BACKGROUNDS)}.'
            )
        labels = [str(name).strip() for name in classes]
        if not labels:
            raise InputError(f'dataset {dataset!r} has no classes; its METAINFO must list them.')
        if background == 'auto':
            background = 'first' if is_background(labels[0]) else 'none' if domain else 'added'
        ids: list[int | None] = list(range(reduce_zero_label, len(labels) + reduce_zero_label))
        void: tuple[int, ...] = (IGNORE,)
        if background == 'added':
            labels.insert(0, 'background')
            ids.insert(0, 0 if reduce_zero_label else None)
        elif reduce_zero_label:
            void = (0, IGNORE)
        has_background, added = background != 'none', background == 'added'
        return cls(dataset, tuple(labels), tuple(ids), has_background, void, added)


def known_taxonomy(dataset: str, background: str = 'auto', domain: bool = False) -> Taxonomy:
    """Return the taxonomy of a dataset that this package knows.

    Args:
        dataset: One of :data:`DATASETS`. ADE20K gets the background "other
            objects" (mask id 0) as in the papers. Cityscapes by class gets a
            background that no mask holds (RCIL shifts the labels by one for
            it); Cityscapes by city gets no background.
        background: See :meth:`Taxonomy.from_classes`.
        domain: Whether the protocol is by domain.
    """
    classes = {'voc': _names.VOC, 'ade20k': _names.ADE20K, 'cityscapes': _names.CITYSCAPES}
    return Taxonomy.from_classes(dataset, classes[dataset], dataset == 'ade20k', background, domain)


def is_class_id(value: Any) -> bool:
    """Return whether a value may be the mask id of a class: a number from 0 to 254."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < IGNORE


def check_one_class_an_id(labels: Mapping[str, Sequence[int]], what: str) -> None:
    """Refuse labels that give an id to two classes.

    Args:
        labels: Mask ids of each class.
        what: The description of the labels, for the message.

    Raises:
        InputError: Two classes have the same id.
    """
    every = [mask_id for ids in labels.values() for mask_id in ids]
    twice = sorted({mask_id for mask_id in every if every.count(mask_id) > 1})
    if twice:
        shared = [name for name, ids in labels.items() if twice[0] in ids]
        raise InputError(
            f'{what} give the id {twice[0]} to {" and ".join(shared)}: an id is of one class.'
        )


def read_void_ids(value: Any, where: str) -> tuple[int, ...]:
    """Return the mask ids that a config declares to belong to no class.

    Args:
        value: The value of ``void_ids``; None: it is not given.
        where: The place of the setting, for messages.

    Raises:
        InputError: The value is no list of numbers from 0 to 255.
    """
    if value is None:
        return ()
    ids = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    if any(isinstance(i, bool) or not isinstance(i, int) or not 0 <= i <= 255 for i in ids):
        raise InputError(
            f'{where}: void_ids must be a list of mask ids from 0 to 255, such as [11], not '
            f'{value!r}.'
        )
    return tuple(sorted(set(ids)))
