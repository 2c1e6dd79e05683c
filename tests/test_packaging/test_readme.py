"""What the pages name must exist, and what exists must be named."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    'README.md',
    *(str(page.relative_to(ROOT)) for page in sorted(ROOT.glob('docs/*.md'))),
    *(str(page.relative_to(ROOT)) for page in sorted(ROOT.glob('configs/*/README.md'))),
]


def test_the_readme_has_every_method():
    text = (ROOT / 'README.md').read_text(encoding='utf-8')
    files = [file.name for file in ROOT.glob('configs/_base_/methods/*.py')]
    assert files and not [name for name in files if f'`{name}`' not in text]


@pytest.mark.parametrize('page', PAGES)
def test_what_the_pages_name_exists(page):
    text = (ROOT / page).read_text(encoding='utf-8')
    named = re.findall(
        r'\b((?:configs|benchmarks|docs|tools|tests|mmseg_cil|resources)/[\w./-]*\.(?:py|sh|md|png))',
        text,
    )
    assert named and not [path for path in named if not (ROOT / path).is_file()]
    methods = re.findall(r'--method (\w+)', text)
    missing = [m for m in methods if not (ROOT / f'configs/_base_/methods/{m}.py').is_file()]
    # NAME stands for any; the scripts of the papers write theirs in capitals (MiB, FT).
    assert not [m for m in missing if m.islower()]
