"""Who may write into a work directory."""

import errno
import json
import os
import subprocess
import sys
from argparse import Namespace
from dataclasses import asdict, replace

import pytest

from mmseg_cil.engine import commands
from mmseg_cil.engine.record import lock
from mmseg_cil.engine.record.journal import Journal
from mmseg_cil.engine.record.lock import NAME, Holder, work_dir_lock
from mmseg_cil.errors import InputError

HEADER = dict(protocol={}, method=dict(name='m'), fingerprints={})


@pytest.fixture
def other():
    """A process that lives until the test ends it."""
    process = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.wait()


def lock_of(folder, process, **changes):
    """A lock as the process would have made it."""
    started = lock._process_state(process.pid)[1]
    holder = replace(
        Holder.this_process(),
        pid=process.pid,
        started=started,
        since='2024-02-03 04:05:06 +0000',
        **changes,
    )
    (folder / NAME).write_text(json.dumps(asdict(holder)))
    return holder


def refused(folder, message, take_over=False):
    before = sorted(path.name for path in folder.iterdir())
    with pytest.raises(InputError, match=message) as caught, work_dir_lock(folder, take_over):
        raise AssertionError
    assert '\n' not in str(caught.value)
    assert sorted(path.name for path in folder.iterdir()) == before


def held(folder, **options):
    with work_dir_lock(folder, **options):
        holder = Holder(**json.loads((folder / NAME).read_text()))
        assert holder.pid == os.getpid() and holder.is_dead() is False
        assert [path.name for path in folder.glob('*.lock*')] == [NAME]
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize('take_over', [False, True])
def test_a_living_process_keeps_its_folder(tmp_path, other, take_over):
    lock_of(tmp_path, other)
    refused(
        tmp_path,
        rf'{tmp_path} is in use .*host .*, pid {other.pid}, since 2024-02-03 '
        r'04:05:06 \+0000\), which is running',
        take_over,
    )


@pytest.mark.parametrize('waited_for', [False, True])
def test_the_lock_of_a_dead_process_is_told_and_taken(tmp_path, other, capsys, waited_for):
    lock_of(tmp_path, other)
    other.kill()
    if waited_for:
        other.wait()
    else:
        # Its number stays until then.
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    held(tmp_path)
    assert (
        f'note: {tmp_path / NAME} was left by a process that has died (host'
        in capsys.readouterr().out
    )


def test_a_number_that_was_given_again_is_another_process(tmp_path, other):
    holder = lock_of(tmp_path, other)
    (tmp_path / NAME).write_text(json.dumps(asdict(replace(holder, started=1))))
    held(tmp_path)


@pytest.mark.parametrize(
    'changes',
    [dict(host='elsewhere'), dict(space='pid:[1]'), dict(boot='before', machine='another')],
)
def test_a_process_that_cannot_be_seen_gives_way_on_request(tmp_path, other, capsys, changes):
    lock_of(tmp_path, other, **changes)
    refused(tmp_path, 'cannot be seen from here.*--break-lock')
    held(tmp_path, take_over=True)
    assert 'presumably died' in capsys.readouterr().out


def test_nothing_outlives_the_machine(tmp_path, other, monkeypatch):
    monkeypatch.setattr(lock, '_INITIAL_SPACE', lock._pid_space())
    text = lock._text
    monkeypatch.setattr(
        lock, '_text', lambda path: 'm' if path == '/etc/machine-id' else text(path)
    )
    lock_of(tmp_path, other, boot='before')
    held(tmp_path)


@pytest.mark.parametrize('content', ['', '{"pid": 1', '[]', '{"pid": "x"}'])
def test_a_damaged_lock_gives_way_on_request(tmp_path, content):
    (tmp_path / NAME).write_text(content)
    refused(tmp_path, rf'{NAME} is damaged.*--break-lock')
    held(tmp_path, take_over=True)


def test_of_two_that_take_over_one_does(tmp_path, other):
    lock_of(tmp_path, other, host='elsewhere')
    guard = tmp_path / f'{NAME}.takeover'
    guard.touch()
    refused(tmp_path, 'another process is taking', take_over=True)
    os.utime(guard, (1, 1))
    held(tmp_path, take_over=True)


