import json

import pytest

from mmseg_cil.engine.record.journal import Journal
from mmseg_cil.errors import InputError

HEADER = {'protocol': {'name': 'p'}, 'method': {'name': 'm'}, 'fingerprints': {'protocol': 'x'}}


def test_what_is_recorded_is_read_back(tmp_path):
    journal = Journal.create(tmp_path, HEADER)
    journal.update_step(1, status='trained', iterations=5)
    journal.update_step(0, status='done', iterations=7)
    journal.update_step(1, status='done')
    again = Journal.load(tmp_path)
    assert again is not None
    assert [step['step'] for step in again.content['steps']] == [0, 1]
    assert again.step(1) == {'step': 1, 'status': 'done', 'iterations': 5}
    assert again.is_done(0) and not again.is_done(2)


def test_a_missing_journal_is_none(tmp_path):
    assert Journal.load(tmp_path) is None


def test_a_reader_writes_nothing(tmp_path):
    journal = Journal.create(tmp_path, HEADER, writable=False)
    journal.update_step(0, status='done')
    assert journal.is_done(0) and not (tmp_path / 'journal.json').exists()


@pytest.mark.parametrize(
    'text',
    [
        '',
        '{"format": 1, "steps": [',
        '[]',
        '{"format": 99}',
        json.dumps({'format': 1, **HEADER}),
        json.dumps({'format': 1, **HEADER, 'steps': [{'step': 0, 'status': 'half'}]}),
    ],
)
def test_a_damaged_journal_is_refused_by_name(tmp_path, text):
    (tmp_path / 'journal.json').write_text(text)
    with pytest.raises(InputError, match=r'journal\.json is damaged.*--work-dir'):
        Journal.load(tmp_path)


def test_a_full_disk_leaves_the_former_journal(tmp_path, monkeypatch):
    journal = Journal.create(tmp_path, HEADER)
    journal.update_step(0, status='done')
    before = (tmp_path / 'journal.json').read_bytes()

    def full(handle):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('os.fsync', full)
    with pytest.raises(OSError, match='No space left'):
        journal.update_step(1, status='done')
    assert (tmp_path / 'journal.json').read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ['journal.json']
