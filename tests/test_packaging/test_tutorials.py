"""The tutorials and the README do what they say: their blocks are run in order.

Walks are cut to two iterations a step; all else is as on the page.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmseg_cil.datasets.embedded import EmbeddedShapesDataset
from mmseg_cil.datasets.embedded_signs import provide_signs

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r'^```(bash|python)(?: title="([^"]+)")?\n(.*?)^```$', re.M | re.S)
SHORT = ['step_overrides.0.max_iters=2', 'step_overrides.later.max_iters=2']


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    """The data that ``mmseg-cil demo --data-only`` draws."""
    folder = tmp_path_factory.mktemp('tutorial')
    EmbeddedShapesDataset(str(folder / 'shapes')).full_init()
    provide_signs(folder / 'signs')
    return folder


def shortened(command):
    """A command whose walk has two iterations a step."""
    words = shlex.split(command, comments=True)
    if words[:2] == ['mmseg-cil', 'extend']:
        return [*words, '--iterations', '2']
    if words[:2] != ['mmseg-cil', 'train'] or words[2].endswith('.py'):
        return words
    if '--cfg-options' not in words:
        words.append('--cfg-options')
    place = words.index('--cfg-options') + 1
    return [*words[:place], *SHORT, *words[place:]]


def run(command, folder):
    """Run a line of a page in a folder."""
    words = shortened(command)
    target = None
    if '>' in words:
        place = words.index('>')
        target = folder / words[place + 1]
        words = words[:place] + words[place + 2 :]
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    path = environment.get('PYTHONPATH', '')
    while '=' in words[0]:
        name, _, value = words.pop(0).partition('=')
        environment[name] = value
    mine = str(folder) if environment.get('PYTHONPATH') == '.' else path
    environment['PYTHONPATH'] = os.pathsep.join(filter(None, [mine, str(ROOT)]))
    if words[0] == 'mmseg-cil':
        words = [sys.executable, '-m', 'mmseg_cil', *words[1:]]
    words[0] = sys.executable if words[0] == 'python' else words[0]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f'{command}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}'
    if target is not None:
        target.write_text(done.stdout)


def follow(page, folder):
    """Do what a page says, block by block."""
    count = 0
    for kind, title, text in BLOCK.findall((ROOT / page).read_text()):
        if title:
            path = folder / title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(re.sub(r'max_iters=\d+', 'max_iters=2', text))
        elif kind == 'python':
            (folder / 'block.py').write_text(text)
            run('python block.py', folder)
        else:
            for line in text.replace('\\\n', ' ').splitlines():
                run(line, folder)
                count += 1
    return count


@pytest.mark.walk
@pytest.mark.slow
@pytest.mark.parametrize('name', ['extend', 'own_protocol', 'without_background'])
def test_a_tutorial_works(name, drawn, tmp_path):
    shutil.copytree(drawn, tmp_path / 'tutorial')
    assert follow(f'docs/tutorials/{name}.md', tmp_path) > 2


@pytest.mark.walk
@pytest.mark.slow
def test_the_method_of_the_tutorial_works(tmp_path):
    assert follow('docs/tutorials/own_method.md', tmp_path) == 4


@pytest.mark.walk
def test_the_config_of_the_data_page_is_complete(tmp_path):
    page = (ROOT / 'docs/prepare_data.md').read_text()
    text = next(text for _, title, text in BLOCK.findall(page) if title == 'my_config.py')
    (tmp_path / 'my_config.py').write_text(text)
    for split in ('train', 'val'):
        for kind, ending in (('images', 'jpg'), ('masks', 'png')):
            folder = tmp_path / 'data/mine' / kind / split
            folder.mkdir(parents=True)
            for number in range(3):
                pixels = np.full((32, 32, 3) if ending == 'jpg' else (32, 32), number, np.uint8)
                Image.fromarray(pixels).save(folder / f'{number}.{ending}')
    run('mmseg-cil protocols --config my_config.py', tmp_path)
    run('mmseg-cil train my_config.py --method plop --print-config', tmp_path)
