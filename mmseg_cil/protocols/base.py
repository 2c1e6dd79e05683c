"""The base of every protocol: steps, label tables and image selections."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mmseg_cil.errors import InputError
from mmseg_cil.protocols import tables
from mmseg_cil.protocols.own_data import OwnData
from mmseg_cil.protocols.policy import TEST_CHOICES, Policy
from mmseg_cil.protocols.selection import Indices
from mmseg_cil.protocols.tables import Table
from mmseg_cil.protocols.taxonomy import Taxonomy

SETTINGS = ('overlapped', 'disjoint', 'sequential')


@dataclass(frozen=True)
class Step:
    """A step: the classes and domains that it adds, and the classes known before.

    The output ``i`` of the network at a step (the *model id*) is the class
    ``seen[i]``.

    Attributes:
        index: The step's number, from 0 on.
        old: Class ids of the steps before, in the order of the outputs.
        new: Class ids that this step adds; empty at the later steps of a
            protocol by domain.
        future: Class ids not seen yet, among them the classes that never come.
        domains: Names of the domains this step adds (protocols by domain only).
        data: The data sets that this step reads: 0 is the config's own, ``i`` is
            ``Protocol.own_data[i - 1]``.
    """

    index: int
    old: tuple[int, ...]
    new: tuple[int, ...]
    future: tuple[int, ...]
    domains: tuple[str, ...] = ()
    data: tuple[int, ...] = (0,)

    @property
    def seen(self) -> tuple[int, ...]:
        """Old and new class ids, in the order of the network's outputs."""
        return self.old + self.new


