"""The choices in which published protocols differ, each with a name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from mmseg_cil.errors import InputError

_CHOICES: Mapping[str, tuple[object, ...]] = {
    'void_train': ('ignore', 'background'),
    'void_test': ('ignore', 'background'),
    'background_train': ('keep', 'ignore'),
    'background_test': ('keep', 'ignore'),
    'unseen_test': ('background', 'ignore'),
    'unknown': ('ignore', 'unseen'),
    'test_images': ('seen', 'all'),
    'old': ('previous', 'base'),
    'background_in_means': (True, False),
    'unlabelled': ('void', 'old'),
}

#: The choices that touch no training image and no training label.
TEST_CHOICES = (
    'void_test',
    'background_test',
    'unseen_test',
    'test_images',
    'old',
    'background_in_means',
)


@dataclass(frozen=True)
class Policy:
    """The choices that make figures of different papers differ.

    Attributes:
        void_train: Void pixels in training: left out (``'ignore'``) or trained
            as ``'background'``.
        void_test: Void pixels at test: left out (``'ignore'``) or tested as
            ``'background'``.
        background_train: Background in training is learnt (``'keep'``) or
            ignored. The background includes the old and future classes where
            the setting hides their labels.
        background_test: True background at test counts (``'keep'``) or is ignored.
        unseen_test: Classes not seen yet are background at test, or ignored.
        unknown: Entry of the label tables for mask ids that no class and no
            void id has. Masks with such ids are refused before training, so
            this matters only to those who use the tables alone: ``'unseen'``
            treats them as a class that never comes, as MiB and PLOP do.
        test_images: Test on images with a foreground class seen so far alone
            (``'seen'``; on all images while no foreground class has been seen), or
            on ``'all'``.
        old: The "old" classes of a step are the classes of all ``'previous'`` steps,
            or the ``'base'`` classes of step 0.
        background_in_means: Whether the background counts in the mean IoUs.
        unlabelled: In protocols without background, training pixels whose class is not labelled
            are left out (``'void'``), or count as an unknown one of the old classes (``'old'``).
            Only losses that know of hidden classes can learn from ``'old'`` pixels.
    """

    void_train: str = 'ignore'
    void_test: str = 'ignore'
    background_train: str = 'keep'
    background_test: str = 'keep'
    unseen_test: str = 'background'
    unknown: str = 'ignore'
    test_images: str = 'seen'
    old: str = 'previous'
    background_in_means: bool = True
    unlabelled: str = 'void'

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise InputError(
                    f'protocol policy: {name}={value!r} is unknown; '
                    f'use one of {", ".join(map(repr, choices))}.'
                )

    @classmethod
    def preset(cls, name: str, dataset: str = '', **changes: Any) -> Policy:
        """Return a named set of choices, with changes.

        ``'mib'`` and ``'plop'`` follow the label maps in ``dataset/voc.py`` and
        ``dataset/ade.py`` of fcdl94/MiB and arthurdouillard/CVPR2021_PLOP. MiB
        trains void as background and ignores unseen classes at test; on ADE20K
        it ignores the background at test too. PLOP ignores void, tests unseen
        classes as background, and on ADE20K, whose masks have no void, would
        take 255 for background. Both presets report the classes of step 0 as old,
        as the tables of both papers do (1-15 and 16-20); MiB's tables leave the
        background out.

        Args:
            name: ``'default'``, ``'mib'`` or ``'plop'``.
            dataset: ``'ade20k'`` selects the papers' choices on ADE20K.
            **changes: Fields set otherwise than in the preset.

        Raises:
            InputError: Unknown preset, field or value.

        Example:
            >>> Policy.preset('mib').void_train
            'background'
            >>> Policy.preset('mib', void_train='ignore').void_train
            'ignore'
        """
        if not isinstance(name, str) or name not in PRESETS:
            raise InputError(
                f'protocol: preset {name!r} is unknown; use one of {", ".join(PRESETS)}.'
            )
        known = [field.name for field in fields(cls)]
        for key in changes:
            if key not in known:
                raise InputError(
                    f'protocol policy: there is no choice {key!r}; there are {", ".join(known)}.'
                )
        values = dict(PRESETS[name])
        if dataset == 'ade20k':
            values |= _ON_ADE20K.get(name, {})
        return cls(**(values | changes))

    def to_dict(self) -> dict[str, Any]:
        """Return all choices by name; ``unlabelled`` only where it is not the default.

        So protocols that are older than the choice ``unlabelled`` keep their fingerprints.
        """
        choices = asdict(self)
        if self.unlabelled == 'void':
            del choices['unlabelled']
        return choices


PRESETS: Mapping[str, Mapping[str, Any]] = {
    'default': {},
    'mib': {
        'void_train': 'background',
        'unseen_test': 'ignore',
        'unknown': 'unseen',
        'old': 'base',
        'background_in_means': False,
    },
    'plop': {'unknown': 'unseen', 'old': 'base'},
}
"""The choices of each preset that differ from :class:`Policy`'s defaults."""

_ON_ADE20K: Mapping[str, Mapping[str, Any]] = {
    'mib': {'background_test': 'ignore'},
    'plop': {'void_train': 'background', 'void_test': 'background'},
}
