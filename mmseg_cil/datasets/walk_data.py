"""The data sets that a view reads, and the assignment of their images to steps."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from mmseg_cil.datasets.items import Source
from mmseg_cil.datasets.member_labels import MemberLabels, labels_of
from mmseg_cil.datasets.members import Contents, colours_of, open_members, read_members
from mmseg_cil.protocols import Protocol
from mmseg_cil.protocols.tables import Table
from mmseg_cil.protocols.taxonomy import IGNORE


class WalkData:
    """The data sets of some steps, with the labels of one of the steps.

    Args:
        protocol: The protocol for the masks of the config's data set.
        step: The step whose labels the data sets have.
        split: ``'train'`` or ``'test'``.
        places: The data sets to be read, numbered as in ``Step.data``.
        sources: Leaves of the config's data set.
        cache_dirs: Folders for the class index if the data's own folder cannot be written.

    Attributes:
        members: The data sets, built but not read.
        labels: The labels of each data set, by its place.
        palette: The colour of every class.

    Raises:
        InputError: A data set cannot be built, or does not tell the meaning of its masks.
    """

    def __init__(
        self,
        protocol: Protocol,
        step: int,
        split: str,
        places: frozenset[int],
        sources: Sequence[Source],
        cache_dirs: Sequence[str | os.PathLike[str]] = (),
    ) -> None:
        self._protocol, self._split = protocol, split
        self._places, self._cache_dirs = places, tuple(cache_dirs)
        self.members = open_members(protocol, split, places, sources)
        self.labels: dict[int, MemberLabels] = {
            member.place: labels_of(member, protocol, step, split) for member in self.members
        }
        self.palette = colours_of(self.members, protocol)
        self._all: Contents | None = None

    @property
    def first(self) -> Source | None:
        """Return the first leaf of the first data set; None where no data set is read."""
        return self.members[0].first if self.members else None

    @property
    def pipelines_differ(self) -> bool:
        """Return whether the data sets have pipelines that differ."""
        return len({repr(member.first.pipeline) for member in self.members}) > 1

    def known_mask_ids(self, place: int) -> frozenset[int]:
        """Return the ids that the masks of a data set may hold."""
        return self._member(place).meaning.known

    def class_table(self, place: int) -> Table:
        """Return the class id (255: none) by the id in a data set's masks, uint8 (256,)."""
        table = np.full(256, IGNORE, np.uint8)
        for mask_id, class_id in self._protocol.taxonomy.class_of_mask_id().items():
            table[mask_id] = class_id
        result: Table = table[self._member(place).meaning.table]
        return result

    def _member(self, place: int) -> Any:
        return next(member for member in self.members if member.place == place)

    def read(self, look_around: bool = False) -> Contents:
        """Read the lists of images and the class index.

        Args:
            look_around: Whether to note also which files are left out.

        Raises:
            InputError: Files are missing or broken, or masks hold unknown ids.
        """
        contents = read_members(self.members, self._protocol.name, self._cache_dirs, look_around)
        if look_around:
            # A caller that looks around counts the images of all steps next.
            self._all = contents
        return contents

    def everything(self) -> Contents:
        """Return all images of the data sets; repeated calls read the files only once.

        Raises:
            InputError: Files are missing or broken, or masks hold unknown ids.
        """
        if self._all is None:
            self._all = self.read()
        return self._all

    def rows_of_step(self, contents: Contents, step: int) -> np.ndarray:
        """Return the rows of a step's images, as often as they count.

        Args:
            contents: Images of these data sets.
            step: The step; all its data sets must be among the data sets of this object.
        """
        index, times, protocol = contents.index, contents.items.times, self._protocol
        pick = protocol.train_images if self._split == 'train' else protocol.test_images
        chosen = np.asarray(pick(step, index.presence, index.names), np.int64)
        if protocol.own_data:
            wanted = {*protocol.data_of_step(step, self._split)}
            if not wanted <= self._places:
                raise ValueError(f'the data sets of step {step} are not among those of this view')
            chosen = chosen[np.isin(contents.places[chosen], sorted(wanted))]
        return np.repeat(chosen, times[chosen]) if self._split == 'train' else chosen

    def without_images(self, number: int, total: int) -> str:
        """Return the message that a step has no image, with a remedy.

        Args:
            number: The step.
            total: The number of all images.
        """
        protocol = self._protocol
        step, names = protocol.steps[number], protocol.taxonomy.names
        if step.domains and self._split == 'train':
            wanted = f'is of {", ".join(step.domains)}'
        else:
            classes = step.new if self._split == 'train' else step.seen
            wanted = f'shows {", ".join(names[class_id] for class_id in classes)}'
        kind = 'training' if self._split == 'train' else 'test'
        return (
            f'step {number} of {protocol.name} ({protocol.setting}) has no {kind} image: none of '
            f'the {total} images that the setting allows {wanted}. Set skip_empty_steps=True to '
            'pass over such steps, or choose another setting, class order or list of images.'
        )

    def __getstate__(self) -> dict[str, Any]:
        # Workers need the chosen images, not the index of all.
        return {**self.__dict__, '_all': None}
