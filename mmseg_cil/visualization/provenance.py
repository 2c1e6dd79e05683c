"""The foot of a report: how its walks were made."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from mmseg_cil.visualization.page import Details, Section
from mmseg_cil.visualization.sweep import CONFIG_COPY
from mmseg_cil.visualization.tables import UNDEFINED, Table
from mmseg_cil.visualization.walk_record import WalkRecord

_SHORT = 12


def provenance_section(walks: Sequence[WalkRecord], labels: Sequence[str]) -> Section:
    """Return commands, versions, hashes and configs of walks, as their journals record them.

    Args:
        walks: The walks of a page.
        labels: Their names on it.
    """
    facts = [_facts(walk) for walk in walks]
    keys = dict.fromkeys(key for found in facts for key in found)
    rows = [[key, *(found.get(key, UNDEFINED) for found in facts)] for key in keys]
    words = frozenset(range(1, len(walks) + 1))
    table = Table('How it was made', ['', *labels], rows, words, 'provenance')
    configs = [
        Details(f'Config of {label}', text)
        for walk, label in zip(walks, labels, strict=True)
        if (text := _config(walk))
    ]
    return Section('How it was made', [table, *configs])


def _facts(walk: WalkRecord) -> dict[str, str]:
    """Return what a journal says of how a walk was made, as text."""
    journal = walk.journal
    facts: dict[str, str] = {'folder': str(walk.work_dir)}
    command = journal.get('command')
    if isinstance(command, Sequence) and not isinstance(command, str):
        facts['command'] = shlex.join(['mmseg-cil', *map(str, list(command)[1:])])
    for key in ('seed', 'world_size'):
        if isinstance(journal.get(key), int):
            facts[{'world_size': 'processes'}.get(key, key)] = str(journal[key])
    versions = _mapping(journal.get('versions'))
    if versions:
        facts['versions'] = ', '.join(f'{name} {value}' for name, value in versions.items())
    computing = _mapping(journal.get('computing'))
    if computing.get('device'):
        facts['device'] = str(computing['device'])
    for name, value in _mapping(journal.get('fingerprints')).items():
        facts[f'fingerprint: {name}'] = str(value)[:_SHORT]
    records = journal.get('steps')
    for record in records if isinstance(records, list) else []:
        digest = record.get('checkpoint_sha256') if isinstance(record, Mapping) else None
        if digest:
            facts[f'SHA-256 of step {record.get("step")}'] = str(digest)[:_SHORT]
    return facts


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _config(walk: WalkRecord) -> str:
    """Return the text of a walk's config; empty where there is none. It is not executed."""
    try:
        return (walk.work_dir / CONFIG_COPY).read_text(encoding='utf-8')
    except (OSError, ValueError):
        return ''
