"""The lock file, setup.py and the set-up script agree with each other."""

import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import mmseg_cil

ROOT = Path(__file__).resolve().parents[2]
PYTHONS = ('3.10', '3.11', '3.12', '3.13')


def canonical(name: str) -> str:
    return re.sub('[-_.]+', '-', name).lower()


def locked(python: str) -> dict[str, str]:
    """Version by package that the lock file gives one Python version."""
    versions: dict[str, str] = {}
    for line in (ROOT / 'requirements.lock').read_text().splitlines():
        if not line.strip() or line.startswith('#'):
            continue
        requirement = Requirement(line)
        environment = {'python_version': python, 'python_full_version': f'{python}.5'}
        if requirement.marker and not requirement.marker.evaluate(environment):
            continue
        name = canonical(requirement.name)
        assert name not in versions, f'{name} is locked twice for Python {python}'
        (pin,) = requirement.specifier
        assert pin.operator == '==', line
        versions[name] = pin.version
    return versions


@pytest.fixture(scope='module')
def metadata(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Return the declarations of setup.py: run it as the build does (egg_info, no install)."""
    base = tmp_path_factory.mktemp('egg')
    subprocess.run(
        [sys.executable, 'setup.py', '-q', 'egg_info', '--egg-base', str(base)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    fields: dict[str, list[str]] = {}
    text = (base / 'mmseg_cil.egg-info' / 'PKG-INFO').read_text()
    for line in text.split('\n\n')[0].splitlines():
        key, _, value = line.partition(': ')
        fields.setdefault(key, []).append(value)
    return fields


def test_setup_gives_the_package_s_name_and_version(metadata: dict[str, list[str]]) -> None:
    assert metadata['Name'] == ['mmseg_cil']
    assert metadata['Version'] == [mmseg_cil.__version__]
    assert SpecifierSet(metadata['Requires-Python'][0]) == SpecifierSet('>=3.10,<3.14')


@pytest.mark.parametrize('python', PYTHONS)
def test_lock_lies_within_the_ranges_of_setup(python: str, metadata: dict[str, list[str]]) -> None:
    versions = locked(python)
    requirements = [Requirement(line) for line in metadata['Requires-Dist']]
    assert {'torch', 'onedl-mmcv', 'pytest'} <= {canonical(r.name) for r in requirements}
    for requirement in requirements:
        assert requirement.specifier.contains(versions[canonical(requirement.name)]), requirement


@pytest.mark.parametrize('name', ['torch', 'onedl-mmengine', 'onedl-mmcv', 'onedl-mmsegmentation'])
def test_lock_is_what_runs_here(name: str) -> None:
    try:
        found = version(name)
    except PackageNotFoundError:  # a set of the originals, installed with --no-deps
        pytest.skip(f'{name} is not installed here')
    assert found.split('+')[0] == locked('.'.join(map(str, sys.version_info[:2])))[name]


def test_type_hints_are_shipped() -> None:
    assert (ROOT / 'mmseg_cil/py.typed').is_file()
    assert "package_data={'mmseg_cil': ['py.typed'" in (ROOT / 'setup.py').read_text()


def write_python(path: Path, version: str) -> None:
    """A stand-in interpreter that is found but is of another version, or does not run at all."""
    fails = f'exec {sys.executable} -c "import sys; sys.exit(1)"'
    body = 'exit 127' if version == 'broken' else fails
    path.write_text(f'#!/bin/sh\n{body}\n')
    path.chmod(0o755)


def run_setup(checkout: Path, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ['/bin/bash', 'tools/make_venv.sh'],
        cwd=checkout,
        text=True,
        capture_output=True,
        env={**os.environ, **environment},
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A bare checkout on a path with a space: the script and a lock file without packages."""
    root = tmp_path / 'a checkout'
    (root / 'tools').mkdir(parents=True)
    (root / 'tools' / 'make_venv.sh').write_bytes((ROOT / 'tools' / 'make_venv.sh').read_bytes())
    (root / 'requirements.lock').write_text('# nothing\n')
    return root


def test_set_up_names_what_is_missing_without_a_fitting_python(
    checkout: Path, tmp_path: Path
) -> None:
    bin_dir = tmp_path / 'bin'
    bin_dir.mkdir()
    for name in ('python3', 'python3.13', 'python3.12', 'python3.11', 'python3.10', 'python'):
        write_python(bin_dir / name, 'broken' if name == 'python3.12' else '3.14')
    (bin_dir / 'dirname').symlink_to('/usr/bin/dirname')
    done = run_setup(checkout, PATH=str(bin_dir), PYTHON='')
    assert done.returncode == 2
    assert 'no Python 3.10 to 3.13 found' in done.stderr
    assert not (checkout / '.venv').exists()


def test_set_up_refuses_a_named_python_out_of_range(checkout: Path, tmp_path: Path) -> None:
    write_python(tmp_path / 'python9', '3.13')
    done = run_setup(checkout, PYTHON=str(tmp_path / 'python9'))
    assert done.returncode == 2
    assert 'python9' in done.stderr and '3.10' in done.stderr


def test_set_up_reuses_a_finished_install_and_remakes_a_cut_off_one(checkout: Path) -> None:
    """Stand-in for pip and cv2, so that nothing is downloaded: only the bookkeeping is tested."""
    fake = checkout / 'fake python'
    calls = checkout / 'calls'
    fake.write_text(f"""#!/bin/bash
if [[ $1 == -m && $2 == venv ]]; then
    echo venv >>'{calls}'; rm -rf .venv; mkdir -p .venv/bin
    cp "$0" .venv/bin/python; cp "$0" .venv/bin/pip
elif [[ $1 == -m ]]; then
    echo "pip $*" >>'{calls}'; [[ ! -e fail ]]
elif [[ $2 == 'import cv2' ]]; then
    [[ ! -e nocv2 ]] || {{ echo 'ImportError: libGL.so.1' >&2; exit 1; }}
else
    exec '{sys.executable}' "$@"
fi
""")
    fake.chmod(0o755)

    def called() -> list[str]:
        lines = calls.read_text().splitlines() if calls.exists() else []
        calls.unlink(missing_ok=True)
        return [line.split()[0] for line in lines]

    given = {'PYTHON': str(fake)}
    (checkout / 'fail').touch()
    assert run_setup(checkout, **given).returncode != 0
    assert called() == ['venv', 'pip']
    (checkout / 'fail').unlink()
    assert run_setup(checkout, **given).returncode == 0
    assert called() == ['venv', 'pip', 'pip'], 'a cut-off install is made anew'
    assert run_setup(checkout, **given).returncode == 0
    assert called() == [], 'an unchanged lock file installs nothing'
    (checkout / 'requirements.lock').write_text('# something else\n')
    assert run_setup(checkout, **given).returncode == 0
    assert called() == ['venv', 'pip', 'pip']
    (checkout / 'nocv2').touch()
    done = run_setup(checkout, **given)
    assert done.returncode == 1
    assert 'libGL.so.1' in done.stderr and 'apt-get install -y libgl1 libglib2.0-0' in done.stderr
