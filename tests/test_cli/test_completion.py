"""Completion scripts offer what the parsers know."""

import shutil
import subprocess

import pytest

from mmseg_cil.cli.commands import COMMANDS
from mmseg_cil.cli.completion import bash_script, fish_script, options_of, zsh_script


def test_options_are_those_of_the_parser():
    options = {text: option for option in options_of('train') for text in option.names}
    assert {'--resume', '--overwrite', '--steps', '--cfg-options'} <= options.keys()
    assert 'mib' in options['--method'].values and 'voc_15-1' in options['--protocol'].values
    assert '--local_rank' not in options and not options['--resume'].takes_value
    assert 'voc_15-1' in options_of('protocols')[1].values


def bash_says(*words):
    """Return the completions that bash offers for the last of the words."""
    quoted = ' '.join(f"'{word}'" for word in ('mmseg-cil', *words))
    script = (
        f'{bash_script()}\nCOMP_WORDS=({quoted}); COMP_CWORD={len(words)}; _mmseg_cil\n'
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(['bash', '-c', script], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_bash_completes_commands_options_and_values():
    assert bash_says('tr') == ['train']
    assert set(COMMANDS) <= set(bash_says(''))
    assert bash_says('train', '--over') == ['--overwrite']
    assert bash_says('train', '--method', 'mi') == [
        'mib', 'mib_awt', 'mib_ewf', 'mib_ewf_paper', 'mib_nest', 'mib_nest_paper', 'mib_ucd',
        'mib_ucd_paper',
    ]  # fmt: skip
    assert bash_says('protocols', 'voc_15-') == ['voc_15-5', 'voc_15-1']
    # Where it knows nothing, the shell offers files.
    assert bash_says('test', 'work_dirs/x') == []


@pytest.mark.parametrize(('shell', 'script'), [('zsh', zsh_script), ('fish', fish_script)])
def test_other_shells_name_the_same(shell, script):
    text = script()
    assert all(name in text for name in COMMANDS) and 'mib_ewf' in text and 'overwrite' in text
    if shutil.which(shell):
        subprocess.run([shell, '-n', '-c', text], check=True)
