"""Checks that the training and the test dataset, taken together, mean what they seem to mean."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from mmengine.dist import get_rank
from mmengine.logging import print_log

from mmseg_cil.datasets import IncrementalDataset
from mmseg_cil.datasets.first_look import first_look
from mmseg_cil.datasets.items import DatasetConfig, open_sources
from mmseg_cil.datasets.meaning import reference_of
from mmseg_cil.datasets.members import check_apart, contents_of
from mmseg_cil.engine.preflight.building import part
from mmseg_cil.errors import InputError


def check_data(train: IncrementalDataset | None, test: IncrementalDataset) -> None:
    """Check both datasets as a walk will use them, and report what may be wrong.

    Args:
        train: View of the training split; None where a walk is only evaluated.
        test: View of the test split.

    Raises:
        InputError: Classes, lists, images or masks are surely wrong.
    """
    notes = []
    if train is not None:
        notes += first_look(train)
    notes += first_look(test)
    # Where both read the same lists, the protocol decides which images train and which test.
    if train is not None and not test.protocol.pools_splits:
        if train.classes != test.classes and train.classes and test.classes:
            notes.append(
                'the test dataset lists its classes in another order than the training '
                'dataset: each reads its masks by its own list'
            )
        notes += [
            f'{data.where} has no test: what its steps bring is scored on the test images of the '
            'others, where they show it'
            for data in train.protocol.own_data
            if 'test' not in data.configs
        ]
        if train.protocol.own_data:
            check_apart(train.data.everything(), test.data.everything(), train.protocol)
        notes += shared_images(train, test)
        names = [*train.class_index().names, *test.class_index().names]
        notes += train.protocol.unmatched(names)
    tell(notes)


def tell(notes: Sequence[str]) -> None:
    """Show sentences on the console, each once."""
    if get_rank() == 0:
        for note in dict.fromkeys(notes):
            print_log(note, 'current', logging.WARNING)


def check_same_classes(train_config: DatasetConfig, test_config: DatasetConfig) -> None:
    """Check that an id in a mask means the same class in training and at test.

    Args:
        train_config: Config of the training dataset.
        test_config: Config of the test dataset.

    Raises:
        InputError: The datasets have different classes, or list them in different
            orders without a word of this in the config.
    """
    train = open_sources(train_config)[0]
    with part('the test dataset or its pipeline'):
        test = open_sources(test_config)[0]
    if not train.classes or not test.classes:
        # The protocol knows the classes, or else refuses the dataset itself.
        return
    if sorted(train.classes) != sorted(test.classes):
        here, there = set(train.classes), set(test.classes)
        differences = [
            f'only {where}: {", ".join(sorted(names))}'
            for where, names in (('in training', here - there), ('at test', there - here))
            if names
        ]
        raise InputError(
            f'the training dataset has the classes {list(train.classes)}, the test dataset '
            f'{list(test.classes)} ({"; ".join(differences) or "some named twice"}): both need '
            'the same classes'
        )
    if train.reduce_zero_label != test.reduce_zero_label:
        raise InputError(
            f'the training dataset has reduce_zero_label={train.reduce_zero_label}, the test '
            f'dataset {test.reduce_zero_label}: the same id would mean another class. '
            'Set it alike in both'
        )
    if train.classes != test.classes and not reference_of(train_config, test_config):
        raise InputError(
            f'the training dataset has the classes {list(train.classes)}, the test dataset lists '
            f'them in another order, {list(test.classes)}: give both with metainfo.classes, each '
            'in the order of the ids in its own masks'
        )


def shared_images(train: IncrementalDataset, test: IncrementalDataset) -> list[str]:
    """Return a note on test images that are training images too, even as copies; else nothing."""
    trained = set(contents_of(train.class_index()))
    index = test.class_index()
    shared = np.array([content in trained for content in contents_of(index)])
    if not shared.any():
        return []
    first = index.names[int(shared.argmax())]
    return [
        f'{int(shared.sum())} of {len(shared)} test images are training images too, such as '
        f'{first}: their scores are not those of unseen images'
    ]
