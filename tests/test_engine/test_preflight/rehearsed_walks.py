"""Configs of rehearsed walks, and one as a process of two walks it."""

from pathlib import Path

import pytest

from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.errors import InputError
from mmseg_cil.testing.tiny import tiny_config, tiny_model


def changed(data_root, changes, method='mib', **more):
    """The tiny config, rehearsed, with whole values put in place of others."""
    cfg = tiny_config(data_root, method, rehearsal=True, **more)
    for key, value in changes.items():
        *path, last = key.split('.')
        node = cfg
        for part in path:
            node = node[part]
        node[last] = value
    return cfg


def short(cfg):
    """The config with two iterations a step."""
    cfg.step_overrides = {0: dict(max_iters=2), 'later': dict(lr=0.02, max_iters=2)}
    return cfg


def walk_in_two(data_root, work_dir, kind):
    """Walks as one of two processes; the rehearsal is refused, on both, where it should be."""
    changes = {'model.test_cfg': dict(mode='slide')} if kind == 'refused' else {}
    if kind == 'unused':
        network = tiny_model()
        network['decode_head'].update(in_index=2, in_channels=16)
        changes = {'model': network}
    cfg = short(changed(Path(data_root), changes))
    cfg.rehearsal = kind != 'without'
    if kind == 'refused':
        with pytest.raises(InputError, match='predicting a test batch'):
            WalkRunner(cfg, work_dir, launcher='pytorch').prepare()
    else:
        WalkRunner(cfg, work_dir, launcher='pytorch').run()
