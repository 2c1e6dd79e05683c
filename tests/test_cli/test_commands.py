"""The command mmseg-cil: what it lists, what it refuses, and that help costs nothing."""

import subprocess
import sys

import pytest

import mmseg_cil
from mmseg_cil.cli.commands import COMMANDS
from mmseg_cil.cli.main import main
from mmseg_cil.engine.config.compose import BASES
from mmseg_cil.testing.tiny import ROOT


@pytest.fixture
def told(capsys):
    """Calls the command in this process; its exit status, output and errors."""

    def call(*words):
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        output = capsys.readouterr()
        return ended.value.code, output.out, output.err

    return call


def test_help_names_every_command(told):
    status, out, _ = told('--help')
    assert status == 0 and all(f'\n  {name} ' in out for name in COMMANDS)
    assert told('--version') == (0, f'mmseg-cil {mmseg_cil.__version__}\n', '')


@pytest.mark.parametrize('name', COMMANDS)
def test_every_command_has_help_under_its_name(told, name):
    status, out, _ = told(name, '--help')
    assert status == 0 and out.startswith(f'usage: mmseg-cil {name} ')


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['tran'], 'did you mean train?'),
        (['xyz'], 'there are train, extend, test'),
        (['--versio'], ''),
        (['train', '--stepz', '0'], 'mmseg-cil train --help'),
        (['train', '--work-dir', ''], '--work-dir is empty'),
        (['train'], '--method is missing'),
        (['protocols', 'vok_15-1'], 'vok_15-1'),
        (['protocols', 'voc_15-1', '--config', 'x.py'], 'either the name'),
        (['test', '/nowhere'], 'no walk'),
        (['completion', 'tcsh'], 'tcsh'),
    ],
)
def test_what_is_wrong_is_told_in_a_line(told, words, message):
    status, _, errors = told(*words)
    if words == ['--versio']:  # argparse takes a beginning for the whole
        assert status == 0
        return
    assert status == 2 and errors.startswith('error: ') and errors.count('\n') == 1
    assert message in errors


def test_nothing_at_all_shows_the_help(told):
    status, out, errors = told()
    assert status == 2 and out == '' and 'new-method' in errors


def test_methods_are_listed_with_the_first_line_of_their_piece(told):
    _, out, _ = told('methods')
    names = [line.split()[0] for line in out.splitlines()]
    assert names == sorted(path.stem for path in (BASES / 'methods').glob('*.py'))
    assert all(len(line.split()) > 3 for line in out.splitlines())
    assert told('methods', '--path')[1].strip() == str(BASES / 'methods')


def test_protocols_are_listed_and_printed(told):
    _, out, _ = told('protocols')
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert lines['voc_15-1'] == '6 steps by class: 16, 5 x 1 new classes'
    assert lines['cityscapes_domain_11-5'] == '3 steps by domain: 11, 2 x 5 new domains'
    assert '21 outputs' not in out and lines['voc_joint'].startswith('1 step by')
    assert told('protocols', 'voc_15-1')[1].startswith('voc_15-1: 6 steps')


@pytest.mark.walk
def test_help_and_lists_need_neither_torch_nor_mmengine():
    script = (
        'import sys\n'
        'from mmseg_cil.cli.main import main\n'
        'try:\n    main(sys.argv[1:])\n'
        'except SystemExit as ended:\n'
        '    assert not {"torch", "mmengine", "mmseg"} & set(sys.modules)\n'
        '    sys.exit(ended.code)\n'
    )
    for words in (['--help'], ['methods'], ['protocols']):
        subprocess.run([sys.executable, '-c', script, *words], check=True, cwd=ROOT)
