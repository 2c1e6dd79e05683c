"""Slips of the command line are told in a line, with status 2, and leave nothing."""

import importlib.util
import os
import shutil
import sys

import pytest

from mmseg_cil.engine import commands
from mmseg_cil.engine.asked_steps import parse_steps
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.errors import InputError
from mmseg_cil.testing.tiny import ROOT, make_data, tiny_config
from mmseg_cil.utils.cli import run_tool


def tool(name):
    spec = importlib.util.spec_from_file_location(f'tool_{name}', ROOT / f'tools/{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def told(monkeypatch, capsys):
    """Calls a tool; what it says in its one line, with status 2."""

    def call(name, *arguments):
        monkeypatch.setattr(sys, 'argv', [f'tools/{name}.py', *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            run_tool(tool(name).main)
        output = capsys.readouterr()
        assert ended.value.code == 2, output
        assert output.err.startswith('error: ') and output.err.count('\n') == 1, output.err
        return output.err

    return call


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """Files and folders that are not what they are given for."""
    folder = tmp_path_factory.mktemp('place')
    data = make_data(folder / 'data')
    (folder / 'config.py').write_text(tiny_config(data).pretty_text)
    for name, text in {
        'file': 'x',
        'config.txt': 'a = 1',
        'bad.py': 'this is no python',
        'list.json': '[1]',
        'cut.json': '{"a": ',
        'cut.yaml': 'a: [1\n',
        'lost.py': "_base_ = ['nowhere.py']",
        'self.py': "_base_ = 'self.py'",
        'one.py': "_base_ = ['sub/../two.py']",
        'two.py': "_base_ = ['./one.py']",
        'exits.py': 'import sys\nsys.exit(0)\n',
    }.items():
        (folder / name).write_text(text)
    (folder / 'latin.py').write_bytes('name = "é"\n'.encode('latin-1'))
    for name in ('empty', 'sub', 'run', 'odd/journal.json'):
        (folder / name).mkdir(parents=True)
    (folder / 'run/last_checkpoint').write_text('iter_10.pth')
    return folder


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        ('nowhere.py', 'there is no config file'),
        ('empty', 'is a folder'),
        ('config.txt', 'end with'),
        ('bad.py', 'SyntaxError'),
        ('list.json', 'cannot be read'),
        ('cut.json', 'cannot be read'),
        ('cut.yaml', 'cannot be read'),
        ('latin.py', 'UTF-8'),
        ('exits.py', 'SystemExit'),
        ('lost.py', 'lost.py names the base'),
        ('self.py', 'in a circle'),
        ('one.py', 'in a circle'),
    ],
)
def test_configs_that_are_none(told, place, config, message):
    text = told('train', place / config)
    assert message in text and config in text
    if config.startswith('cut'):
        return
    assert message in told('protocols', '--config', place / config)


@pytest.mark.parametrize(
    'options',
    [
        ['--steps', '0-'],
        ['--steps', '2-0'],
        ['--steps', ''],
        ['--steps', '²'],
        ['--steps'],
        ['--steps', '0-99999999999'],
        ['--start-from', ''],
        ['--work-dir', ''],
        ['--stepz', '0'],
        ['--cfg-options', 'a'],
        ['--cfg-options', '=1'],
        ['--cfg-options', 'model=3'],
        ['--cfg-options', 'custom_hooks.0.type=X'],
        ['--cfg-options', 'log_level=nan'],
        ['--launcher', 'pytorch'],
        ['--launcher', 'x'],
        ['more'],
        ['--resume', '--overwrite'],
    ],
)
def test_options_that_are_none(told, place, tmp_path, monkeypatch, options):
    monkeypatch.delenv('RANK', raising=False)
    work_dir = ['--work-dir', tmp_path / 'walk'] if '--work-dir' not in options else []
    told('train', place / 'config.py', *work_dir, *options)
    assert not (tmp_path / 'walk').exists()


def test_nothing_at_all(told):
    assert '--method is missing' in told('train')
    for name in ('test', 'report', 'protocols'):
        told(name)


@pytest.mark.parametrize('name', ['file', 'file/deeper', '/proc/walk', '/dev/null', 'x' * 300])
def test_places_that_cannot_be_written(told, place, name):
    text = told('train', place / 'config.py', '--work-dir', place / name)
    assert 'cannot be written' in text and name[:20] in text


@pytest.mark.parametrize(
    ('variables', 'message'),
    [
        ({'RANK': '0'}, 'WORLD_SIZE'),
        ({'RANK': 'x', 'WORLD_SIZE': '1'}, "'x'"),
        ({'RANK': '0', 'WORLD_SIZE': '2', 'MASTER_ADDR': 'localhost', 'MASTER_PORT': 'x'}, "'x'"),
    ],
)
def test_variables_of_a_launcher_that_are_none(
    told, place, tmp_path, monkeypatch, variables, message
):
    for name in ('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT'):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    text = told(
        'train', place / 'config.py', '--work-dir', tmp_path / 'walk', '--launcher', 'pytorch'
    )
    assert '--launcher pytorch' in text and message in text


@pytest.mark.parametrize(
    ('name', 'message'),
    [('nowhere', 'no walk'), ('file', 'no walk'), ('empty', 'no walk'), ('odd', 'is damaged')],
)
def test_work_directories_that_are_none(told, place, tmp_path, name, message):
    for step in ((), ('--step', '-1'), ('--step', '99')):
        assert message in told('test', place / name, *step)
    told('report', place / name)
    new = ('--work-dir', tmp_path / 'walk', '--start-from', place / name)
    assert message in told('train', place / 'config.py', *new)
    assert not (tmp_path / 'walk').exists()


def test_the_folder_of_another_run_is_not_resumed(told, place):
    text = told('train', place / 'config.py', '--work-dir', place / 'run', '--resume')
    assert 'a run of MMSegmentation' in text
    assert os.listdir(place / 'run') == ['last_checkpoint']


@pytest.fixture(scope='module')
def walk(place, tmp_path_factory):
    """A walk of one step."""
    work_dir = tmp_path_factory.mktemp('walk')
    cfg = tiny_config(place / 'data', rehearsal=False)
    WalkRunner(cfg, work_dir, steps='0').run()
    (work_dir / commands.CONFIG_COPY).write_text(cfg.pretty_text)
    return work_dir


def test_slips_about_a_walk_that_is_there(told, walk, place, tmp_path):
    assert 'done: [0]' in told('test', walk, '--step', '-1')
    assert 'done: [0]' in told('test', walk, '--step', '99')
    other = shutil.copytree(walk, tmp_path / 'other')
    for out in ('/proc/report', place / 'file', place / 'file/x'):
        assert 'cannot be used' in told('report', walk, '--out', out)
    assert 'nowhere' in told('report', walk, place / 'nowhere')
    assert 'given twice' in told('report', walk, walk)
    assert 'no.such.key' in told('report', walk, other, '--vary', 'no.such.key')
    assert 'already holds a walk' in told('train', place / 'config.py', '--work-dir', walk)
    text = told('train', place / 'config.py', '--work-dir', walk, '--resume', '--start-from', walk)
    assert 'work directory of this walk itself' in text


def files(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob('*')
        if path.is_file()
    }


def test_overwriting_removes_the_walk_and_nothing_else(walk, place, tmp_path, monkeypatch):
    work_dir = shutil.copytree(walk, tmp_path / 'walk')
    (work_dir / 'report').mkdir(exist_ok=True)
    (work_dir / 'notes.txt').write_text('mine')
    (work_dir / 'step_by_step').mkdir()
    (work_dir / 'elsewhere').mkdir()
    (work_dir / 'elsewhere/kept').write_text('mine')
    (work_dir / 'step_07').symlink_to(work_dir / 'elsewhere')
    before = files(work_dir)
    # A wrong setting is found before anything is removed.
    cfg = tiny_config(place / 'data', rehearsal=False)
    with pytest.raises(InputError, match='vok'):
        wrong = tiny_config(place / 'data')
        wrong.protocol = dict(name='vok_15-1')
        WalkRunner(wrong, work_dir, overwrite=True).prepare()
    assert files(work_dir) == before
    scheduler = WalkRunner(cfg, work_dir, overwrite=True).open()
    assert scheduler.journal.content['steps'] == []
    left = {path.name for path in work_dir.iterdir()}
    assert left == {
        'notes.txt',
        'step_by_step',
        'elsewhere',
        'journal.json',
        *(name for name in left if name == 'class_index'),
    }
    assert (work_dir / 'elsewhere/kept').read_text() == 'mine'
    # Where nothing is, it begins as usual.
    WalkRunner(cfg, tmp_path / 'new', overwrite=True).open()


@pytest.mark.parametrize(
    ('content', 'options', 'message'),
    [
        ({'notes.txt': 'mine'}, {}, r'holds notes\.txt and no walk'),
        ({'journal.json': '{}'}, {}, 'no walk'),
        ({'journal.json': '[1'}, {}, 'no walk'),
        ({'step_00/checkpoint.pth': ''}, {}, 'no walk'),
        ({}, {'resume': True}, 'give one of them'),
        ({}, {'start_from': '{0}'}, 'which --start-from names'),
        ({}, {'start_from': '{0}/../walk:1'}, 'which --start-from names'),
    ],
)
def test_overwriting_is_refused(place, tmp_path, content, options, message):
    work_dir = tmp_path / 'walk'
    work_dir.mkdir()
    for name, text in content.items():
        (work_dir / name).parent.mkdir(exist_ok=True)
        (work_dir / name).write_text(text)
    before = files(work_dir)
    options = {
        key: value.format(work_dir) if isinstance(value, str) else value
        for key, value in options.items()
    }
    with pytest.raises(InputError, match=message):
        WalkRunner(tiny_config(place / 'data'), work_dir, overwrite=True, **options).prepare()
    assert files(work_dir) == before


def test_a_damaged_journal_is_overwritten_where_the_config_tells_the_walk(walk, place, tmp_path):
    work_dir = shutil.copytree(walk, tmp_path / 'walk')
    (work_dir / 'journal.json').write_text('{"form')
    cfg = tiny_config(place / 'data', rehearsal=False)
    with pytest.raises(InputError, match='is damaged'):
        WalkRunner(cfg, work_dir, resume=True).prepare()
    WalkRunner(cfg, work_dir, overwrite=True).open()
    assert not (work_dir / 'step_00').exists()


@pytest.mark.parametrize(
    ('text', 'steps'),
    [(None, [0, 1, 2]), ('1', [1]), ('0-2', [0, 1, 2]), (' 2 , 0-1', [0, 1, 2]), ('1-1,1', [1])],
)
def test_steps_are_read(text, steps):
    assert parse_steps(text, 3) == steps


@pytest.mark.parametrize('text', ['', '0-', '-1', '2-0', 'a', '0,', '0--1', '0.5', '3', '0-3', '٣'])
def test_steps_that_are_none(text):
    with pytest.raises(InputError, match='--steps'):
        parse_steps(text, 3)
