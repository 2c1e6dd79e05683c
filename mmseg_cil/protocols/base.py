"""What every protocol is: steps, label tables and image selections."""

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
    """What is new at a step and what was known before.

    The output ``i`` of the network at a step (the *model id*) is the class
    ``seen[i]``.

    Attributes:
        index: From 0 on.
        old: Class ids of the steps before, in the order of the outputs.
        new: Class ids that this step adds. Empty at the later steps of a
            protocol by domain.
        future: Class ids not seen yet, among them those that never come.
        domains: Names of the domains this step adds (protocols by domain only).
        data: The data sets that it reads: 0 is the config's own, ``i`` is
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
    """Which classes or domains come when, and what that does to data and labels.

    Attributes:
        name: As the config spells it.
        taxonomy: The classes and their mask ids.
        steps: In order.
        policy: The choices papers differ in.
        setting: ``'overlapped'``, ``'disjoint'`` or ``'sequential'``. Protocols
            by domain keep all labels and are always ``'sequential'``.
        own_data: Data sets that steps bring with them, beside the config's own.
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
        """Whether the label 0 of training stands for old classes, be it a background or not."""

    @property
    def pools_splits(self) -> bool:
        """Whether each step draws its training and its test images from one pool.

        If so, ``names`` and ``presence`` are those of the dataset's training
        and validation lists together; else of the one list in question.
        """
        return False

    @abstractmethod
    def trains(self, step_index: int) -> bool:
        """Whether there is something to learn at a step.

        Not where it holds the background alone (step 0 of ``voc_1-1``): a
        softmax over one output has zero loss. Such a step is evaluated and
        recorded, trains zero iterations and does not become a teacher.
        """

    @abstractmethod
    def train_table(self, step_index: int) -> Table:
        """uint8 (256,): the training label (model id or 255) by mask id."""

    def exemplar_table(self, step_index: int, shown: Collection[int]) -> Table:
        """uint8 (256,): the label of an image that a step replays, by mask id.

        Args:
            step_index: The step.
            shown: Class ids that keep their label; other classes are background.
        """
        seen = self.step(step_index).seen
        return tables.table_for_training(self.taxonomy, self.policy, seen, shown)

    def test_table(self, step_index: int) -> Table:
        """uint8 (256,): the label to test against (model id or 255) by mask id."""
        seen = self.step(step_index).seen
        return tables.table_for_test(self.taxonomy, self.policy, seen)

    @abstractmethod
    def train_images(
        self, step_index: int, presence: npt.NDArray[np.generic], names: Sequence[str]
    ) -> Indices:
        """The images a step trains on.

        Args:
            step_index: The step.
            presence: bool (N, 256): whether a mask id occurs in the image's
                whole mask.
            names: N names: path below the image folder, with ``/``, without
                suffix.

        Returns:
            int64 indices into ``names``.

        Raises:
            InputError: An image belongs to no domain or to two.
        """

    @abstractmethod
    def test_images(
        self, step_index: int, presence: npt.NDArray[np.generic], names: Sequence[str]
    ) -> Indices:
        """The images a step is tested on; arguments as :meth:`train_images`."""

    def image_domains(self, names: Sequence[str]) -> Indices:
        """The step that introduces each image's domain.

        Returns:
            int64 (N,); -1 where no step does. By class: zeros.
        """
        return np.zeros(len(names), np.int64)

    def unmatched(self, names: Sequence[str]) -> list[str]:
        """What the protocol lists and no image is, a sentence each.

        Args:
            names: Names of all images, of training and of tests.
        """
        return []

    @abstractmethod
    def class_steps(self, step_index: int) -> tuple[int, ...]:
        """For each model id at a step, the step that introduced it."""

    @abstractmethod
    def spellings(self) -> dict[str, str]:
        """The names this protocol has in the two ways of counting.

        ``'counted'`` counts the background as a class of step 0,
        ``'foreground'`` does not, as is customary. Empty where the steps
        do not follow an ``X-Y``; one is missing where it cannot be said so.
        """

    def step(self, index: int) -> Step:
        """The step of this index.

        Raises:
            InputError: There is none.
        """
        if not 0 <= index < len(self.steps):
            raise InputError(
                f'protocol {self.name!r} has the steps 0 to {len(self.steps) - 1}, not {index}.'
            )
        return self.steps[index]

    def known_mask_ids(self) -> frozenset[int]:
        """The values that masks of the config's dataset may hold."""
        ids = (
            mask_id
            for class_id, mask_id in enumerate(self.taxonomy.mask_ids)
            if mask_id is not None and class_id not in self.taxonomy.free
        )
        return frozenset((*ids, *self.taxonomy.void_ids))

    def data_of_step(self, step_index: int, split: str) -> tuple[int, ...]:
        """The data sets that a step reads, as :attr:`Step.data` counts them.

        Args:
            step_index: The step.
            split: ``'train'``: those of the step; ``'test'``: of all steps so far.
        """
        if split == 'train':
            return self.step(step_index).data
        every = {place for step in self.steps[: step_index + 1] for place in step.data}
        return tuple(sorted(every))

    def class_names(self, classes: Sequence[int]) -> list[str]:
        """The names of class ids."""
        return [self.taxonomy.names[c] for c in classes]

    def _details(self) -> dict[str, Any]:
        """What a kind of protocol adds to the description and the fingerprint."""
        return {}

    def fingerprint(self) -> str:
        """SHA-256 over all that decides a step's images and labels.

        The protocol's name, and the choices about how results are averaged,
        do not enter: two names of one protocol have one fingerprint.
        """
        return self._digest(without=('old', 'background_in_means'))

    def training_fingerprint(self) -> str:
        """The same over what training sees: the choices about tests do not enter."""
        return self._digest(without=TEST_CHOICES)

    def beginning_fingerprint(self, last: int) -> str:
        """The same over the steps up to one: walks that differ later agree so far."""
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
        """The protocol as JSON has it, for journals and reports."""
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
        """The data sets of every step, by name and meaning; nothing where none has its own."""
        if not self.own_data:
            return {}
        entries = ['', *(f'{data.name} {data.digest()}' for data in self.own_data)]
        return {
            'data': [[entries[place] for place in step.data] for step in self.steps],
            'free_classes': self.class_names(self.taxonomy.free),
        }


def beginning(description: Mapping[str, Any], last: int) -> dict[str, Any]:
    """What training sees of the steps 0 to ``last`` of a protocol.

    Classes and domains that come later, or never, do not enter; which images
    show them is a matter of the data.

    Args:
        description: Description of the whole protocol, as :meth:`Protocol.to_dict` gives it
            or a journal holds it.
        last: The last of the steps.
    """
    steps = [(step['new'], step['domains']) for step in description['steps'][: last + 1]]
    mask_ids = dict(zip(description['classes'], description['mask_ids'], strict=True))
    # They stand in no mask, and are free to be others once a further data set comes.
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
