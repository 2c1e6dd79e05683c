"""The exemplar memory: its settings, and the list of image names that it is kept as."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from mmseg_cil.errors import InputError
from mmseg_cil.memory.selection import Lists
from mmseg_cil.protocols import Protocol
from mmseg_cil.utils.atomic import write_json
from mmseg_cil.utils.values import check_choice, check_number

FILE_NAME = 'exemplars.json'
FORMAT = 1
SELECTIONS = ('herding', 'class_balanced', 'random', 'balanced')
PER = ('total', 'class')
LABELS = ('at_replay', 'at_storage')


@dataclass(frozen=True)
class MemorySettings:
    """The settings of a method's ``memory``.

    Attributes:
        budget: Number of images to keep.
        per: ``'total'``: the budget is the number of different images in all,
            shared by the classes seen, so that a class keeps fewer and fewer.
            ``'class'``: the budget is the number of images for each class, so that
            the memory grows. In a domain-incremental walk a domain stands for a
            class.
        selection: ``'herding'``: the selection of iCaRL, for each class the images
            whose mean feature is nearest the mean of all. ``'class_balanced'``:
            images are drawn for each class. ``'random'``: images are drawn from all
            images met so far, whatever they show (with a budget per class the same
            as ``'class_balanced'``). ``'balanced'``: the selection of SSUL, after each
            step anew: classes take turns to draw an image that shows them, also an old
            class that the step's network sees in an image; each image counts for the class
            that drew it alone. It has one budget, so ``per`` must be 'total'.
        confidence: The least confidence of a class that the network sees, in [0, 1], for
            ``'balanced'``: 0.7 in SSUL, 0.9 in Decomposed KD and STAR.
        labels: The labels that an exemplar shows when it is replayed.
            ``'at_replay'``: the labels of all classes known at the step that
            replays the exemplar, as in SSUL (clovaai/SSUL ``datasets/voc.py``,
            image set 'memory'). In the setting overlapped, this shows no label that
            the training images of some step did not show before. ``'at_storage'``:
            the labels of the classes known when the image was chosen; later classes
            are background, except for this step's classes where the image is one of
            this step's own.
        ratio: Probability that a training sample is an exemplar, in (0, 1).
            None: exemplars and the step's images are drawn alike.
        seed: Seed of random selections. None: the run's seed.
    """

    budget: int
    per: str = 'total'
    selection: str = 'herding'
    labels: str = 'at_replay'
    ratio: float | None = None
    seed: int | None = None
    confidence: float = 0.7

    def __post_init__(self) -> None:
        if not isinstance(self.budget, int) or isinstance(self.budget, bool) or self.budget < 1:
            raise InputError(
                f'memory: the budget is a number of images, at least 1, not '
                f'{self.budget!r}; to replay nothing, leave memory out'
            )
        for key, allowed in (('per', PER), ('selection', SELECTIONS), ('labels', LABELS)):
            check_choice('memory', key, getattr(self, key), allowed)
        if self.ratio is not None and not (
            isinstance(self.ratio, (int, float)) and 0 < self.ratio < 1
        ):
            raise InputError(
                'memory: ratio is the share of exemplars among the training samples, '
                f'between 0 and 1, or None, not {self.ratio!r}'
            )
        check_number(self, 'confidence', self.confidence, most=1.0)
        if self.selection == 'balanced' and self.per != 'total':
            raise InputError(
                "memory: selection='balanced' lets the classes take turns within one budget: set "
                "per='total', or take selection='class_balanced' for a budget of each class"
            )
        if self.seed is not None and not isinstance(self.seed, int):
            raise InputError(f'memory: the seed must be an integer or None, not {self.seed!r}')

    @classmethod
    def from_config(cls, config: Mapping[str, Any] | None) -> MemorySettings | None:
        """Read a method's ``memory``; None where the method keeps no exemplars.

        Raises:
            InputError: The setting is not a dict of the attributes above, or a value is wrong.
        """
        if config is None:
            return None
        known = [entry.name for entry in fields(cls)]
        if not isinstance(config, Mapping) or 'budget' not in config or set(config) - set(known):
            raise InputError(
                f'memory must be None or a dict with a budget and perhaps others of '
                f'{known}, such as dict(budget=100), not {config!r}'
            )
        return cls(**config)

    @property
    def is_one_pool(self) -> bool:
        """Return whether images are drawn whatever they show, so that there are no groups."""
        return self.selection == 'random' and self.per == 'total'

    def choice(self, run_seed: int) -> dict[str, Any]:
        """Return the settings that the chosen images depend on, besides data and network."""
        chosen: dict[str, Any] = dict(budget=self.budget, per=self.per, selection=self.selection)
        if self.selection != 'herding':
            chosen['seed'] = run_seed if self.seed is None else self.seed
        if self.selection == 'balanced':
            chosen['confidence'] = self.confidence
        return chosen


@dataclass(frozen=True)
class ExemplarMemory:
    """The images kept after a step, by name.

    Attributes:
        protocol: Fingerprint of the protocol up to the step (of the whole protocol, in lists
            of an earlier version).
        choice: :meth:`MemorySettings.choice` that the images were chosen by.
        step: The step after which the images were chosen.
        lists: The images kept for each group, the most important first. A group
            is a class, or the domains of a step, or all images.
        stored: The step after which each image was chosen, the last such step where an
            image was chosen several times. This step fixes the classes known at storage.
    """

    protocol: str
    choice: dict[str, Any]
    step: int
    lists: Lists
    stored: dict[str, int]

    @property
    def names(self) -> list[str]:
        """The different images, group by group."""
        return list(dict.fromkeys(name for names in self.lists.values() for name in names))

    def is_of(self, protocol: Protocol) -> bool:
        """Return whether the memory is of a walk over this protocol, as far as it had come."""
        if not self.step < len(protocol.steps):
            return False
        return self.protocol in (
            protocol.beginning_fingerprint(self.step),
            protocol.training_fingerprint(),
        )

    def save(self, path: Path) -> None:
        """Write ``exemplars.json`` atomically: names, never pixels.

        ``kept_for`` gives the rank of an image in the list of each group that the
        image is kept for.
        """
        kept_for: dict[str, dict[str, int]] = {name: {} for name in self.names}
        for group, names in self.lists.items():
            for rank, name in enumerate(names):
                kept_for[name][group] = rank
        write_json(
            path,
            {
                'format': FORMAT,
                'step': self.step,
                'protocol': self.protocol,
                'choice': self.choice,
                'groups': {group: len(names) for group, names in self.lists.items()},
                'images': [
                    {'name': name, 'step': self.stored[name], 'kept_for': groups}
                    for name, groups in kept_for.items()
                ],
            },
        )

    @classmethod
    def load(cls, path: Path) -> ExemplarMemory:
        """Read ``exemplars.json``.

        Raises:
            InputError: The file is missing or damaged.
        """
        try:
            content = json.loads(path.read_text(encoding='utf-8-sig'))
            if content['format'] != FORMAT:
                raise ValueError(f'its format is {content["format"]!r}, not {FORMAT}')
            images = content['images']
            lists = {
                group: _in_order(images, group, int(count))
                for group, count in content['groups'].items()
            }
            stored = {str(image['name']): int(image['step']) for image in images}
            memory = cls(
                str(content['protocol']),
                dict(content['choice']),
                int(content['step']),
                lists,
                stored,
            )
            if set(memory.names) != set(stored) or len(stored) != len(images):
                raise ValueError('an image is kept for nothing or listed twice')
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f'the list of exemplars {path} is missing or damaged ({error!r:.200}): restore it, '
                "or delete it, and the walk chooses exemplars anew from that step's checkpoint"
            ) from error
        return memory


def _in_order(images: list[dict[str, Any]], group: str, count: int) -> tuple[str, ...]:
    ranked = {
        int(image['kept_for'][group]): str(image['name'])
        for image in images
        if group in image['kept_for']
    }
    if sorted(ranked) != list(range(count)):
        raise ValueError(f'the ranks of the images of {group!r} are not 0 to {count - 1}')
    return tuple(ranked[rank] for rank in range(count))
