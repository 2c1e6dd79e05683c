"""Journals of an earlier version, which recorded how many images a step has, and not which."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mmseg_cil.engine.record.fingerprint import (
    EVALUATION,
    evaluation_fingerprint,
    evaluation_of,
    fingerprint,
)
from mmseg_cil.engine.record.journal import Journal
from mmseg_cil.engine.walk import Walk
from mmseg_cil.protocols.base import beginning

IMAGES = 'training images'


def recognise_counts(walk: Walk, journal: Journal) -> bool:
    """Replace the numbers of images in a journal by the images, if the numbers agree; in memory.

    Other files of the earlier version (states of steps in training, lists of exemplars)
    stay as they are, and count as the same: see ``former`` in the journal.

    Args:
        walk: The walk as the config describes it now.
        journal: Changed in place; not written.

    Returns:
        Whether anything changed.
    """
    content = journal.content
    counts = (content.get('images') or {}).get('train') or []
    prints = dict(content['fingerprints'])
    agree = counts == list(walk.train_images[: len(counts)])
    if agree and prints.get(IMAGES) == fingerprint(counts) and None not in walk.prints.train:
        content['former'] = {IMAGES: [prints[IMAGES]], 'protocol': [prints.get('protocol')]}
        _recognise_sub_steps(walk, content)
        prints[IMAGES] = fingerprint(walk.prints.train[: len(counts)])
        content['data'] = {**walk.prints.to_dict(), 'train': walk.prints.train[: len(counts)]}
    before = evaluation_fingerprint(walk.as_given, walk.protocol, walk.test_images)
    if prints.get(EVALUATION) == before:
        prints[EVALUATION] = evaluation_of(walk)
    for record in content['steps']:
        for entry in (record, *(record.get('sub_steps') or {}).values()):
            if entry.get('evaluation') == before:
                entry['evaluation'] = evaluation_of(walk, record['step'])
    taken = prints != content['fingerprints']
    content['fingerprints'] = prints
    return taken


def _recognise_sub_steps(walk: Walk, content: dict[str, Any]) -> None:
    """Identify finished sub-steps by the walk up to their step, where they were by the whole."""
    whole = content['fingerprints']
    for record in content['steps']:
        step = record['step']
        if not has_same_beginning(walk, content['protocol'], step):
            return
        now = {
            'protocol': walk.protocol.beginning_fingerprint(step),
            IMAGES: fingerprint(walk.prints.train[: step + 1]),
        }
        for sub_step in (record.get('sub_steps') or {}).values():
            sub_step['identity'].update(
                {
                    key: value
                    for key, value in now.items()
                    if sub_step['identity'].get(key) == whole.get(key)
                }
            )


def has_same_beginning(walk: Walk, protocol: Mapping[str, Any], last: int) -> bool:
    """Return whether a walk has the steps 0 to ``last`` of a journal's protocol.

    Classes, labels and setting of these steps are compared.

    Args:
        walk: The walk.
        protocol: Protocol as the journal holds it.
        last: The last of the steps.
    """
    try:
        description = json.loads(json.dumps(walk.protocol.to_dict()))
        return bool(beginning(protocol, last) == beginning(description, last))
    except (KeyError, TypeError, ValueError):
        # The protocol has another form; the fingerprint speaks for the whole.
        return False
