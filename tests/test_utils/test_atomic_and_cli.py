import errno
import os
import signal
import subprocess
import sys

import pytest

from mmseg_cil.errors import InputError
from mmseg_cil.utils import cli
from mmseg_cil.utils.atomic import (
    atomic_write,
    remove_leftovers,
    write_csv,
    write_if_changed,
    write_json,
)
from mmseg_cil.utils.cli import ADVISED, ToolParser, add_config_options, run_tool
from mmseg_cil.utils.stopping import Stopped


def test_a_failed_write_leaves_the_former_file_and_nothing_else(tmp_path):
    path = tmp_path / 'a.json'
    write_json(path, {'x': 1})
    before = path.read_bytes()

    def half(file):
        file.write(b'{"x"')
        raise OSError(errno.ENOSPC, 'No space left on device')

    with pytest.raises(OSError, match='No space') as caught:
        atomic_write(path, half)
    assert caught.value.filename == str(path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ['a.json']


def test_a_file_that_holds_the_bytes_is_not_written_again(tmp_path):
    path = tmp_path / 'folder/file'
    write_if_changed(path, b'first')
    before = path.stat().st_ino
    write_if_changed(path, b'first')
    assert path.stat().st_ino == before
    write_if_changed(path, b'second')
    assert path.read_bytes() == b'second' and path.stat().st_ino != before


def test_json_holds_no_nan(tmp_path):
    with pytest.raises(ValueError, match='JSON'):
        write_json(tmp_path / 'a.json', float('nan'))
    assert not list(tmp_path.iterdir())


def test_what_a_kill_left_unfinished_is_removed_and_nothing_else(tmp_path):
    child = os.fork()
    if not child:
        atomic_write(tmp_path / 'step_00/resume.pth', lambda file: os.kill(os.getpid(), 9))
    assert os.waitpid(child, 0)[1] == 9
    assert [leftover.suffix for leftover in (tmp_path / 'step_00').iterdir()] == ['.tmp']
    kept = [tmp_path / name for name in ('step_00/resume.pth', 'my.tmp', 'my.partial', '.hidden')]
    for path in kept:
        path.write_text('kept')
    (tmp_path / '.step_01.partial/deep').mkdir(parents=True)
    remove_leftovers(tmp_path)
    assert sorted(file for file in tmp_path.rglob('*') if file.is_file()) == sorted(kept)
    assert not (tmp_path / '.step_01.partial').exists()


def test_csv_rows_and_permissions(tmp_path):
    write_csv(tmp_path / 'deep/a.csv', [['step', 'a,b'], [0, 0.5]])
    assert (tmp_path / 'deep/a.csv').read_text() == 'step,"a,b"\n0,0.5\n'
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / 'deep/a.csv').stat().st_mode & 0o777 == 0o666 & ~mask


def raising(error):
    def main():
        raise error

    return main


@pytest.mark.parametrize(
    ('main', 'status', 'message'),
    [
        (lambda: None, 0, ''),
        (lambda: 3, 3, ''),
        (raising(InputError('wrong colour')), 2, 'error: wrong colour'),
        (raising(OSError(errno.ENOSPC, 'full', 'x.pth')), 1, 'no space left for x.pth'),
        (raising(KeyboardInterrupt()), 130, 'interrupted'),
        (raising(Stopped(15, 'all is saved')), 143, 'ended by SIGTERM, all is saved'),
        (
            raising(PermissionError(errno.EACCES, 'Permission denied', 'w/x')),
            2,
            'w/x cannot be used: Permission denied',
        ),
        (raising(NotADirectoryError(errno.ENOTDIR, 'Not a directory', 'f/x')), 2, 'f/x cannot be'),
        (raising(OSError(errno.EROFS, 'Read-only file system', 'ro/x')), 2, 'ro/x cannot be used'),
    ],
)
def test_a_tool_ends_with_its_status(main, status, message, capsys):
    with pytest.raises(SystemExit) as ended:
        run_tool(main)
    assert ended.value.code == status and message in capsys.readouterr().err


@pytest.mark.parametrize(
    'error',
    [ZeroDivisionError(), OSError('of a library'), OSError(errno.EIO, 'Input/output error', 'x')],
)
def test_other_errors_keep_their_traceback(error):
    with pytest.raises(type(error)):
        run_tool(raising(error))


