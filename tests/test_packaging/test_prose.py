"""The prose of comments, docstrings and pages keeps the rules of CONTRIBUTING.md."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ('mmseg_cil', 'configs', 'tools', 'tests', 'benchmarks', 'docs', 'examples')
#: A sentence, heading, cell or description of an argument that begins with one of these words.
BEGINNING = re.compile(r'(?:^ *|[.:;?!] |"""|# |\| |\* |\*\*)(?:Of|What|That of) ', re.MULTILINE)


def files():
    """Return the files with prose in English."""
    for folder in FOLDERS:
        for kind in ('*.py', '*.md'):
            yield from (ROOT / folder).rglob(kind)
    yield from ROOT.glob('*.md')


def test_no_sentence_begins_with_of_or_what():
    found = {
        str(path.relative_to(ROOT)): match.group()
        for path in files()
        if (match := BEGINNING.search(path.read_text(encoding='utf-8')))
    }
    assert not found


@pytest.mark.parametrize('word', ['Of', 'What', 'That of'])
@pytest.mark.parametrize('before', ['"""', 'A map. ', '    x: ', '# ', '| '])
def test_such_a_sentence_is_found(before, word):
    assert BEGINNING.search(f'{before}{word} the rest')
    assert not BEGINNING.search(f'the loss of {word}ever networks, and that of others')