def test_a_lock_that_was_taken_meanwhile_stays(tmp_path, other, monkeypatch):
    left = lock_of(tmp_path, other, host='elsewhere')
    winner = lock_of(tmp_path, other, token='winner')
    looks = iter([left, winner])
    monkeypatch.setattr(lock, '_read', lambda path: next(looks))
    with pytest.raises(InputError, match='just taken'):
        lock._acquire(tmp_path / NAME, take_over=True, otherwise='')
    assert json.loads((tmp_path / NAME).read_text())['token'] == 'winner'


def test_a_file_system_without_links_has_locks_too(tmp_path, other, monkeypatch):
    def no_link(*paths):
        raise OSError(errno.EPERM, 'no links')

    monkeypatch.setattr(os, 'link', no_link)
    held(tmp_path)
    lock_of(tmp_path, other)
    refused(tmp_path, 'which is running')


def test_a_link_whose_answer_was_lost_is_ours(tmp_path, monkeypatch):
    link = os.link

    def lost(*paths):
        link(*paths)
        raise FileExistsError

    monkeypatch.setattr(os, 'link', lost)
    held(tmp_path)


@pytest.mark.parametrize('error', [InputError, KeyboardInterrupt, SystemExit])
def test_the_lock_goes_with_an_error_and_so_does_an_empty_folder(tmp_path, error):
    with pytest.raises(error), work_dir_lock(tmp_path / 'deep/walk'):
        assert (tmp_path / 'deep/walk' / NAME).is_file()
        raise error
    assert not (tmp_path / 'deep/walk').exists()
    with work_dir_lock(tmp_path / 'walk'):
        (tmp_path / 'walk/kept').touch()
    assert [path.name for path in (tmp_path / 'walk').iterdir()] == ['kept']


def test_only_the_main_process_locks(tmp_path, monkeypatch):
    monkeypatch.setattr('mmseg_cil.utils.main_process.get_rank', lambda: 1)
    with work_dir_lock(tmp_path):
        assert list(tmp_path.iterdir()) == []


def test_a_walk_whose_folder_was_taken_writes_no_journal(tmp_path, other):
    with work_dir_lock(tmp_path):
        journal = Journal.create(tmp_path, HEADER)
        lock_of(tmp_path, other, host='elsewhere')
        with pytest.raises(InputError, match=r'taken over by another process \(host elsewhere'):
            journal.update_step(0, status='done')
    assert Journal.load(tmp_path).content['steps'] == []
    # It is not ours to remove.
    assert (tmp_path / NAME).is_file()


def test_a_file_is_no_work_directory(tmp_path):
    (tmp_path / 'file').touch()
    for path in (tmp_path / 'file', tmp_path / 'file/walk'):
        with pytest.raises(InputError, match='cannot be written'), work_dir_lock(path):
            raise AssertionError


def test_the_tools_lock_but_for_a_dry_run(tmp_path, other, monkeypatch):
    options = dict(launcher='none', dry_run=False, work_dir=str(tmp_path), break_lock=False)
    with pytest.raises(InputError, match='holds no walk'):
        commands.test(Namespace(**dict(options, work_dir=str(tmp_path / 'new'))))
    assert not (tmp_path / 'new').exists()
    Journal.create(tmp_path, HEADER)
    lock_of(tmp_path, other)
    monkeypatch.setattr(commands, '_test', lambda args, work_dir: None)
    with pytest.raises(InputError, match=r'in use .*add --dry-run'):
        commands.test(Namespace(**options))
    commands.test(Namespace(**dict(options, dry_run=True)))
    (tmp_path / 'config.py').write_text('')
    monkeypatch.setattr(commands, 'WalkRunner', None)
    with pytest.raises(InputError, match='in use'):
        commands.train(
            Namespace(
                **options,
                config=str(tmp_path / 'config.py'),
                method=None,
                protocol=None,
                dataset=None,
                model=None,
                schedule=None,
                cfg_options={},
                amp=False,
                print_config=False,
                resume=False,
                accept_changes=False,
                start_from=None,
                steps=None,
                no_report=True,
            )
        )