@dataclass(frozen=True)
class Protocol(ABC):
    """The classes or domains of every step, and the images and labels that follow from them.

    Attributes:
        name: The protocol's name, as the config spells it.
        taxonomy: The classes and their mask ids.
        steps: The steps, in order.
        policy: The choices in which papers differ.
        setting: ``'overlapped'``, ``'disjoint'`` or ``'sequential'``. Protocols
            by domain keep all labels and are always ``'sequential'``.
        own_data: Data sets that steps bring with them, beside the config's data set.
    """

    name: str
    taxonomy: Taxonomy
    steps: tuple[Step, ...]
    policy: Policy
    setting: str
    own_data: tuple[OwnData, ...] = ()

    @property
    @abstractmethod
    def kind(self) -> str:
        """``'class'`` or ``'domain'``."""

    @property
    @abstractmethod
    def old_labels_hidden(self) -> bool:
        """Return whether the training label 0 stands for old classes, as a background or not."""

    @property
    def pools_splits(self) -> bool:
        """Return whether each step draws its training and its test images from one pool.

        If so, ``names`` and ``presence`` cover the dataset's training and
        validation lists together; otherwise they cover either the training list
        or the validation list.
        """
        return False

    @abstractmethod
    def trains(self, step_index: int) -> bool:
        """Return whether there is something to learn at a step.

        A step that adds the background alone (step 0 of ``voc_1-1``) has nothing
        to learn: a softmax over one output has zero loss. Such a step is evaluated
        and recorded, trains zero iterations and does not become a teacher.
        """

    @abstractmethod
    def train_table(self, step_index: int) -> Table:
        """Return the training label (model id or 255) by mask id, uint8 (256,)."""

    def exemplar_table(self, step_index: int, shown: Collection[int]) -> Table:
        """Return the labels of an image that a step replays, by mask id, uint8 (256,).

        Args:
            step_index: The step.
            shown: Class ids that keep their label; other classes are background.
        """
        seen = self.step(step_index).seen
        return tables.table_for_training(self.taxonomy, self.policy, seen, shown)

    def test_table(self, step_index: int) -> Table:
        """Return the label to test against (model id or 255) by mask id, uint8 (256,)."""
        seen = self.step(step_index).seen
        return tables.table_for_test(self.taxonomy, self.policy, seen)

    @abstractmethod
    def train_images(
        self, step_index: int, presence: npt.NDArray[np.generic], names: Sequence[str]
    ) -> Indices:
        """Return the images a step trains on.

        Args:
            step_index: The step.
            presence: bool (N, 256): whether a mask id occurs in the image's
                whole mask.
            names: N image names, each the path below the image folder, with
                ``/`` and without suffix.

        Returns:
            int64 indices into ``names``.

        Raises:
            InputError: An image belongs to no domain or to two.
        """

    @abstractmethod
    def test_images(
        self, step_index: int, presence: npt.NDArray[np.generic], names: Sequence[str]
    ) -> Indices:
        """Return the images a step is tested on; arguments as in :meth:`train_images`."""

    def image_domains(self, names: Sequence[str]) -> Indices:
        """Return the step that introduces each image's domain.

        Returns:
            int64 (N,); -1 for an image whose domain no step introduces. Protocols by
            class return zeros.
        """
        return np.zeros(len(names), np.int64)

    def unmatched(self, names: Sequence[str]) -> list[str]:
        """Return sentences about names and patterns of the protocol that fit no image.

        Args:
            names: Names of all training and test images.
        """
        return []

    @abstractmethod
    def class_steps(self, step_index: int) -> tuple[int, ...]:
        """Return, for each model id at a step, the step that introduced it."""

    @abstractmethod
    def spellings(self) -> dict[str, str]:
        """Return the names of this protocol in the two ways of counting classes.

        ``'counted'`` counts the background as a class of step 0;
        ``'foreground'``, the customary way, does not. The dict is empty where
        the steps do not follow an ``X-Y``; a way of counting is missing where
        it gives the protocol no name.
        """

    def step(self, index: int) -> Step:
        """Return the step of an index.

        Raises:
            InputError: There is no step of this index.
        """
        if not 0 <= index < len(self.steps):
            raise InputError(
                f'protocol {self.name!r} has the steps 0 to {len(self.steps) - 1}, not {index}.'
            )
        return self.steps[index]

    def known_mask_ids(self) -> frozenset[int]:
        """Return the values that masks of the config's dataset may hold."""
        ids = (
            mask_id
            for class_id, mask_id in enumerate(self.taxonomy.mask_ids)
            if mask_id is not None and class_id not in self.taxonomy.free
        )
        return frozenset((*ids, *self.taxonomy.void_ids))

    def data_of_step(self, step_index: int, split: str) -> tuple[int, ...]:
        """Return the data sets that a step reads, numbered as in :attr:`Step.data`.

        Args:
            step_index: The step.
            split: ``'train'``: the data sets of the step; ``'test'``: the data sets of
                all steps so far.
        """
        if split == 'train':
            return self.step(step_index).data
        every = {place for step in self.steps[: step_index + 1] for place in step.data}
        return tuple(sorted(every))

    def class_names(self, classes: Sequence[int]) -> list[str]:
        """Return the names of class ids."""
        return [self.taxonomy.names[c] for c in classes]

    def _details(self) -> dict[str, Any]:
        """Return what a kind of protocol adds to the description and the fingerprint."""
        return {}

    def fingerprint(self) -> str:
        """Return the SHA-256 over all that decides a step's images and labels.

        The protocol's name and the choices about how results are averaged
        do not enter: two names of one protocol have one fingerprint.
        """
        return self._digest(without=('old', 'background_in_means'))

    def training_fingerprint(self) -> str:
        """Return the fingerprint without the choices that concern tests alone."""
        return self._digest(without=TEST_CHOICES)

    def beginning_fingerprint(self, last: int) -> str:
        """Return the SHA-256 over what training sees of the steps 0 to ``last``.

        Two walks that differ in later steps alone have the same beginning fingerprint.
        """
        return _sha256(beginning(self.to_dict(), last))

    def _digest(self, without: Sequence[str]) -> str:
        policy = self.policy.to_dict()
        content = {
            'kind': self.kind,
            'setting': self.setting,
            'names': self.taxonomy.names,
            'mask_ids': self.taxonomy.mask_ids,
            'void_ids': self.taxonomy.void_ids,
            'has_background': self.taxonomy.has_background,
            'steps': [(step.new, step.domains) for step in self.steps],
            'policy': {key: value for key, value in policy.items() if key not in without},
            **self._data_sets(),
            **self._details(),
        }
        return _sha256(content)

    def to_dict(self) -> dict[str, Any]:
        """Return the protocol as JSON data, for journals and reports."""
        return {
            'name': self.name,
            'kind': self.kind,
            'setting': self.setting,
            'dataset': self.taxonomy.dataset,
            'classes': list(self.taxonomy.names),
            'mask_ids': list(self.taxonomy.mask_ids),
            'void_ids': list(self.taxonomy.void_ids),
            'has_background': self.taxonomy.has_background,
            'steps': [
                {
                    'step': step.index,
                    'old': self.class_names(step.old),
                    'new': self.class_names(step.new),
                    'domains': list(step.domains),
                }
                for step in self.steps
            ],
            'policy': self.policy.to_dict(),
            'spellings': self.spellings(),
            'pools_splits': self.pools_splits,
            'fingerprint': self.fingerprint(),
            **self._data_sets(),
            **self._details(),
        }

    def _data_sets(self) -> dict[str, Any]:
        """Return the names and digests of every step's data sets, if any step has its own."""
        if not self.own_data:
            return {}
        entries = ['', *(f'{data.name} {data.digest()}' for data in self.own_data)]
        return {
            'data': [[entries[place] for place in step.data] for step in self.steps],
            'free_classes': self.class_names(self.taxonomy.free),
        }


def beginning(description: Mapping[str, Any], last: int) -> dict[str, Any]:
    """Return what training sees of the steps 0 to ``last`` of a protocol.

    Classes and domains that come later, or never, do not enter; the images
    that show them are a property of the data, not of the protocol.

    Args:
        description: Description of the whole protocol, as :meth:`Protocol.to_dict` returns it
            or a journal holds it.
        last: The last of the steps.
    """
    steps = [(step['new'], step['domains']) for step in description['steps'][: last + 1]]
    mask_ids = dict(zip(description['classes'], description['mask_ids'], strict=True))
    # The mask ids of free classes stand in no mask, and may change once a further data set comes.
    mask_ids |= dict.fromkeys(description.get('free_classes') or ())
    data = list(description.get('data') or ())[: last + 1]
    result = {
        'steps': steps,
        'mask_ids': {name: mask_ids[name] for new, _ in steps for name in new},
        'policy': {
            key: value for key, value in description['policy'].items() if key not in TEST_CHOICES
        },
        **{
            key: description.get(key)
            for key in ('kind', 'setting', 'void_ids', 'has_background', 'split', 'strict')
        },
    }
    brought = {name for _, domains in steps for name in domains}
    domains = [each for each in description.get('domains') or () if each['name'] in brought]
    own = {'data': data} if any(entry != [''] for entry in data) else {}
    return {**result, 'domains': domains, **own}


def _sha256(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, separators=(',', ':'))
    return hashlib.sha256(text.encode('utf-8')).hexdigest()
