"""The data sets that a view reads side by side, and the meaning of their masks in the walk."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from mmseg_cil.datasets.class_index import ClassIndex
from mmseg_cil.datasets.items import Items, Source, index_items, open_sources, read_items
from mmseg_cil.datasets.mask_ids import check_mask_ids
from mmseg_cil.errors import InputError
from mmseg_cil.protocols import Protocol
from mmseg_cil.protocols.own_data import SEPARATOR, MaskMeaning, OwnData


@dataclass(frozen=True)
class Member:
    """A data set, built but not yet read.

    Attributes:
        place: 0: the config's data set; i: ``Protocol.own_data[i - 1]``.
        sources: The leaves of the data set, at least one.
        meaning: The meaning of the ids in the masks.
        own: The step's description of the data set; None for the config's data set.
    """

    place: int
    sources: Sequence[Source]
    meaning: MaskMeaning
    own: OwnData | None = None

    @property
    def first(self) -> Source:
        """Return the first leaf; all leaves have the same classes."""
        return self.sources[0]


@dataclass(frozen=True)
class ReadMember:
    """A data set whose lists and masks are read.

    Attributes:
        member: The data set.
        items: The images, under the names that they have in their data set.
        index: The data set's own mask ids that occur in each image.
    """

    member: Member
    items: Items
    index: ClassIndex


@dataclass(frozen=True)
class Contents:
    """The images of several data sets, one after the other.

    Attributes:
        items: All images; images of a data set that a step brings are called ``DATA::NAME``.
        index: The protocol's mask ids that occur in each image.
        places: int64 (N,): the data set of each image, numbered as in :attr:`Member.place`.
        members: The data sets that were read.
    """

    items: Items
    index: ClassIndex
    places: np.ndarray
    members: Sequence[ReadMember] = field(default_factory=list)


def config_member(sources: Sequence[Source], protocol: Protocol) -> Member:
    """Return the config's data set, whose mask ids are those of the protocol.

    Args:
        sources: The leaves of the data set.
        protocol: The protocol for the masks of the data set.
    """
    taxonomy = protocol.taxonomy
    shown = {
        class_id: mask_id
        for class_id, mask_id in enumerate(taxonomy.mask_ids)
        if mask_id is not None and class_id not in taxonomy.free
    }
    foreground = (shown[c] for c in taxonomy.foreground if c in shown)
    meaning = MaskMeaning(
        np.arange(256, dtype=np.uint8),
        protocol.known_mask_ids(),
        frozenset(foreground),
        frozenset(shown),
    )
    return Member(0, sources, meaning)


def open_members(
    protocol: Protocol, split: str, places: Iterable[int], sources: Sequence[Source]
) -> list[Member]:
    """Build the data sets of a view without reading their lists.

    Args:
        protocol: The protocol for the masks of the config's data set.
        split: ``'train'`` or ``'test'``.
        places: The data sets to build, numbered as in :attr:`Member.place`.
        sources: Leaves of the config's data set.

    Raises:
        InputError: A config cannot be built, or does not tell the meaning of its masks.
    """
    members = []
    for place in sorted(set(places)):
        if not place:
            members.append(config_member(sources, protocol))
            continue
        own = protocol.own_data[place - 1]
        config = own.configs.get(split)
        if config is None:
            continue
        try:
            leaves = open_sources(config)
        except InputError as error:
            raise InputError(f'{own.where}, data.{split}: {error}') from error
        first = leaves[0]
        meaning = own.meaning(
            first.classes, first.reduce_zero_label, protocol.taxonomy, first.void_ids
        )
        members.append(Member(place, leaves, meaning, own))
        _check_shown(protocol, place, members[-1], split)
    return members


def _check_shown(protocol: Protocol, place: int, member: Member, split: str) -> None:
    """Refuse a data set without the walk's classes, or without the classes that its step adds.

    Raises:
        InputError: The data set lacks these classes.
    """
    if not member.meaning.foreground and member.own is not None:
        raise InputError(
            f'{member.own.where}, data.{split} has none of the classes of the walk, which are '
            f'{", ".join(protocol.taxonomy.names)}; its own are '
            f'{", ".join(member.first.classes) or "not told"}: say with class_map which of them is '
            "which of the walk's, or with labels the id that its masks hold for each."
        )
    if split == 'test':
        return
    for step in protocol.steps:
        new = [c for c in step.new if c in protocol.taxonomy.foreground]
        lost = [c for c in new if c not in member.meaning.labelled]
        if step.data == (place,) and lost and protocol.kind == 'class' and member.own is not None:
            names = protocol.class_names(sorted(member.meaning.labelled))
            raise InputError(
                f'protocol {protocol.name!r}: step {step.index} adds '
                f'{", ".join(protocol.class_names(lost))}, which {member.own.where} does not have; '
                f"of the walk's classes it has {', '.join(names) or 'none'}. Its classes are "
                f'{", ".join(member.first.classes) or "not told"}: say with class_map which of '
                "them is which of the walk's, or with labels the id that its masks hold for each."
            )


def read_members(
    members: Sequence[Member],
    owner: str,
    cache_dirs: Sequence[str | os.PathLike[str]] = (),
    look_around: bool = False,
) -> Contents:
    """Read the lists of images and the class index of every data set.

    Args:
        members: The data sets.
        owner: The name of what gives the ids of the config's masks their meaning, for messages.
        cache_dirs: Folders for the class index if the data's own folder cannot be written.
        look_around: Whether to note also which files are left out.

    Raises:
        InputError: Files are missing or broken, or masks hold unknown ids.
    """
    read = []
    for member in members:
        # The lists are read into copies, so that the view keeps only small objects.
        sources = [replace(source, dataset=copy.copy(source.dataset)) for source in member.sources]
        items = read_items(sources, look_around)
        index = index_items(sources, items, cache_dirs)
        masks = [mask for _, mask in items.paths]
        named = (owner, 'protocol.void_ids')
        if member.own is not None:
            named = (member.own.where, 'data.void_ids (--void-ids)')
        check_mask_ids(index, masks, member.meaning.known, *named)
        read.append(ReadMember(member, items, index))
    if len(read) == 1 and read[0].member.own is None:
        only = read[0]
        return Contents(only.items, only.index, np.zeros(len(only.items.names), np.int64), read)
    return _joined(read)


def _joined(read: Sequence[ReadMember]) -> Contents:
    names = [_names(each) for each in read]
    every = [name for group in names for name in group]
    items = Items(
        [info for each in read for info in each.items.infos],
        every,
        np.concatenate([np.zeros(0, np.int64), *(each.items.times for each in read)]),
        [note for each in read for note in each.items.notes],
    )
    empty = ClassIndex([], np.zeros((0, 256), bool))

    def rows(key: str) -> np.ndarray:
        return np.concatenate([getattr(empty, key), *(getattr(e.index, key) for e in read)])

    index = ClassIndex(
        every,
        np.concatenate([empty.presence, *(_translated(each) for each in read)]),
        rows('mask_digests'),
        rows('image_bytes'),
        rows('image_digests'),
        rows('headers'),
    )
    places = np.repeat(
        np.array([each.member.place for each in read], np.int64), [len(group) for group in names]
    )
    return Contents(items, index, places, read)


def _names(read: ReadMember) -> list[str]:
    if read.member.own is not None:
        return [read.member.own.image_name(name) for name in read.items.names]
    strange = [name for name in read.items.names if SEPARATOR in name]
    if strange:
        raise InputError(
            f'the name of the image {strange[0]!r} has {SEPARATOR} in it, which stands between '
            'data set and image where steps have data sets of their own: rename it'
        )
    return read.items.names


def _translated(read: ReadMember) -> np.ndarray:
    """Return the presence of the protocol's mask ids, given that of the data set's own ids."""
    presence = np.zeros_like(read.index.presence)
    table = read.member.meaning.table
    for mask_id in np.flatnonzero(read.index.presence.any(axis=0)):
        presence[:, table[mask_id]] |= read.index.presence[:, mask_id]
    return presence


def colours_of(members: Sequence[Member], protocol: Protocol) -> list[list[int]]:
    """Return the colour of every class, RGB in 0..255, from the first data set with the class.

    The colour is black for a background that is none of the data sets' classes, and for a class
    without a colour in any data set.

    Args:
        members: The data sets.
        protocol: The protocol whose taxonomy tells the mask ids.
    """
    class_of = protocol.taxonomy.class_of_mask_id()
    colours: dict[int, list[int]] = {}
    for member in members:
        first = member.first
        for own, colour in enumerate(first.palette, int(first.reduce_zero_label)):
            if own > 255 or own not in member.meaning.known:
                continue
            class_id = class_of.get(int(member.meaning.table[own]))
            # An unlabelled id of the data set is background here, but gives it no colour.
            if class_id is not None and (member.own is None or own in member.meaning.foreground):
                colours.setdefault(class_id, list(colour))
    return [colours.get(c, [0, 0, 0]) for c in range(len(protocol.taxonomy.names))]


def check_apart(train: Contents, test: Contents, protocol: Protocol) -> None:
    """Refuse training images of a data set that are test images of another.

    Test images that are training images of their own data set are reported elsewhere: whatever
    else is trained on, their scores are not those of unseen images.

    Args:
        train: All training images of a walk.
        test: All test images of the walk.
        protocol: Protocol of the walk.

    Raises:
        InputError: There are such images, also as copies of a file.
    """
    trained = contents_of(train.index)
    own = {*zip(train.places.tolist(), trained, strict=True)}
    tested: dict[tuple[int, bytes], int] = {}
    for row, content in enumerate(contents_of(test.index)):
        if (int(test.places[row]), content) not in own:
            tested.setdefault(content, row)
    shared = [(row, tested[content]) for row, content in enumerate(trained) if content in tested]
    if not shared:
        return
    row, other = shared[0]
    names = ['the dataset of the config', *(data.where for data in protocol.own_data)]
    raise InputError(
        f'{len(shared)} training images of {names[train.places[row]]} are test images of '
        f'{names[test.places[other]]}, such as {train.items.infos[row]["img_path"]} and '
        f'{test.items.infos[other]["img_path"]}: the scores would not be those of unseen images. '
        'Take them out of one of the two'
    )


def contents_of(index: ClassIndex) -> list[tuple[int, bytes]]:
    """Return the file size and digest of every image, which identify its content."""
    return [
        (size, digest.tobytes())
        for size, digest in zip(index.image_bytes.tolist(), index.image_digests, strict=True)
    ]
