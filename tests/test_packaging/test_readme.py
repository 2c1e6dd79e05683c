"""Files, options and messages that the pages name exist; the README names every method."""

import ast
import re
import shlex
from pathlib import Path

import pytest

from mmseg_cil.cli.commands import COMMANDS

ROOT = Path(__file__).parents[2]
TUTORIALS = [str(page.relative_to(ROOT)) for page in sorted(ROOT.glob('docs/tutorials/*.md'))]
PAGES = [
    'README.md',
    *(str(page.relative_to(ROOT)) for page in sorted(ROOT.glob('docs/*.md'))),
    *(str(page.relative_to(ROOT)) for page in sorted(ROOT.glob('configs/*/README.md'))),
]


def test_the_readme_is_short_and_links_every_method():
    text = (ROOT / 'README.md').read_text(encoding='utf-8')
    assert len(text) < 7000
    pages = [str(page.relative_to(ROOT)) for page in ROOT.glob('configs/*/README.md')]
    # The variants with a page of their own are linked from that of their method.
    linked = set(re.findall(r'\]\(([^)#]+)\)', text))
    assert set(pages) - linked <= {'configs/dfgr_dtid/README.md', 'configs/lwf_mc/README.md'}


@pytest.mark.parametrize('page', [*PAGES, 'ARCHITECTURE.md', 'CONTRIBUTING.md', *TUTORIALS])
def test_links_lead_to_files(page):
    text = (ROOT / page).read_text(encoding='utf-8')
    for target in re.findall(r'\]\(([^)\s]+)\)', re.sub(r'```.*?```', '', text, flags=re.S)):
        if not re.match(r'[a-z]+:|#', target):
            path = (ROOT / page).parent / target.partition('#')[0]
            # Pages that the site makes have no file.
            assert path.exists() or '/api/' in target or target.startswith('api/'), target


def commands(page):
    """The commands of this package on a page, word by word."""
    text = (ROOT / page).read_text(encoding='utf-8')
    for block in re.findall(r'^```bash\n(.*?)^```$', text, re.M | re.S):
        for line in block.replace('\\\n', ' ').splitlines():
            words = shlex.split(line, comments=True)
            if words and '=' in words[0]:
                words = words[1:]
            if words[:1] == ['mmseg-cil'] and words[1:2] != ['--help']:
                yield words[: words.index('>')] if '>' in words else words


@pytest.mark.parametrize('page', ['README.md', *PAGES[1:], *TUTORIALS])
def test_commands_of_a_page_have_options_that_exist(page):
    found = list(commands(page))
    assert found or page not in ('README.md', 'docs/get_started.md', 'docs/settings.md')
    for words in found:
        if words[1] == 'completion':
            continue
        # A word of a page that stands for something else.
        words = ['0' if word in ('STEP',) else word for word in words if word != '...']
        COMMANDS[words[1]].make_parser().parse_args(words[2:])


@pytest.mark.walk
def test_commands_of_the_readme_run(tmp_path, monkeypatch, capsys):
    """Walks are composed and not walked; the rest of their road has tests of its own."""
    monkeypatch.chdir(tmp_path)
    ran = []
    for words in commands('README.md'):
        if words[1] == 'train' and '--resume' not in words:
            COMMANDS['train'].call([*words[2:], '--print-config'])
            assert "name='voc_15-1'" in capsys.readouterr().out
            ran.append('train')
        elif words[1] in ('methods', 'protocols'):
            COMMANDS[words[1]].call(words[2:])
    assert ran


@pytest.mark.parametrize('page', PAGES)
def test_what_the_pages_name_exists(page):
    text = (ROOT / page).read_text(encoding='utf-8')
    named = re.findall(
        r'\b((?:configs|benchmarks|docs|tools|tests|mmseg_cil|resources)/[\w./-]*\.(?:py|sh|md|png))',
        text,
    )
    assert not [path for path in named if not (ROOT / path).is_file()]
    methods = re.findall(r'--method (\w+)', text)
    missing = [m for m in methods if not (ROOT / f'configs/_base_/methods/{m}.py').is_file()]
    # NAME stands for any; the scripts of the papers write theirs in capitals (MiB, FT).
    assert not [m for m in missing if m.islower()]


def texts():
    """Every text of the package's code, with a sign where a value goes."""
    for path in (ROOT / 'mmseg_cil').rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                yield ''.join(
                    str(part.value) if isinstance(part, ast.Constant) else '\0'
                    for part in node.values
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_messages_of_the_troubleshooting_page_are_those_of_the_code():
    page = (ROOT / 'docs/troubleshooting.md').read_text()
    quoted = re.findall(r'^\*\*`([^`]+)`\*\*', page, re.M)
    every = list(texts())
    assert len(quoted) > 8
    for message in quoted:
        parts = [part.strip(' :,') for part in re.split(r'\.\.\.|NAME|\[\d+\]', message)]
        for part in filter(None, parts):
            assert any(part in text for text in every), part
