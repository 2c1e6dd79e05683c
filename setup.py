"""Metadata and version ranges of ``mmseg_cil``; the exact tested set is in ``requirements.lock``.

The ``onedl-*`` packages are the maintained forks of MMEngine, MMCV and
MMSegmentation and install under the same import names (``mmengine``, ``mmcv``,
``mmseg``). Whoever has a working set of the originals installs this package with
``pip install --no-deps -e .`` and keeps it.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent


def read_version() -> str:
    """Return ``__version__`` of the package without importing it."""
    text = (HERE / 'mmseg_cil' / '__init__.py').read_text(encoding='utf-8')
    match = re.search(r"^__version__ = '([^']+)'$", text, re.MULTILINE)
    if match is None:
        raise RuntimeError("mmseg_cil/__init__.py has no line __version__ = '...'")
    return match.group(1)


def read_description() -> str:
    """Return the README, or nothing where a checkout does not have one."""
    readme = HERE / 'README.md'
    return readme.read_text(encoding='utf-8') if readme.is_file() else ''


def configs() -> list[str]:
    """Return the patterns of the config files, which a link in the package makes part of it."""
    if not (HERE / 'mmseg_cil' / '.mim' / 'configs').is_dir():
        raise RuntimeError(
            'mmseg_cil/.mim/configs must be a link to ../../configs: check out with '
            'git -c core.symlinks=true, or copy the folder there'
        )
    patterns = [f'.mim/configs/**/*.{suffix}' for suffix in ('py', 'csv', 'md')]
    return ['.mim/model-index.yml', *patterns]


setup(
    name='mmseg_cil',
    version=read_version(),
    description='Class- and domain-incremental semantic segmentation on MMSegmentation',
    long_description=read_description(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    packages=find_packages(include=['mmseg_cil', 'mmseg_cil.*']),
    # Its type hints count for whoever imports it; the configs lie where MMEngine looks for them.
    package_data={'mmseg_cil': ['py.typed', *configs()]},
    entry_points={'console_scripts': ['mmseg-cil = mmseg_cil.cli.main:main']},
    python_requires='>=3.10,<3.14',
    install_requires=[
        # Before 2.6 weights_only=True can be made to run code; 2.7 takes a list of types by name.
        'torch>=2.7',
        'numpy>=1.24',
        'onedl-mmengine>=0.10.12,<0.11',
        'onedl-mmcv>=2.3,<2.4',
        'onedl-mmsegmentation>=1.4,<1.5',
        'torch-geometric>=2.5',
        'matplotlib',
        'pillow',
    ],
    extras_require={'dev': ['pytest', 'pytest-xdist', 'ruff', 'mypy', 'scikit-learn', 'submitit']},
    classifiers=[
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Programming Language :: Python :: 3.13',
        'Topic :: Scientific/Engineering :: Image Recognition',
    ],
)
