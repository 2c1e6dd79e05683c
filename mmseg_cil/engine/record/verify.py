"""Checks that a journal belongs to the present config and to the present files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mmseg_cil.engine.export.checkpoint import CHECKPOINT_NAME
from mmseg_cil.engine.paths import step_folder
from mmseg_cil.engine.record.completeness import problem_of
from mmseg_cil.engine.record.fingerprint import OWN_PIPELINE, changed
from mmseg_cil.engine.record.journal import Journal
from mmseg_cil.engine.runner.distributed import decided_by_main
from mmseg_cil.errors import InputError

_LISTED = 5


def check_same_version(journal: Journal, fingerprints: Mapping[str, str]) -> None:
    """Refuse a journal whose fingerprints are not of the kinds that this version takes.

    Raises:
        InputError: An earlier version wrote the journal.
    """
    found, own = journal.content['fingerprints'], OWN_PIPELINE
    # The fingerprints of data sets that steps bring are named after the data sets.
    if any(
        key not in found or key not in fingerprints
        for key in {*found, *fingerprints}
        if not key.startswith(own)
    ):
        version = (journal.content.get('versions') or {}).get('mmseg_cil', 'unknown')
        raise InputError(
            f'the journal {journal.path} was written by an earlier version of mmseg_cil '
            f'({version}) and cannot be compared with this config: it has fingerprints of '
            f'{sorted(found)}, this version takes {sorted(fingerprints)}. Go on with that version, '
            'or, if the config is the one of that walk, record it anew: mmseg-cil train '
            f'CONFIG --work-dir {journal.path.parent} --resume --accept-changes --steps 0'
        )


def check_same_walk(
    journal: Journal,
    fingerprints: Mapping[str, str],
    kinds: Sequence[str] | None = None,
    details: Mapping[str, str] | None = None,
    settings: Sequence[str] = (),
) -> None:
    """Refuse a config that would train otherwise than the one the walk was begun with.

    Args:
        journal: Journal of the walk.
        fingerprints: Fingerprints of the config now.
        kinds: Names of the fingerprints to compare. All but the evaluation's by default.
        details: Details on fingerprints that differ, by name, for the message.
        settings: Keys of the config that differ, for the message.

    Raises:
        InputError: The fingerprints differ, or an earlier version wrote the journal.
    """
    check_same_version(journal, fingerprints)
    before = journal.content['fingerprints']
    differing = [key for key in changed(before, fingerprints) if kinds is None or key in kinds]
    if not differing:
        return
    if kinds is not None:
        prints = '; '.join(
            f'{key}: {before.get(key, "none")[:16]} expected, '
            f'{fingerprints.get(key, "none")[:16]} found'
            for key in differing
        )
        raise InputError(
            f'this config is not that of the walk that {journal.path} records '
            f'({prints}): its scores would be of something else; use the config of '
            'the walk'
        )
    said = [f'{key} ({details[key]})' if details and key in details else key for key in differing]
    keys = ', '.join(settings[:_LISTED]) + (' and others' if len(settings) > _LISTED else '')
    which = f' (changed settings: {keys})' if keys else ''
    raise InputError(
        f'this config differs from the one that {journal.path.parent} was begun with, in: '
        f'{", ".join(said)}{which}. Results would mix two settings: use the former config, '
        'another --work-dir, or --accept-changes if you mean it'
    )


def check_checkpoint(journal: Journal, step: int) -> Path:
    """Check that a step's checkpoint, and the files its hooks kept, are as the journal records.

    Rank 0 reads the files for all processes.

    Returns:
        The path of the checkpoint.

    Raises:
        InputError: A file is missing, or was changed or damaged.
    """
    return decided_by_main(lambda: _checked(journal, step))


def _checked(journal: Journal, step: int) -> Path:
    problem = problem_of(journal, step)
    if problem:
        raise InputError(problem)
    return step_folder(journal.path.parent, step) / CHECKPOINT_NAME
