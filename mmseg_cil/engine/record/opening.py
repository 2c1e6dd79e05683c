"""The journal as a walk begins or goes on; rank 0 writes it for all processes."""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mmengine
import mmseg
import numpy as np
import torch
from mmengine.dist import get_world_size

import mmseg_cil
from mmseg_cil.engine.config.method import method_of
from mmseg_cil.engine.paths import run_seed
from mmseg_cil.engine.record.computing import computing, note_of_change
from mmseg_cil.engine.record.differences import only_adds_steps
from mmseg_cil.engine.record.earlier import IMAGES, has_same_beginning
from mmseg_cil.engine.record.fingerprint import changed
from mmseg_cil.engine.record.journal import Journal
from mmseg_cil.engine.record.start_from import Import, import_steps
from mmseg_cil.engine.record.trained_elsewhere import TrainedElsewhere, take_over_first_step
from mmseg_cil.engine.walk import Walk
from mmseg_cil.hooks.step_checkpoint_hook import RESUME_NAME
from mmseg_cil.utils.atomic import remove_leftovers
from mmseg_cil.utils.hashed_file import remove_hashed


def open_journal(
    walk: Walk,
    journal: Journal | None,
    fingerprints: dict[str, str],
    start_from: str | None,
    taken: Import | TrainedElsewhere | None,
) -> Journal:
    """Write the journal of a walk that was checked and now begins, or goes on.

    Args:
        walk: The walk.
        journal: Journal of the walk that goes on; None for a new one.
        fingerprints: Fingerprints of the walk.
        start_from: The run whose steps the walk takes over.
        taken: The steps that are taken over.
    """
    remove_leftovers(walk.work_dir)
    if journal and not all(journal.is_trained(step) for step in range(walk.num_steps)):
        note = note_of_change(journal.content)
        if note:
            print(note)
    header = {**_header(walk, fingerprints), 'start_from': start_from}
    if journal is None:
        _forget_states(walk.work_dir)
        journal = Journal.create(walk.work_dir, header)
    elif differing := changed(journal.content['fingerprints'], fingerprints):
        _forget_states(walk.work_dir)
        added = only_adds_steps(walk, journal, fingerprints)
        journal.update_header(**header, **_accepted(walk, journal, () if added else differing))
    else:
        journal.update_header(start_from=start_from)
    if isinstance(taken, TrainedElsewhere):
        take_over_first_step(taken, walk, journal)
    elif taken:
        import_steps(taken, walk.work_dir, journal)
    return journal


def _header(walk: Walk, fingerprints: dict[str, str]) -> dict[str, Any]:
    return {
        'protocol': walk.protocol.to_dict(),
        'method': method_of(walk.cfg, walk.protocol.name),
        'fingerprints': fingerprints,
        'seed': run_seed(walk.cfg),
        'world_size': get_world_size(),
        'computing': computing(),
        'images': {'train': list(walk.train_images), 'test': list(walk.test_images)},
        'data': walk.prints.to_dict(),
        'iterations': list(walk.iterations),
        'command': sys.argv,
        'versions': {
            'mmseg_cil': mmseg_cil.__version__,
            'python': platform.python_version(),
            'torch': torch.__version__,
            'numpy': np.__version__,
            'mmengine': mmengine.__version__,
            'mmseg': mmseg.__version__,
        },
    }


def _accepted(walk: Walk, journal: Journal, differing: Sequence[str]) -> dict[str, Any]:
    """Return what a journal keeps when its walk goes on with accepted changes or further steps.

    Args:
        walk: The walk.
        journal: Journal of the walk.
        differing: The accepted changes; empty where only steps were added.
    """
    content = journal.content
    trained = [record['step'] for record in content['steps'] if record['status'] != 'begun']
    last = max(trained, default=-1)
    recorded = (content.get('data') or {}).get('train') or []
    # Records of the trained steps with the former fingerprints of the whole walk stay valid.
    same = has_same_beginning(walk, content['protocol'], last) and list(
        recorded[: last + 1]
    ) == list(walk.prints.train[: last + 1])
    former = content.get('former') or {}
    return {
        'former': {
            key: [*former.get(key, ()), content['fingerprints'].get(key)]
            for key in ('protocol', IMAGES)
        }
        if same
        else {},
        'accepted_changes': [
            *(content.get('accepted_changes') or ()),
            *([{'changed': list(differing), 'trained_before': trained}] if differing else []),
        ],
    }


def _forget_states(work_dir: Path) -> None:
    """Remove states in training that another walk, or another config, left here."""
    for pattern in (f'step_*/{RESUME_NAME}', f'step_*/*/{RESUME_NAME}'):
        for path in work_dir.glob(pattern):
            remove_hashed(path)
