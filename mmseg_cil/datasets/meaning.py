"""The meaning of the ids in the masks of a dataset, as the config tells it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mmseg_cil.datasets.items import Source
from mmseg_cil.protocols import Protocol, build_protocol


def mask_meaning(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """Return the classes and void ids that a dataset's config gives; None where not given.

    Args:
        dataset: Config of a dataset of MMSegmentation. ``ConcatDataset`` and
            ``RepeatDataset`` have the classes and void ids of their first dataset.
    """
    inner = dataset.get('datasets') or [dataset.get('dataset')]
    if isinstance(inner[0], Mapping):
        return mask_meaning(inner[0])
    classes = (dataset.get('metainfo') or {}).get('classes')
    void_ids = dataset.get('void_ids')
    return dict(
        classes=None if classes is None else list(classes),
        void_ids=void_ids if void_ids is None or isinstance(void_ids, int) else list(void_ids),
    )


def reference_of(train: Mapping[str, Any], test: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the meaning of the training masks, if test masks have another meaning; else None.

    Args:
        train: Config of the training dataset.
        test: Config of the test dataset.
    """
    reference, own = mask_meaning(train), mask_meaning(test)
    reordered = (
        own['classes']
        and reference['classes']
        and own['classes'] != reference['classes']
        and sorted(own['classes']) == sorted(reference['classes'])
    )
    return reference if reordered or own['void_ids'] != reference['void_ids'] else None


def protocols_of(
    config: Mapping[str, Any], source: Source | None, reference: Mapping[str, Any] | None = None
) -> tuple[Protocol, Protocol]:
    """Return a config's protocol for the training dataset's masks, and for another dataset's.

    Args:
        config: The ``protocol`` of a config.
        source: The other dataset; None where no step reads the dataset of the config.
        reference: The meaning of the training dataset's masks; None: the same as ``source``'s.

    Returns:
        Two protocols of the same classes and steps, or twice the same one.
    """
    if source is None:
        protocol = build_protocol(config)
        return protocol, protocol
    own = {*(config.get('void_ids') or ()), *source.void_ids}
    if reference is None:
        void_ids = dict(void_ids=sorted(own)) if own else {}
        protocol = build_protocol(
            {**config, **void_ids}, source.classes or None, source.reduce_zero_label
        )
        return protocol, protocol
    void = {*(config.get('void_ids') or ()), *(reference.get('void_ids') or ())}
    trained = build_protocol(
        {**config, 'void_ids': sorted(void)},
        reference.get('classes') or source.classes,
        source.reduce_zero_label,
    )
    taxonomy = trained.taxonomy.as_in_masks_of(
        source.classes, source.reduce_zero_label, sorted(own)
    )
    return trained, replace(trained, taxonomy=taxonomy)
