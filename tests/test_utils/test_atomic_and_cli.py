import errno
import os

import pytest

from mmseg_cil.errors import InputError
from mmseg_cil.utils import cli
from mmseg_cil.utils.atomic import atomic_write, remove_leftovers, write_csv, write_json
from mmseg_cil.utils.cli import ToolParser, run_tool


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


def test_json_holds_no_nan(tmp_path):
    with pytest.raises(ValueError, match='JSON'):
        write_json(tmp_path / 'a.json', float('nan'))
    assert not list(tmp_path.iterdir())


def test_what_a_kill_left_unfinished_is_removed_and_nothing_else(tmp_path):
    child = os.fork()
    if not child:
        atomic_write(tmp_path / 'step_00/resume.pth', lambda file: os.kill(os.getpid(), 9))
    assert os.waitpid(child, 0)[1] == 9
    assert [one.suffix for one in (tmp_path / 'step_00').iterdir()] == ['.tmp']
    kept = [tmp_path / name for name in ('step_00/resume.pth', 'my.tmp', 'my.partial', '.hidden')]
    for path in kept:
        path.write_text('kept')
    (tmp_path / '.step_01.partial/deep').mkdir(parents=True)
    remove_leftovers(tmp_path)
    assert sorted(one for one in tmp_path.rglob('*') if one.is_file()) == sorted(kept)
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


@pytest.mark.parametrize(('main', 'status', 'message'), [
    (lambda: None, 0, ''), (lambda: 3, 3, ''),
    (raising(InputError('wrong colour')), 2, 'error: wrong colour'),
    (raising(OSError(errno.ENOSPC, 'full', 'x.pth')), 1, 'no space left for x.pth'),
    (raising(KeyboardInterrupt()), 130, 'interrupted'),
])
def test_a_tool_ends_with_its_status(main, status, message, capsys):
    with pytest.raises(SystemExit) as ended:
        run_tool(main)
    assert ended.value.code == status and message in capsys.readouterr().err


def test_other_errors_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        run_tool(raising(ZeroDivisionError()))


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
    with pytest.raises(InputError, match=r"invalid int value: 'x'\nusage: tool"):
        parser.parse_args(['--step', 'x'])
