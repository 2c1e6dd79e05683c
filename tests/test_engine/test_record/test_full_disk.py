"""A disk that fills up while a state is saved: the former state stays whole."""

import errno
import io

import pytest
import torch
from mmengine.fileio import get_file_backend

from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.hooks.step_checkpoint_hook import RESUME_NAME
from mmseg_cil.testing.tiny import tiny_config
from mmseg_cil.testing.walks import assert_same_weights


def fill_disk(monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr('os.fsync', full)


def test_the_backend_keeps_the_former_file(tmp_path, monkeypatch):
    backend = get_file_backend(backend_args=dict(backend='mmseg_cil_atomic'))
    backend.put(io.BytesIO(b'former'), tmp_path / RESUME_NAME)
    fill_disk(monkeypatch)
    with pytest.raises(OSError, match='No space left'):
        backend.put(b'latter', tmp_path / RESUME_NAME)
    assert (tmp_path / RESUME_NAME).read_bytes() == b'former'
    assert {path.name for path in tmp_path.iterdir()} == {RESUME_NAME, f'{RESUME_NAME}.sha256'}


def test_a_walk_goes_on_after_the_disk_was_full(data_root, tmp_path, monkeypatch):
    cfg = tiny_config(data_root)
    unbroken, broken = tmp_path / 'unbroken', tmp_path / 'broken'
    WalkRunner(cfg, unbroken, steps='0').run()
    scheduler = WalkRunner(cfg, broken, steps='0').open()
    saves = []
    real = torch.save

    def save(content, *args, **options):
        saves.append(content)
        if len(saves) == 2:
            fill_disk(monkeypatch)
        return real(content, *args, **options)

    monkeypatch.setattr('torch.save', save)
    with pytest.raises(OSError, match='No space left'):
        scheduler.run()
    monkeypatch.undo()
    state = torch.load(broken / 'step_00' / RESUME_NAME, weights_only=False)
    assert state['meta']['iter'] == 2
    WalkRunner(cfg, broken, resume=True, steps='0').run()
    assert_same_weights(unbroken, broken, 0)
