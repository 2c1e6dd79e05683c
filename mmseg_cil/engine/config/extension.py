"""The config of an extension: a trained network learns classes of new images.

It is written as a file of its own, which a person reads and changes: its bases are the config of
the trained network and the piece of a method; it says the new data, the steps and the mask ids.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from pprint import pformat
from typing import Any

from mmengine.config import Config

from mmseg_cil.engine.config.files import BASES
from mmseg_cil.engine.config.first_step import classes_of_network
from mmseg_cil.engine.config.load import read_unsettled
from mmseg_cil.engine.data import first_value
from mmseg_cil.errors import InputError
from mmseg_cil.protocols.taxonomy import is_background

#: The name of the file in the work directory of the walk.
NAME = 'extension.py'


@dataclass(frozen=True)
class ImagesAndMasks:
    """A folder of images and one of masks.

    Attributes:
        images: The folder of the images.
        masks: The folder of the masks; each is called as its image, with another ending.
    """

    images: Path
    masks: Path

    def dataset(self, pipeline: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return the config of the data set.

        Args:
            pipeline: Its pipeline.

        Raises:
            InputError: A folder is missing, or no mask is called as an image.
        """
        image_end, mask_end = self._endings()
        return dict(
            _delete_=True,
            type='BaseSegDataset',
            data_prefix=dict(
                img_path=str(self.images.resolve()), seg_map_path=str(self.masks.resolve())
            ),
            img_suffix=image_end,
            seg_map_suffix=mask_end,
            pipeline=list(pipeline),
        )

    def _endings(self) -> tuple[str, str]:
        """Endings of the names of images and masks, as those of the first pair are."""
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
class Extension:
    """What a trained network is to learn.

    Attributes:
        config: The config that it was trained with, a path or ``mmseg::...``.
        checkpoint: Its weights.
        steps: The new classes of each step.
        train: New images.
        test: Images to score on; None: the new ones.
        ids: Id in the masks of each new class; empty: 1, 2, ... in the order of the steps.
        void_ids: Ids of pixels that belong to no class, besides 255.
        classes: The network's, where neither file tells them.
        method: A piece of ``configs/_base_/methods``, or the path of one. Empty: MiB for a network
            with a background, whose losses know what hides there, and LwF for another.
        iterations: Of each step; None: as the config has them.
        lr: Learning rate of each step; None: as the config has it.
    """

    config: str
    checkpoint: str
    steps: Sequence[Sequence[str]]
    train: ImagesAndMasks
    test: ImagesAndMasks | None = None
    ids: Mapping[str, int] = field(default_factory=dict)
    void_ids: Sequence[int] = ()
    classes: Sequence[str] = ()
    method: str = ''
    iterations: int | None = None
    lr: float | None = None

    def text(self) -> str:
        """Return the file.

        Raises:
            InputError: A file or folder is missing, or the config has no pipelines.
        """
        old = read_unsettled(self.config)
        path = self.config if '::' in self.config else str(Path(self.config).resolve())
        checkpoint = Path(self.checkpoint)
        names = [name for step in self.steps for name in step]
        if not names:
            raise InputError('no new class is given: write --new-classes horse sheep')
        protocol: dict[str, Any] = dict(
            name='extended',
            dataset='new_images',
            checkpoint=dict(
                config=path,
                checkpoint=str(checkpoint.resolve()) if checkpoint.is_file() else self.checkpoint,
            ),
            steps=[list(step) for step in self.steps],
            labels=dict(self.ids) or {name: place for place, name in enumerate(names, 1)},
        )
        if self.classes:
            protocol['checkpoint']['classes'] = list(self.classes)
        if self.void_ids:
            protocol['void_ids'] = list(self.void_ids)
        if old.get('protocol') is not None:
            # The network is of a walk: its classes and steps are not those of this one.
            protocol['_delete_'] = True
        settings: dict[str, Any] = dict(
            default_scope='mmseg_cil',
            protocol=protocol,
            train_dataloader=dict(dataset=self.train.dataset(_pipeline(old, 'train'))),
            test_dataloader=dict(dataset=(self.test or self.train).dataset(_pipeline(old, 'test'))),
            # They would be of the old data.
            val_dataloader=None,
            val_cfg=None,
            val_evaluator=None,
        )
        given = dict(max_iters=self.iterations, lr=self.lr)
        later = {key: value for key, value in given.items() if value is not None}
        if later:
            settings['step_overrides'] = dict(later=later)
        bases, method = [path], self._method_file(old)
        if old.get('method') is None:
            bases.append(method)
        else:
            # The config is of a walk; two bases must not both set a method.
            piece = read_unsettled(method).to_dict()['method']
            settings['method'] = dict(_delete_=True, **piece)
        lines = [
            '"""A trained network learns new classes; written by mmseg-cil extend."""',
            f'_base_ = {bases!r}',
            *(
                f'{key} = {pformat(value, 1, 96, sort_dicts=False)}'
                for key, value in settings.items()
            ),
        ]
        return '\n'.join(lines) + '\n'

    def _method_file(self, old: Config) -> str:
        method = self.method
        if not method:
            classes = self.classes or classes_of_network(self.checkpoint, old)
            method = 'mib' if is_background(str(classes[0])) else 'lwf'
        path = Path(method) if method.endswith('.py') else None
        if path is not None and path.is_file():
            return str(path.resolve())
        if path is not None or not (BASES / 'methods' / f'{method}.py').is_file():
            raise InputError(f'there is no method {method}: mmseg-cil methods lists them')
        return f'mmseg_cil::_base_/methods/{method}.py'


def _pipeline(cfg: Config, split: str) -> list[dict[str, Any]]:
    """The pipeline of a config, which reads masks as they are.

    Raises:
        InputError: It has none.
    """
    dataset = (cfg.get(f'{split}_dataloader') or {}).get('dataset') or {}
    found = first_value(dataset, 'pipeline') or cfg.get(f'{split}_pipeline') or ()
    steps = [dict(step) for step in found]
    if not any(step.get('type') == 'LoadAnnotations' for step in steps):
        raise InputError(
            f'{cfg.filename} has no {split}_dataloader whose pipeline loads annotations: give the '
            'whole config that the network was trained with'
        )
    for step in steps:
        # The ids of the new masks are given as they stand there.
        step.pop('reduce_zero_label', None)
    plain: list[dict[str, Any]] = Config(dict(steps=steps)).to_dict()['steps']
    return plain