@pytest.mark.parametrize(
    ('advised', 'said'),
    [(False, 'ended by SIGTERM: go on with --resume\n'), (True, 'ended by SIGTERM\n')],
)
def test_what_goes_on_is_told_once_after_a_signal(advised, said, capsys, monkeypatch):
    if advised:  # by the program that has started this one
        monkeypatch.setenv(ADVISED, '1')

    def main():
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit) as ended:
        run_tool(main, goes_on='go on with --resume')
    assert ended.value.code == 143
    assert capsys.readouterr().err == said


def test_a_reader_that_has_seen_enough_is_no_error():
    code = 'from mmseg_cil.utils.cli import run_tool\nrun_tool(lambda: print("x\\n" * 100000))'
    done = subprocess.run(
        f"{sys.executable} -c '{code}' | head -1", shell=True, capture_output=True, text=True
    )
    assert done.stdout == 'x\n' and done.stderr == ''


@pytest.mark.parametrize('name', ['RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK'])
def test_the_main_process_has_the_word(name, monkeypatch, capsys):
    waited = []
    monkeypatch.setattr(cli.time, 'sleep', waited.append)
    for other in ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK'):
        monkeypatch.delenv(other, raising=False)
    for rank in ('0', '3'):
        monkeypatch.setenv(name, rank)
        with pytest.raises(SystemExit) as ended:
            run_tool(raising(InputError('wrong colour')))
        # A process whose trouble is its own is heard too, after the main one might have ended.
        assert ended.value.code == 2 and 'wrong colour' in capsys.readouterr().err
    assert len(waited) == 1 and waited[0] >= 5


def test_wrong_usage_is_wrong_input():
    parser = ToolParser(prog='tool')
    parser.add_argument('--step', type=int)
    parser.add_argument('--work-dir')
    parser.add_argument('folders', nargs='*')
    for given, told in (
        (['--step', 'x'], "invalid int value: 'x' .tool --help"),
        (['--stepp=3'], 'unrecognized arguments.*did you mean --step'),
        (['--work-dir='], '--work-dir is empty'),
        (['a', ''], 'folders is empty'),
    ):
        with pytest.raises(InputError, match=told) as caught:
            parser.parse_args(given)
        assert '\n' not in str(caught.value)
    assert parser.parse_args(['a', '--work-dir', 'b']).work_dir == 'b'


@pytest.mark.parametrize(
    'given',
    [
        ['a'],
        ['=1'],
        ['a.b'],
        ['.=1'],
        ['a..b=1'],
        ['.a=1'],
        ['a=1', 'b'],
        ['a=[1,'],
        ['a=(1,[2)'],
        [' =3'],
        ['a=dict(b=1'],
        ['a=dict(b=true)'],
        ['a=[dict(b=open(1))]'],
        ['a={1'],
        [],
    ],
)
def test_settings_that_are_none(given):
    parser = ToolParser(prog='tool')
    add_config_options(parser)
    with pytest.raises(InputError, match=r'--cfg-options') as caught:
        parser.parse_args(['--cfg-options', *given])
    assert '\n' not in str(caught.value)


def test_settings_are_read_as_mmengine_reads_them():
    parser = ToolParser(prog='tool')
    add_config_options(parser)
    given = ['a.b=[1,2.5,x]', 'c="[(1,2),()]"', 'd=', 'e=a=b', 'f=None', 'g=true', 'h.0.i=1e-3']
    assert parser.parse_args(['--cfg-options', *given]).cfg_options == {
        'a.b': [1, 2.5, 'x'],
        'c': [(1, 2), ()],
        'd': '',
        'e': 'a=b',
        'f': None,
        'g': True,
        'h.0.i': 0.001,
    }
    assert parser.parse_args([]).cfg_options == {}


def test_settings_may_be_dictionaries():
    parser = ToolParser(prog='tool')
    add_config_options(parser)
    given = [
        "a.b=dict(type='A', weight=[1, 2.5], deep=dict(c=None))",
        'c=x=dict(',
        "d=[dict(type='B'), {'e': -1}]",
        'e=1',
        'a.b.type=C',
    ]
    options = parser.parse_args(['--cfg-options', *given]).cfg_options
    assert options == {
        'a.b': dict(type='A', weight=[1, 2.5], deep=dict(c=None)),
        'c': 'x=dict(',
        'd': [dict(type='B'), {'e': -1}],
        'e': 1,
        'a.b.type': 'C',
    }
    # As with MMEngine, the later of two settings of the same key counts.
    assert list(options) == ['a.b', 'c', 'd', 'e', 'a.b.type']
