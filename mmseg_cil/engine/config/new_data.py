"""New data as a person names them: two folders, or the config of any data set."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmseg_cil.engine.config.load import read_unsettled
from mmseg_cil.engine.data import dataset_of, first_value
from mmseg_cil.errors import InputError
from mmseg_cil.registry import DATASETS


@dataclass(frozen=True)
class ImagesAndMasks:
    """A folder of images and one of masks.

    Attributes:
        images: The folder of the images.
        masks: The folder of the masks; each mask is named as its image, with another ending.
    """

    images: Path
    masks: Path

    def dataset(self) -> dict[str, Any]:
        """Return the config of the data set, without pipeline.

        Raises:
            InputError: A folder is missing, or no mask is named as an image.
        """
        image_end, mask_end = self._endings()
        return dict(
            type='BaseSegDataset',
            data_prefix=dict(
                img_path=str(self.images.resolve()), seg_map_path=str(self.masks.resolve())
            ),
            img_suffix=image_end,
            seg_map_suffix=mask_end,
        )

    def _endings(self) -> tuple[str, str]:
        """Return the endings of the names of images and masks, taken from the first pair."""
        for folder in (self.images, self.masks):
            if not folder.is_dir():
                raise InputError(f'there is no folder {folder}: give one with images and masks')
        images, masks = (sorted(os.listdir(folder)) for folder in (self.images, self.masks))
        for image in images:
            stem, ending = os.path.splitext(image)
            for mask in masks:
                if stem and ending and mask.startswith(stem) and mask[len(stem) :][:1] in '._-':
                    return ending, mask[len(stem) :]
        raise InputError(
            f'no mask in {self.masks} is called as an image in {self.images}: image.jpg needs '
            'image.png, or image_labels.png'
        )


@dataclass(frozen=True)
class NewData:
    """New data, and the meaning of the ids in their masks.

    Attributes:
        train: Two folders, or the path of a config whose ``train_dataloader`` (and
            ``test_dataloader``) have the data sets.
        test: Two folders with the images to score on and their masks; None: the test data of the
            config that ``train`` names, or else the new images themselves.
        name: Name of the data in the report; empty: named after the step.
        ids: Ids in the masks of each class; empty: see :meth:`settings`.
        void_ids: Ids of pixels that belong to no class, besides 255.
        class_map: The walk's names of classes, by the names that the data use instead.
        unlabelled: Meaning of unlabelled pixels: ``'background'``, ``'void'`` or, where the network
            has no background, ``'old'`` (one of the old classes). Empty: background where there is
            one, else old where the method's loss can learn that, else void.
        old_labels: Treatment of labels of old classes, ``'hidden'`` or ``'used'``; empty: hidden.
    """

    train: ImagesAndMasks | str
    test: ImagesAndMasks | None = None
    name: str = ''
    ids: Mapping[str, Sequence[int]] = field(default_factory=dict)
    void_ids: Sequence[int] = ()
    class_map: Mapping[str, str] = field(default_factory=dict)
    unlabelled: str = ''
    old_labels: str = ''

    def settings(self, new: Sequence[str], known: Sequence[str], old: Config) -> dict[str, Any]:
        """Return the settings under ``data`` of the steps.

        Where :attr:`ids` is empty, masks of two folders hold 1, 2, ... for the new classes in
        their order. Where no class is new either, these masks hold the ids of the data that the
        network was trained with.

        Args:
            new: New classes of all steps, in order.
            known: Classes of the network.
            old: The config that the network was trained with.

        Raises:
            InputError: A folder or file is missing, or has no data set.
        """
        if isinstance(self.train, str):
            found = _datasets_of(self.train)
        else:
            found = dict(train=self.train.dataset())
            found['test'] = self.train.dataset()
        if self.test is not None:
            found['test'] = self.test.dataset()
        labels = {name: list(ids) for name, ids in self.ids.items()}
        if not labels and not isinstance(self.train, str):
            if new:
                labels = {name: [place] for place, name in enumerate(new, 1)}
            else:
                for dataset in found.values():
                    dataset['metainfo'] = dict(classes=list(known))
                    dataset['reduce_zero_label'] = _reduces_zero_label(old)
        given = dict(
            name=self.name,
            labels={n: ids[0] if len(ids) == 1 else ids for n, ids in labels.items()},
            class_map=dict(self.class_map),
            void_ids=list(self.void_ids),
            # The protocol's policy, not this setting, says that unlabelled pixels are old.
            unlabelled='' if self.unlabelled == 'old' else self.unlabelled,
            old_labels=self.old_labels,
        )
        return {**{key: value for key, value in given.items() if value}, **found}

    @property
    def has_test(self) -> bool:
        """Return whether there are test images other than the training images."""
        return self.test is not None or isinstance(self.train, str)


def _datasets_of(path: str) -> dict[str, Any]:
    cfg = read_unsettled(path)
    given = {split: dataset_of(cfg, split) for split in ('train', 'test')}
    found = {
        split: Config(dict(dataset=dataset)).to_dict()['dataset']
        for split, dataset in given.items()
        if dataset is not None
    }
    if 'train' not in found:
        raise InputError(
            f'{path} has no train_dataloader with a dataset, which is where --data looks for the '
            'new images: add one, or give --images and --masks'
        )
    return found


def _reduces_zero_label(old: Config) -> bool:
    """Return whether masks like those that a network was trained with hold class i as i + 1."""
    dataset = (old.get('train_dataloader') or {}).get('dataset') or {}
    given = first_value(dataset, 'reduce_zero_label')
    name = first_value(dataset, 'type') if not dataset.get('dataset') else None
    kind = DATASETS.get(name) if isinstance(name, str) else name
    if given is None and kind is not None:
        parameter = inspect.signature(kind.__init__).parameters.get('reduce_zero_label')
        given = None if parameter is None else parameter.default
    return bool(given)
