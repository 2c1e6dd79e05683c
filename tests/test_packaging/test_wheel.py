"""The package as it is installed, without a checkout: configs in it, found by name."""

import os
import subprocess
import sys

import pytest

from mmseg_cil.engine.config import files
from mmseg_cil.engine.config.load import load_config
from mmseg_cil.testing.tiny import ROOT
from mmseg_cil.utils.shipped import CONFIGS


@pytest.fixture(scope='module')
def library(tmp_path_factory):
    """The folder of what a wheel would hold."""
    base = tmp_path_factory.mktemp('build')
    command = ['egg_info', '--egg-base', str(base), 'build', '--build-base', str(base / 'build')]
    subprocess.run([sys.executable, 'setup.py', '-q', *command], cwd=ROOT, check=True)
    return base / 'build' / 'lib'


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob('*')
        if path.is_file() and path.suffix != '.pyc'
    }


@pytest.mark.walk
def test_every_config_is_in_the_wheel(library):
    assert contents(library / 'mmseg_cil/.mim/configs') == contents(ROOT / 'configs')
    assert (library / 'mmseg_cil/py.typed').is_file()


@pytest.mark.walk
def test_it_composes_and_lists_outside_the_checkout(library, tmp_path):
    (tmp_path / 'mine.py').write_text(
        "_base_ = ['mmseg_cil::_base_/default_runtime.py', 'mmseg_cil::_base_/methods/mib.py']\n"
    )
    script = (
        'import mmseg_cil\n'
        'from mmseg_cil.engine.config.compose import compose\n'
        'from mmseg_cil.engine.config.load import load_config\n'
        'from mmseg_cil.published_figures import read_figures\n'
        "assert compose(dict(method='plop', protocol='voc_15-1')).method.name == 'plop'\n"
        "assert load_config('mmseg_cil::_base_/methods/mib.py').method.name == 'mib'\n"
        "assert load_config('mine.py').method.name == 'mib' and read_figures()\n"
        'print(mmseg_cil.__file__)\n'
    )
    environment = {**os.environ, 'PYTHONPATH': str(library)}
    done = subprocess.run(
        [sys.executable, '-c', script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(library / 'mmseg_cil/__init__.py')


def test_configs_of_the_checkout_are_its_own():
    assert CONFIGS == ROOT / 'configs'
    assert files.find_config('mmseg_cil::_base_/methods/mib') == CONFIGS / '_base_/methods/mib.py'


def test_a_base_may_be_named_by_the_package(tmp_path):
    (tmp_path / 'mine.py').write_text(
        "_base_ = ['mmseg_cil::_base_/methods/mib.py']\nmethod = dict(name='mine')\n"
    )
    method = load_config(tmp_path / 'mine.py').method
    assert method.name == 'mine' and method.classifier_init == 'balanced'
    # MMEngine would look for a function of the package's that there is not.
    assert 'mmseg_cil' not in files.config_utils.MODULE2PACKAGE
