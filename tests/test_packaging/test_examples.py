"""The examples run, with few iterations."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / 'examples'


def run(words, folder):
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get('PATH', '')])
    environment = {**os.environ, 'ITERATIONS': '2', 'OMP_NUM_THREADS': '1', 'PATH': path}
    environment |= {'PYTHONPATH': str(ROOT), 'FOLDER': str(folder / 'out')}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout


def cells(name):
    """The code of a notebook as one script; what ends a cell is printed."""
    notebook = json.loads((EXAMPLES / name).read_text())
    return '\n'.join(c['source'] for c in notebook['cells'] if c['cell_type'] == 'code')


def test_every_example_is_on_the_page():
    page = (EXAMPLES / 'README.md').read_text()
    names = {path.name for path in EXAMPLES.iterdir()} - {'README.md', '__pycache__'}
    assert names and all(f'`{name}`' in page for name in names)


@pytest.mark.walk
@pytest.mark.slow
def test_the_walk_from_python(tmp_path):
    said = run([sys.executable, str(EXAMPLES / 'walk_from_python.py'), 'out'], tmp_path)
    assert 'step_02/checkpoint.pth' in said and 'mIoU (%)' in said


@pytest.mark.walk
@pytest.mark.slow
@pytest.mark.parametrize('name', ['own_loss.py', 'compare.sh', 'extend.ipynb'])
def test_an_example_runs(name, tmp_path):
    if name.endswith('.ipynb'):
        (tmp_path / 'notebook.py').write_text(cells(name))
        run([sys.executable, 'notebook.py'], tmp_path)
        assert (tmp_path / 'out/extended/step_02/checkpoint.pth').is_file()
        return
    words = ['bash'] if name.endswith('.sh') else [sys.executable]
    run([*words, str(EXAMPLES / name), 'out'], tmp_path)
    assert list((tmp_path / 'out').glob('**/index.html'))
