"""A file and the hash beside it."""

import hashlib

import pytest
import torch

from mmseg_cil.utils import hashed_file
from mmseg_cil.utils.hashed_file import damage, remove_hashed, write_hashed


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'state.pth'


def test_a_file_has_its_hash_and_damage_shows(path):
    for content in (b'first', b'second'):
        write_hashed(path, content)
        assert path.read_bytes() == content and damage(path) is None
        beside = path.with_name('state.pth.sha256').read_text()
        assert beside == hashlib.sha256(content).hexdigest() + '\n'
    path.write_bytes(b'sec0nd')
    assert 'its SHA-256 is' in damage(path)
    remove_hashed(path)
    assert list(path.parent.iterdir()) == []
    remove_hashed(path)


@pytest.mark.parametrize('killed_in', ['the hash', 'the file', 'the hash again'])
def test_a_kill_at_any_moment_leaves_a_file_that_is_whole(path, monkeypatch, killed_in):
    write_hashed(path, b'first')
    write_text, atomic_write = hashed_file.write_text, hashed_file.atomic_write
    texts = []

    def killed_text(*args):
        texts.append(args)
        if len(texts) == {'the hash': 1, 'the hash again': 2}.get(killed_in):
            raise KeyboardInterrupt
        write_text(*args)

    def killed_write(*args):
        if killed_in == 'the file':
            raise KeyboardInterrupt
        atomic_write(*args)

    monkeypatch.setattr(hashed_file, 'write_text', killed_text)
    monkeypatch.setattr(hashed_file, 'atomic_write', killed_write)
    with pytest.raises(KeyboardInterrupt):
        write_hashed(path, b'second')
    assert damage(path) is None
    assert path.read_bytes() == (b'second' if killed_in == 'the hash again' else b'first')
    monkeypatch.undo()
    write_hashed(path, b'third')
    assert path.read_bytes() == b'third' and damage(path) is None
    path.write_bytes(b'first')
    assert damage(path)


def test_a_file_of_an_earlier_version_is_held_against_its_check_sums(path):
    torch.save({'weight': torch.arange(1000.0)}, path)
    assert damage(path) is None
    content = bytearray(path.read_bytes())
    place = content.index(torch.tensor([500.0]).numpy().tobytes())
    content[place] ^= 1
    path.write_bytes(content)
    # PyTorch does not look at them.
    assert not torch.equal(torch.load(path)['weight'], torch.arange(1000.0))
    assert 'check sum of its part' in damage(path)
    path.write_bytes(b'')
    assert 'not a zip file' in damage(path)
