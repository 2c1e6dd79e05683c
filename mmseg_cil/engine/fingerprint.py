"""What a walk must not change between a stop and its resumption."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmseg_cil.engine.step_config import first_value, method_of, run_seed
from mmseg_cil.protocols import Protocol


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with open(path, 'rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest() if hasattr(
            hashlib, 'file_digest') else hashlib.sha256(file.read()).hexdigest()


def fingerprint(value: Any) -> str:
    """SHA-256 of a value's canonical JSON, in hex."""
    text = json.dumps(_plain(value), sort_keys=True, separators=(',', ':'))
    return hashlib.sha256(text.encode('utf-8')).hexdigest()


def walk_fingerprints(cfg: Config, protocol: Protocol) -> dict[str, str]:
    """Fingerprints of everything in a config that changes the result of a walk.

    Paths, loggers and numbers of workers are not among them, so that a walk
    can be resumed elsewhere.
    """
    schedule = {key: cfg.get(key) for key in ('optim_wrapper', 'param_scheduler', 'train_cfg',
                                              'step_overrides', 'global_batch_size')}
    if not cfg.get('global_batch_size'):
        schedule['batch_size'] = (cfg.get('train_dataloader') or {}).get('batch_size')
    train = (cfg.get('train_dataloader') or {}).get('dataset') or {}
    return {
        'protocol': protocol.fingerprint(),
        'method': fingerprint(method_of(cfg, protocol.name)),
        'model': fingerprint(cfg.model),
        'schedule': fingerprint(schedule),
        'train pipeline': fingerprint(first_value(train, 'pipeline')),
        'seed': fingerprint(run_seed(cfg)),
    }


def changed(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Names of the fingerprints that differ."""
    return [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    return repr(value)
